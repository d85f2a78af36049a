"""One connection that commits a batch in one round trip, on the event loop: libpq without blocking.

Under psycopg's own asynchronous connection, whose cursors cost a batch as much as its signatures.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

import psycopg
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult

from agentauth.oauth.hearing import Connection, connect
from agentauth.oauth.statements import Row, commands

PATIENCE = 4.0  # seconds; a statement of ours is stopped after three
_ENDS = (ExecStatus.PIPELINE_SYNC,)
_BINARY = [psycopg.pq.Format.BINARY] * 64
# A plan once made is kept: it stands on keys alone, whatever the tables held when it was made
_SETTINGS = ("plan_cache_mode = force_generic_plan", "enable_seqscan = off", "jit = off")
_SOUND = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)


class Gone(Exception):
    """The database does not answer, or not as it should: nobody knows what of the batch was committed."""


class Writer:
    """Used by one task at a time."""

    def __init__(self, prepared: Mapping[str, str]) -> None:
        self._prepared = prepared
        self._db: Connection | None = None
        self._socket = -1  # kept, because a connection that broke has forgotten it
        self._found: list[PGresult] = []
        self._done: asyncio.Future[None] | None = None
        self.stale = False

    async def write(self, rows: Sequence[Row], meanwhile: Callable[[], None] = lambda: None) -> frozenset[str]:
        """The ids of those that were written. `meanwhile` is done while the database works. Raises Gone, then within
        seconds."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._write(rows, meanwhile)
        except (psycopg.Error, OSError, TimeoutError) as problem:
            self.close()
            raise Gone(str(problem).strip().partition("\n")[0] or "it does not answer") from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._socket)
            loop.remove_writer(self._socket)
            db.pgconn.finish()  # at once: asking it to end politely would wait for it

    async def _write(self, rows: Sequence[Row], meanwhile: Callable[[], None]) -> frozenset[str]:
        if self.stale:
            self.close()
        if self._db is None:
            self._db = await self._connect()
        conn = self._db.pgconn
        self._found, self._done = [], asyncio.get_running_loop().create_future()
        for name, values in commands(rows):
            conn.send_query_prepared(name.encode(), values, _BINARY[: len(values)])
        conn.pipeline_sync()
        if conn.flush():
            asyncio.get_running_loop().add_writer(self._socket, self._writable)
        meanwhile()
        await self._done
        written: list[str] = []
        for result in self._found:
            if result.status not in _SOUND:
                raise psycopg.OperationalError(result.error_message.decode(errors="replace"))
            if result.fname(0) == b"written":
                written += (result.get_value(0, 0) or b"").decode().split(",")
        return frozenset(written)

    async def _connect(self) -> Connection:
        db = await connect("agentauth-lane")
        for setting in _SETTINGS:
            await db.execute(f"SET {setting}")
        for name, statement in self._prepared.items():
            await db.execute(f"PREPARE {name} AS {statement}")
        db.pgconn.nonblocking = 1
        db.pgconn.enter_pipeline_mode()
        self.stale = False
        self._socket = db.pgconn.socket
        asyncio.get_running_loop().add_reader(self._socket, self._readable)
        return db

    def _readable(self) -> None:
        """Something came. At the end of the pipeline the transaction is committed."""
        assert self._db is not None
        conn = self._db.pgconn
        try:
            conn.consume_input()
            if self._done is None or self._done.done():
                return
            while not conn.is_busy():
                result = conn.get_result()
                if result is None:
                    continue
                if result.status in _ENDS:
                    self._done.set_result(None)
                    return
                self._found.append(result)
        except psycopg.Error as problem:
            if self._done is None or self._done.done():
                self.close()  # it ended while nobody asked anything
            else:
                self._done.set_exception(problem)

    def _writable(self) -> None:
        assert self._db is not None
        if not self._db.pgconn.flush():
            asyncio.get_running_loop().remove_writer(self._socket)
