"""Recording tokens that the short lane issues: one commit for all that are in flight, and one last look at what stands.

A statement for each costs ten times as much. The statement that writes the events reads in the same snapshot whether
tenant, agent, credential, grant and resource still stand; of those that do not, nothing is written.
"""

import asyncio
import logging

from agentauth.oauth import statements
from agentauth.oauth.statements import Row
from agentauth.oauth.writer import Gone, Writer

log = logging.getLogger(__name__)

WRITERS = 2  # one gathers while the other commits
MOST_AT_ONCE = 200
_FORGETS = 0.9  # how much of the highest number in flight is still believed after a commit


class Unrecorded(Exception):
    """It could not be written down, so it does not happen."""


class Ledger:
    """On one event loop. What comes while it writes is written next, together."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Row, asyncio.Future[bool]]] = []
        self._writers = [Writer(statements.PREPARED) for _ in range(WRITERS)]
        self._busy: set[Writer] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._looking = False
        self._seen = 0
        self._in_flight = 0
        self._most = 1.0

    def enter(self, row: Row) -> "asyncio.Future[bool]":
        """Done once this is committed: True, or False if what it stands on has ended. Raises Unrecorded."""
        outcome: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((row, outcome))
        if not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_soon(self._look)
        return outcome

    def reconnect(self) -> None:
        """Before the next event: the database was away."""
        for writer in self._writers:
            writer.stale = True

    def stop(self) -> None:
        for writer in self._writers:
            writer.close()

    def _look(self) -> None:
        """Write what waits, unless more is to be expected: as long as some come at each look, or a commit is under way,
        and there are not yet half as many as were in flight together lately."""
        waiting = len(self._waiting)
        worth_it = waiting >= min(self._most / 2, MOST_AT_ONCE)
        idle = next((writer for writer in self._writers if writer not in self._busy), None)
        if not waiting or idle is None or (self._busy and not worth_it):
            self._looking, self._seen = False, 0
        elif worth_it or waiting == self._seen:
            self._looking, self._seen = False, 0
            self._write(idle)
        else:
            self._seen = waiting
            asyncio.get_running_loop().call_soon(self._look)

    def _write(self, writer: Writer) -> None:
        batch, self._waiting = self._waiting[:MOST_AT_ONCE], self._waiting[MOST_AT_ONCE:]
        self._in_flight += len(batch)
        self._most = max(self._most * _FORGETS, self._in_flight + len(self._waiting))
        self._busy.add(writer)
        task = asyncio.get_running_loop().create_task(self._commit(writer, batch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _commit(self, writer: Writer, batch: list[tuple[Row, "asyncio.Future[bool]"]]) -> None:
        written: frozenset[str] | None = None
        try:
            written = await writer.write([row for row, _ in batch])
        except Gone as problem:
            log.error("tokens cannot be recorded: %s", problem)
        finally:
            self._busy.discard(writer)
            self._in_flight -= len(batch)
        for row, outcome in batch:
            _settle(outcome, None if written is None else row.id in written)
        if written is None:  # nor can what waits
            waiting, self._waiting = self._waiting, []
            for _, outcome in waiting:
                _settle(outcome, None)
        if self._waiting and not self._looking:
            self._looking = True
            self._look()


def _settle(outcome: "asyncio.Future[bool]", said: bool | None) -> None:
    if outcome.done():  # whoever asked has gone away
        return
    if said is None:
        outcome.set_exception(Unrecorded())
    else:
        outcome.set_result(said)
