"""Hearing what changed: one connection of its own that listens, and a heartbeat that proves that it still hears.

That the connection lives does not prove that notices come: a pooler that lends another server connection to each
transaction swallows them without an error. So a word is said to ourselves over another connection, and who does not
hear it is deaf.
"""

import asyncio
import logging
import secrets
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
SELF_CALL = 5.0  # seconds between two words to ourselves

_DEAF = (
    "notices do not arrive here, so the database is asked about every call: a pooler in transaction mode is between; "
    "set AGENTAUTH_DATABASE_DIRECT_URL to an address that leads to PostgreSQL itself"
)

OnNotice = Callable[[UUID, str, str], None]


class Deaf(Exception):
    """The connection is well, and what others say does not arrive over it."""


class Hearing:
    """`on_notice(tenant, what, subject)` for each notice; `on_gap()` whenever some may have been missed."""

    def __init__(self, on_notice: OnNotice, on_gap: Callable[[], Awaitable[None]]) -> None:
        self._on_notice, self._on_gap = on_notice, on_gap
        self._trusted_until = 0.0
        self._silent_since = time.monotonic()
        self._name = f"{CHANNEL}_{secrets.token_hex(8)}"  # nobody else is woken by our own word
        self._own_word = ""
        self._hears_itself_until = 0.0

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
            except Deaf:
                log.error(_DEAF)
            except (psycopg.Error, OSError, TimeoutError) as problem:
                log.warning("not hearing the database: %s", str(problem).strip().splitlines()[:1])
            self._trusted_until = 0.0
            await asyncio.sleep(RETRY)

    async def _listen(self) -> None:
        async with asyncio.timeout(5):
            connection = await connect(direct=True)
        try:
            await connection.execute(f"LISTEN {CHANNEL}")
            await connection.execute(f"LISTEN {self._name}")
            await self._call_ourselves(connection)
            await self._on_gap()  # from here on nothing is missed; what was held before may be old
            while True:
                if time.monotonic() > self._hears_itself_until:
                    await self._call_ourselves(connection)
                await self._beat(connection)
                async for notice in connection.notifies(timeout=HEARTBEAT):
                    self._heard(notice)
        finally:
            with suppress(Exception):
                await asyncio.wait_for(connection.close(), 1)

    async def _call_ourselves(self, connection: Connection) -> None:
        """Raises Deaf unless what another connection says arrives here."""
        self._own_word = secrets.token_hex(8)
        await _say(self._name, self._own_word)
        until = time.monotonic() + TRUST
        while self._own_word:
            async for notice in connection.notifies(timeout=max(0, until - time.monotonic()), stop_after=1):
                self._heard(notice)
            if self._own_word and time.monotonic() > until:
                raise Deaf
        self._hears_itself_until = time.monotonic() + SELF_CALL

    async def _beat(self, connection: Connection) -> None:
        """A round trip: whatever was committed before it began has arrived when it ends."""
        began = time.monotonic()
        async with asyncio.timeout(TRUST):
            await connection.execute("SELECT 1")
        async for notice in connection.notifies(timeout=0):
            self._heard(notice)
        self._silent_since = began
        self._trusted_until = began + TRUST

    def _heard(self, notice: psycopg.Notify) -> None:
        if notice.channel == self._name:
            self._own_word = "" if notice.payload == self._own_word else self._own_word
            return
        try:
            said = orjson.loads(notice.payload)
            tenant, what, subject = UUID(said["tenant"]), str(said["what"]), str(said.get("subject", ""))
        except (ValueError, KeyError, TypeError):
            log.warning("a notice that is not ours on channel %s", CHANNEL)
            return
        self._on_notice(tenant, what, subject)


async def _say(channel: str, word: str) -> None:
    async with asyncio.timeout(TRUST):
        voice = await connect()
        try:
            await voice.execute("SET synchronous_commit = off")  # it is a word, not a deed
            await voice.execute("SELECT pg_notify(%s, %s)", [channel, word])
        finally:
            voice.pgconn.finish()
