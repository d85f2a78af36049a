"""Documents of others that we read again and again: kept while fresh, the last good copy longer, errors never."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any, Generic, TypeVar

import orjson

from agentauth.oauth.freshness import lifetime
from agentauth.outbound.crowd import place_outside
from agentauth.outbound.fetch import FetchFailed, FetchRefused, fetch

T = TypeVar("T")
_AGAIN = 60.0  # seconds before what is missing in it may make us ask again
_MOST = 1000
_CROWD = "Too many others are being asked at the moment. Try again."


class Unreadable(Exception):
    """It could not be had, and there is no earlier copy. The message is a plain sentence."""


@dataclass(slots=True)
class _Copy(Generic[T]):
    value: T
    asked: float
    fresh_until: float


class Kept(Generic[T]):
    """One kind of document. `read` makes it of the JSON, or raises ValueError with a sentence."""

    def __init__(self, read: Callable[[str, Any], T], *, max_bytes: int = 256 * 1024) -> None:
        self._read, self._max_bytes = read, max_bytes
        self._copies: dict[str, _Copy[T]] = {}
        self._lock = threading.Lock()

    def known(self, url: str) -> T | None:
        """The copy that we have, however old. Asks nobody."""
        copy = self._copies.get(url)
        return copy.value if copy else None

    def get(self, url: str, *, enough: Callable[[T], bool] = lambda value: True) -> T:
        """The document at `url`; asked for when no longer fresh or when it is not `enough`. Raises Unreadable."""
        at, copy = monotonic(), self._copies.get(url)
        if copy is not None and ((at < copy.fresh_until and enough(copy.value)) or at < copy.asked + _AGAIN):
            return copy.value
        with place_outside() as placed:
            if not placed:
                if copy is None:
                    raise Unreadable(_CROWD)
                return copy.value
            try:
                return self._fetch(url)
            except Unreadable:
                if copy is None:
                    raise
                copy.asked = at
                return copy.value

    def fetch(self, url: str) -> T:
        """The document as it is now, which is kept from now on. Raises Unreadable."""
        with place_outside() as placed:
            if not placed:
                raise Unreadable(_CROWD)
            return self._fetch(url)

    def _fetch(self, url: str) -> T:
        try:
            fetched = fetch(url, accept="*/*", max_bytes=self._max_bytes, timeout=5)
            if fetched.status != 200:
                raise Unreadable(f"{url} answered with {fetched.status}, not 200.")
            value = self._read(url, orjson.loads(fetched.body))
        except (FetchFailed, FetchRefused) as problem:
            raise Unreadable(problem.reason) from None
        except orjson.JSONDecodeError:
            raise Unreadable(f"{url} does not answer with JSON.") from None
        except ValueError as problem:
            raise Unreadable(str(problem)) from None
        at = monotonic()
        with self._lock:
            if len(self._copies) >= _MOST:
                self._copies.clear()
            self._copies[url] = _Copy(value, at, at + lifetime(fetched.headers))
        return value

    def forget(self) -> None:
        self._copies.clear()
