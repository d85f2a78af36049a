"""How long a request may wait for the database in all. A frozen server, a lock, a lost network: 503 within seconds.

A limit in the server cannot do this: one that is frozen keeps no time. Tasks and commands wait as long as it takes.
Time spent on anything else does not count: what a request learned from a slow host must still go on record.
"""

import threading
import time
from collections.abc import Callable

import psycopg
from django.http import HttpRequest, HttpResponseBase
from psycopg.abc import RV, PQGen

LIMIT = 5.0  # seconds
CANCELLING = 0.5  # seconds more, in which a server that is well stops working on what nobody waits for

_here = threading.local()


def left() -> float | None:
    """Seconds that this thread's request may still wait; None outside of requests."""
    seconds: float | None = getattr(_here, "left", None)
    return seconds


def waited_since(begun: float) -> None:
    """It waited for the database since then, a `time.monotonic()`: so much less is left."""
    seconds = left()
    if seconds is not None:
        _here.left = max(0.0, seconds - (time.monotonic() - begun))


class Patience:
    """Middleware, outside of everything that asks the database."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        _here.left = LIMIT
        try:
            return self.get_response(request)
        finally:
            _here.left = None


class PatientConnection(psycopg.Connection[tuple[object, ...]]):
    """One whose waiting ends with the request's patience. It is closed then: what it may yet say belongs to nobody."""

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        patience = left() if timeout is None else None
        if patience is None:
            return super().wait(gen, interval, timeout)
        begun = time.monotonic()
        try:
            return super().wait(gen, interval, patience)
        except psycopg.errors._WaitTimeout:
            self._leave()
            raise psycopg.OperationalError("the database does not answer in time") from None
        finally:
            waited_since(begun)

    def _leave(self) -> None:
        try:
            if left() is not None and self.info.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
                self.cancel_safe(timeout=CANCELLING)
        except psycopg.Error:
            pass
        finally:
            self.pgconn.finish()
