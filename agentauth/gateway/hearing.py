"""Hearing what changed: one connection of its own that listens, and a heartbeat that proves that it still hears."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from uuid import UUID

import orjson
import psycopg

from agentauth.gateway.database import Connection, connect
from tenants.notice import CHANNEL

log = logging.getLogger(__name__)

HEARTBEAT = 0.25
TRUST = 1.0  # seconds after a proof of hearing during which what we hold counts as current
RETRY = 0.25

OnNotice = Callable[[UUID, str, str], None]


class Hearing:
    """`on_notice(tenant, what, subject)` for each notice; `on_gap()` whenever some may have been missed."""

    def __init__(self, on_notice: OnNotice, on_gap: Callable[[], Awaitable[None]]) -> None:
        self._on_notice, self._on_gap = on_notice, on_gap
        self._trusted_until = 0.0
        self._silent_since = time.monotonic()

    @property
    def is_fresh(self) -> bool:
        """True while nothing can have been missed. Otherwise ask the database each time."""
        return time.monotonic() < self._trusted_until

    @property
    def silence(self) -> float:
        """Seconds since the database was last heard."""
        return time.monotonic() - self._silent_since

    async def run(self) -> None:
        while True:
            try:
                await self._listen()
            except (psycopg.Error, OSError, TimeoutError) as problem:
                log.warning("not hearing the database: %s", str(problem).strip().splitlines()[:1])
            self._trusted_until = 0.0
            await asyncio.sleep(RETRY)

    async def _listen(self) -> None:
        async with asyncio.timeout(5):
            connection = await connect()
        try:
            await connection.execute(f"LISTEN {CHANNEL}")
            await self._on_gap()  # from here on nothing is missed; what was held before may be old
            while True:
                await self._beat(connection)
                async for notice in connection.notifies(timeout=HEARTBEAT):
                    self._heard(notice.payload)
        finally:
            with suppress(Exception):
                await asyncio.wait_for(connection.close(), 1)

    async def _beat(self, connection: Connection) -> None:
        """A round trip: whatever was committed before it began has arrived when it ends."""
        began = time.monotonic()
        async with asyncio.timeout(TRUST):
            await connection.execute("SELECT 1")
        async for notice in connection.notifies(timeout=0):
            self._heard(notice.payload)
        self._silent_since = began
        self._trusted_until = began + TRUST

    def _heard(self, payload: str) -> None:
        try:
            said = orjson.loads(payload)
            tenant, what, subject = UUID(said["tenant"]), str(said["what"]), str(said.get("subject", ""))
        except (ValueError, KeyError, TypeError):
            log.warning("a notice that is not ours on channel %s", CHANNEL)
            return
        self._on_notice(tenant, what, subject)
