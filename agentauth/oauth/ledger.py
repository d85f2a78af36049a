"""Recording tokens that the short lane issues: one commit for all that are in flight, and one last look at what stands.

A statement for each costs ten times as much. The statement that writes the events reads in the same snapshot whether
tenant, agent, credential, grant and resource still stand; of those that do not, nothing is written.
"""

import asyncio
import logging
import math
from typing import Protocol

from agentauth.oauth import statements
from agentauth.oauth.statements import Row
from agentauth.oauth.writer import Gone, Writer

log = logging.getLogger(__name__)

WRITERS = 2  # one gathers while the other commits
MOST_AT_ONCE = 200
_FORGETS = 0.9  # how much of the highest number in flight is still believed after a commit


class Entry(Protocol):
    """What waits for its row to be committed."""

    @property
    def row(self) -> Row: ...

    def meanwhile(self) -> None:
        """What it has to do anyhow, done while the database works."""
        ...

    def settle(self, written: bool | None) -> None:
        """Called once: True when it is committed, False if what it stands on has ended, None if nobody knows."""
        ...


class Ledger:
    """On one event loop. What comes while it writes is written next, together."""

    def __init__(self) -> None:
        self._waiting: list[Entry] = []
        self._writers = [Writer(statements.PREPARED) for _ in range(WRITERS)]
        self._busy: set[Writer] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._looking = False
        self._seen = 0
        self._in_flight = 0
        self._most = 1.0

    def enter(self, entry: Entry) -> None:
        """It is settled later, never at once."""
        self._waiting.append(entry)
        if not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_soon(self._look)

    def reconnect(self) -> None:
        """Before the next event: the database was away."""
        for writer in self._writers:
            writer.stale = True

    def stop(self) -> None:
        for writer in self._writers:
            writer.close()

    def _look(self) -> None:
        """Write what waits, unless more is to be expected: as long as some come at each look, or a commit is under way,
        and there are not yet as many as each writer's share of those in flight together lately. Never more than that
        share: else all would wait for one commit, and nobody would do anything meanwhile."""
        waiting, share = len(self._waiting), min(math.ceil(self._most / WRITERS), MOST_AT_ONCE)
        idle = next((writer for writer in self._writers if writer not in self._busy), None)
        if not waiting or idle is None or (self._busy and waiting < share):
            self._looking, self._seen = False, 0
        elif waiting >= share or waiting == self._seen:
            self._looking, self._seen = False, 0
            self._write(idle, share)
        else:
            self._seen = waiting
            asyncio.get_running_loop().call_soon(self._look)

    def _write(self, writer: Writer, most: int) -> None:
        batch, self._waiting = self._waiting[:most], self._waiting[most:]
        self._in_flight += len(batch)
        self._most = max(self._most * _FORGETS, self._in_flight + len(self._waiting))
        self._busy.add(writer)
        task = asyncio.get_running_loop().create_task(self._commit(writer, batch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _commit(self, writer: Writer, batch: list[Entry]) -> None:
        written: frozenset[str] | None = None

        def meanwhile() -> None:
            for entry in batch:
                entry.meanwhile()

        try:
            written = await writer.write([entry.row for entry in batch], meanwhile)
        except Gone as problem:
            log.error("tokens cannot be recorded: %s", problem)
        except Exception:
            log.exception("tokens cannot be recorded")
        finally:
            self._busy.discard(writer)
            self._in_flight -= len(batch)
            for entry in batch:
                entry.settle(None if written is None else entry.row.id in written)
        if written is None:  # nor can what waits
            waiting, self._waiting = self._waiting, []
            for entry in waiting:
                entry.settle(None)
        if self._waiting and not self._looking:
            self._looking = True
            self._look()
