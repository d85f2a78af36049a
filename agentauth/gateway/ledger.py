"""The record of calls: an intent is committed before anything goes upstream, its outcome after.

One writer for all calls in flight: what waits goes into one transaction (`admitting.py`).
"""

import asyncio
import logging
from collections import deque
from contextlib import suppress
from uuid import UUID

import psycopg

from agentauth.gateway.admitting import Transaction
from agentauth.gateway.database import LIMIT, Connection, connect
from agentauth.gateway.intent import Intent, Line, Row, Verdict

log = logging.getLogger(__name__)

MOST_AT_ONCE = 400
MOST_OUTCOMES_KEPT = 100_000


class Unrecorded(Exception):
    """It could not be written down, so it does not happen."""


class Ledger:
    """The writer of one worker. `run` it for as long as calls come, then `close` it."""

    def __init__(self) -> None:
        self._intents: deque[Intent] = deque()
        self._lines: deque[Line] = deque()
        self._wake = asyncio.Event()
        self._db: Connection | None = None
        self.lost_outcomes = 0

    async def admit(self, intent: Intent) -> Verdict:
        """The decision on this call, on record when this returns. Raises Unrecorded."""
        intent.answer = asyncio.get_running_loop().create_future()
        self._intents.append(intent)
        self._wake.set()
        return await intent.answer

    async def note(self, tenant_id: UUID, row: Row) -> None:
        """Write one event; it is on record when this returns. Raises Unrecorded."""
        line = Line(tenant_id, row, asyncio.get_running_loop().create_future())
        self._lines.append(line)
        self._wake.set()
        assert line.answer is not None
        await line.answer

    def finish(self, tenant_id: UUID, row: Row) -> None:
        """Write one outcome, as soon as the database takes it. Nobody waits for it."""
        if len(self._lines) >= MOST_OUTCOMES_KEPT:
            self.lost_outcomes += 1  # its intent is on record and will be closed as lost
            return
        self._lines.append(Line(tenant_id, row))
        self._wake.set()

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._intents or self._lines:
                if not await self._write_some():
                    await asyncio.sleep(0.2)
                    if not self._intents:
                        self._wake.set()
                        break

    async def close(self) -> None:
        """Write what is left, briefly."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LIMIT):
                while (self._intents or self._lines) and await self._write_some():
                    pass
        if self._db is not None:
            with suppress(Exception):
                await asyncio.wait_for(self._db.close(), 1)

    async def _write_some(self) -> bool:
        """One transaction for what waits now. False when the database did not take it."""
        intents = [self._intents.popleft() for _ in range(min(len(self._intents), MOST_AT_ONCE))]
        lines = [self._lines.popleft() for _ in range(min(len(self._lines), MOST_AT_ONCE))]
        try:
            verdicts = await self._write(intents, lines)
        except (psycopg.DataError, psycopg.IntegrityError):
            await self._drop_connection()
            return await self._write_singly(intents, lines)
        except (psycopg.Error, OSError, TimeoutError) as problem:
            log.error("the record cannot be written: %s", str(problem).strip().splitlines()[:1])
            await self._drop_connection()
            self._give_up(intents, lines)
            return False
        except asyncio.CancelledError:
            await self._drop_connection()
            self._give_up(intents, lines)
            raise
        except Exception:  # of our own making: what one call brought along must not end the record for all
            await self._drop_connection()
            return await self._write_singly(intents, lines)
        _answer(intents, lines, verdicts)
        return True

    async def _write_singly(self, intents: list[Intent], lines: list[Line]) -> bool:
        """One row that the database cannot take must not hold up the others."""
        for intent in intents:
            try:
                _answer([intent], [], await self._write([intent], []))
            except Exception:
                log.exception("a call that cannot be recorded")
                await self._drop_connection()
                self._give_up([intent], [])
        for line in lines:
            try:
                _answer([], [line], await self._write([], [line]))
            except (psycopg.OperationalError, psycopg.InterfaceError, OSError, TimeoutError):
                await self._drop_connection()
                self._give_up([], [line])
            except Exception:
                log.exception("an event that cannot be recorded")
                await self._drop_connection()
                if line.answer and not line.answer.done():
                    line.answer.set_exception(Unrecorded())
        return True

    def _give_up(self, intents: list[Intent], lines: list[Line]) -> None:
        """Whoever waits is told; outcomes, for which nobody waits, are kept and tried again."""
        waiting: list[Intent | Line] = [*intents, *lines]
        for entry in waiting:
            if entry.answer is not None and not entry.answer.done():
                entry.answer.set_exception(Unrecorded())
        self._lines.extendleft(line for line in reversed(lines) if line.answer is None)

    async def _write(self, intents: list[Intent], lines: list[Line]) -> list[Verdict]:
        async with asyncio.timeout(LIMIT):
            for attempt in (1, 2):
                if self._db is None or self._db.closed:
                    self._db = await connect()
                work = Transaction(self._db, intents, lines)
                try:
                    return await work.run()
                except psycopg.OperationalError:
                    if attempt == 2 or work.committing:  # a commit whose answer was lost may have happened
                        raise
                    await self._drop_connection()
            raise AssertionError

    async def _drop_connection(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            with suppress(Exception):
                db.pgconn.finish()


def _answer(intents: list[Intent], lines: list[Line], verdicts: list[Verdict]) -> None:
    for intent, verdict in zip(intents, verdicts, strict=True):
        if intent.answer is not None and not intent.answer.done():
            intent.answer.set_result(verdict)
    for line in lines:
        if line.answer is not None and not line.answer.done():
            line.answer.set_result(None)
