"""What a worker holds in memory of one kind of thing: read when first needed, dropped when a notice is about it."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Generic, TypeVar

from agentauth.gateway.hearing import Hearing

LONGEST_UNREAD = 60.0  # seconds after which it is read again although nothing was announced
_UNKNOWN_KEPT = 1.0

T = TypeVar("T")


class Held(Generic[T]):
    """Read through. A read that a notice overtook is used once and not kept."""

    def __init__(self, read: Callable[[Any], Awaitable[T]], hearing: Hearing, most: int) -> None:
        self._read, self._hearing, self._most = read, hearing, most
        self._kept: OrderedDict[Hashable, tuple[float, T]] = OrderedDict()
        self._drops: dict[Hashable, int] = {}
        self._clears = 0
        self._reading: dict[Hashable, asyncio.Task[T]] = {}

    async def get(self, key: Hashable, *, keep: float = LONGEST_UNREAD) -> T:
        fresh = self._hearing.is_fresh
        found = self._kept.get(key)
        if found is not None and fresh and found[0] > time.monotonic():
            return found[1]
        if not fresh:
            return await self._read(key)  # nobody tells us what changed: ask, and believe it for this call only
        running = self._reading.get(key)
        if running is None:
            running = asyncio.create_task(self._fill(key, keep))
            self._reading[key] = running
            running.add_done_callback(
                lambda task: self._reading.pop(key, None) if self._reading.get(key) is task else None
            )
        return await asyncio.shield(running)

    async def _fill(self, key: Hashable, keep: float) -> T:
        before = (self._clears, self._drops.get(key, 0))
        value = await self._read(key)
        if before == (self._clears, self._drops.get(key, 0)):
            self._kept[key] = (time.monotonic() + (keep if value is not None else _UNKNOWN_KEPT), value)
            self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return value

    def drop(self, key: Hashable) -> None:
        self._kept.pop(key, None)
        if self._reading.pop(key, None) is not None:  # who asks from now on must not get what that one reads
            self._drops[key] = self._drops.get(key, 0) + 1
            if len(self._drops) > self._most:
                self._drops.clear()
                self._clears += 1

    def clear(self) -> None:
        self._kept.clear()
        self._reading.clear()
        self._drops.clear()
        self._clears += 1

    def forget(self, is_gone: Callable[[Any], bool]) -> None:
        for key in [key for key in {*self._kept, *self._reading} if is_gone(key)]:
            self.drop(key)
