"""Going out while somebody waits for our answer: few at a time.

Whom we ask may have been named by a stranger, and may take all the time that they are given. They hold up who asks
about them, and nobody else.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

OUTSIDE = 3  # at once, of the threads that answer people (`web.threads.THREADS`)
WAITING = 2  # and as many more wait for a place
PATIENCE = 0.25  # seconds, for a place

_door = threading.BoundedSemaphore(OUTSIDE + WAITING)
_places = threading.BoundedSemaphore(OUTSIDE)


@contextmanager
def place_outside() -> Iterator[bool]:
    """Whether there is one. Who finds none does not go."""
    entered = _door.acquire(blocking=False)
    placed = entered and _places.acquire(timeout=PATIENCE)
    try:
        yield placed
    finally:
        if placed:
            _places.release()
        if entered:
            _door.release()
