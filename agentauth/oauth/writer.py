"""One connection that commits a batch in one round trip, on the event loop: libpq without blocking.

Under psycopg's own asynchronous connection, whose cursors cost a batch as much as its signatures.
"""

import asyncio
from collections.abc import Mapping, Sequence

import psycopg
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult

from agentauth.oauth.hearing import Connection, connect
from agentauth.oauth.statements import Row, commands

PATIENCE = 4.0  # seconds; a statement of ours is stopped after three
_ENDS = (ExecStatus.PIPELINE_SYNC,)
_SOUND = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)


class Gone(Exception):
    """The database does not answer, or not as it should: nobody knows what of the batch was committed."""


class Writer:
    def __init__(self, prepared: Mapping[str, str]) -> None:
        self._prepared = prepared
        self._db: Connection | None = None
        self.stale = False

    async def write(self, rows: Sequence[Row]) -> frozenset[str]:
        """The ids of those that were written. Raises Gone, then within seconds."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._write(rows)
        except (psycopg.Error, OSError, TimeoutError) as problem:
            self.close()
            raise Gone(str(problem).strip().partition("\n")[0] or "it does not answer") from None
        except asyncio.CancelledError:
            self.close()
            raise

    def close(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            loop = asyncio.get_running_loop()
            if db.pgconn.status == psycopg.pq.ConnStatus.OK:
                loop.remove_reader(db.pgconn.socket)
                loop.remove_writer(db.pgconn.socket)
            db.pgconn.finish()  # at once: asking it to end politely would wait for it

    async def _write(self, rows: Sequence[Row]) -> frozenset[str]:
        if self.stale:
            self.close()
        if self._db is None:
            self._db = await self._connect()
        conn = self._db.pgconn
        for name, values in commands(rows):
            conn.send_query_prepared(name.encode(), values)
        conn.pipeline_sync()
        found = await self._answers()
        written: list[str] = []
        for result in found:
            if result.status not in _SOUND:
                raise psycopg.OperationalError(result.error_message.decode(errors="replace"))
            if result.fname(0) == b"written":
                written += (result.get_value(0, 0) or b"").decode().split(",")
        return frozenset(written)

    async def _connect(self) -> Connection:
        db = await connect("agentauth-lane")
        for name, statement in self._prepared.items():
            await db.execute(f"PREPARE {name} AS {statement}")
        db.pgconn.nonblocking = 1
        db.pgconn.enter_pipeline_mode()
        self.stale = False
        return db

    async def _answers(self) -> list[PGresult]:
        """All results up to the end of the pipeline; the transaction is committed when it is here."""
        assert self._db is not None
        conn, loop = self._db.pgconn, asyncio.get_running_loop()
        found: list[PGresult] = []
        done: asyncio.Future[None] = loop.create_future()

        def readable() -> None:
            try:
                conn.consume_input()
                while not conn.is_busy():
                    result = conn.get_result()
                    if result is None:
                        continue
                    if result.status in _ENDS:
                        if not done.done():
                            done.set_result(None)
                        return
                    found.append(result)
            except psycopg.Error as problem:
                if not done.done():
                    done.set_exception(problem)

        def writable() -> None:
            if not conn.flush():
                loop.remove_writer(socket)

        socket = conn.socket
        loop.add_reader(socket, readable)
        try:
            if conn.flush():
                loop.add_writer(socket, writable)
            await done
        finally:
            loop.remove_reader(socket)
            loop.remove_writer(socket)
        return found
