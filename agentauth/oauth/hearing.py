"""Hearing what changed, for the short lane: a connection that listens, and a beat that proves that it still hears.

The beat is a notice too, sent over another connection: notices arrive in the order of their commits, so whoever hears a
beat has heard all that was committed before it. Behind a pooler that lends connections out by the transaction nobody
listens, though every statement succeeds; then no beat comes back, and nothing is trusted.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import uuid4

import orjson
import psycopg

from agentauth.database.address import conninfo
from tenants.notice import CHANNEL

log = logging.getLogger(__name__)

HEARTBEAT = 0.25
TRUST = 1.0  # seconds after a proof of hearing during which what is remembered counts as current
PATIENCE = 5.0  # seconds without any proof after which we connect anew
IDLE = 10.0  # seconds after which nobody asks any more, so that nothing need be proven
RETRY = 0.25

_DEAF = (
    "no notice comes back, so nothing is remembered: a pooler in transaction mode is between; set "
    "AGENTAUTH_DATABASE_DIRECT_URL to an address that leads to PostgreSQL itself"
)

Connection = psycopg.AsyncConnection[tuple[Any, ...]]
OnNotice = Callable[[str, str, str], None]


async def connect(name: str, *, direct: bool = True) -> Connection:
    """A connection of one's own, as the application's role, in autocommit, never waiting long. What it was told it must
    still know at its next statement, so it goes past a pooler; `direct=False`, the way that everybody goes."""
    async with asyncio.timeout(3):
        connection: Connection = await psycopg.AsyncConnection.connect(
            conninfo(name, direct=direct), autocommit=True, prepare_threshold=None
        )
        await connection.execute("SET statement_timeout = 3000")
    return connection


class Hearing:
    """`on_notice(tenant, what, subject)` for each notice; `on_gap()` whenever some may have been missed."""

    def __init__(self, on_notice: OnNotice, on_gap: Callable[[], None]) -> None:
        self._on_notice, self._on_gap = on_notice, on_gap
        self._trusted_until = 0.0
        self._doubted_at = 0.0
        self._asked_at = 0.0
        self._heard_at = 0.0
        self._beats: dict[str, float] = {}  # on their way, and when each began
        self._own = f"agentauth_beat_{uuid4().hex}"
        self._wanted = asyncio.Event()
        self._proven = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to listen, on the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        self.doubt()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._trusted_until = 0.0

    @property
    def is_fresh(self) -> bool:
        """True while nothing can have been missed. Otherwise the database is asked. Asking keeps the beat going."""
        self._asked_at = time.monotonic()
        return self._asked_at < self._trusted_until

    async def becomes_fresh(self, patience: float) -> bool:
        """Whether it is, or is again within `patience` seconds: a doubt is mostly over after a round trip."""
        if self.is_fresh:
            return True
        self._proven.clear()
        self._wanted.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._proven.wait()
        return self.is_fresh

    def doubt(self) -> None:
        """Something may just have been committed by this process: trust nothing until a beat that begins after now."""
        self._doubted_at = time.monotonic()
        self._trusted_until = 0.0
        self._proven.clear()
        self._wanted.set()

    async def _run(self) -> None:
        silent = False
        while True:
            try:
                await self._listen()
            except (psycopg.Error, OSError, TimeoutError) as problem:
                if not silent:
                    log.warning("not hearing the database: %s", str(problem).strip().splitlines()[:1] or "silence")
                silent = self._trusted_until == 0.0
            self._trusted_until = 0.0
            self._proven.clear()
            await asyncio.sleep(RETRY)

    async def _listen(self) -> None:
        ear, voice = await connect("agentauth-lane-hearing"), None
        try:
            voice = await connect("agentauth-lane-beat", direct=False)
            await voice.execute("SET synchronous_commit = off")  # a beat need not outlive a power cut
            await ear.execute(f"LISTEN {CHANNEL}; LISTEN {self._own}")
            self._on_gap()  # from here on nothing is missed; what was remembered before may be old
            self._beats.clear()
            self._heard_at = time.monotonic()
            hears = asyncio.create_task(self._hear(ear))
            hears.add_done_callback(lambda _: self._wanted.set())
            try:
                await self._beat(voice, hears)
            finally:
                hears.cancel()
                with suppress(asyncio.CancelledError, psycopg.Error, OSError):
                    await hears
        finally:
            for connection in (ear, voice):
                if connection is not None:
                    connection.pgconn.finish()  # at once: a server that does not answer would keep us

    async def _beat(self, voice: Connection, hears: "asyncio.Task[None]") -> None:
        while not hears.done():
            self._wanted.clear()
            began = time.monotonic()
            name = str(began)
            self._beats[name] = began
            async with asyncio.timeout(TRUST):
                await voice.execute("SELECT pg_notify(%s, %s)", [self._own, name])
            if began - self._heard_at > PATIENCE:
                raise TimeoutError(_DEAF)
            idle = began - self._asked_at > IDLE
            with suppress(TimeoutError):
                async with asyncio.timeout(None if idle else HEARTBEAT):
                    await self._wanted.wait()
            if idle:
                self._heard_at = time.monotonic()
        await hears

    async def _hear(self, ear: Connection) -> None:
        async for notice in ear.notifies():
            if notice.channel == self._own:
                self._heard_beat(notice.payload)
            else:
                self._heard(notice.payload)
        raise psycopg.OperationalError("the connection has ended")

    def _heard_beat(self, name: str) -> None:
        began = self._beats.pop(name, None)
        if began is None:
            return
        self._heard_at = time.monotonic()
        if self._doubted_at < began:
            self._trusted_until = began + TRUST
            self._proven.set()

    def _heard(self, payload: str) -> None:
        try:
            said = orjson.loads(payload)
            tenant, what, subject = str(said["tenant"]), str(said["what"]), str(said.get("subject", ""))
        except (ValueError, KeyError, TypeError):
            log.warning("a notice that is not ours on channel %s", CHANNEL)
            self._on_gap()
            return
        self._on_notice(tenant, what, subject)
