"""Clients' published keys (`jwks_uri`): fetched by the guarded fetcher, kept while fresh, the last good copy longer."""

import threading
import time
from dataclasses import dataclass
from typing import Any

import orjson

from agentauth.oauth.client_metadata import public_keys
from agentauth.oauth.errors import InvalidClient, InvalidClientMetadata, TemporarilyUnavailable
from agentauth.oauth.freshness import lifetime
from agentauth.outbound.crowd import place_outside
from agentauth.outbound.fetch import Fetched, FetchFailed, FetchRefused, fetch

_MAX_BYTES = 64 * 1024
_AGAIN = 60.0  # seconds before an unknown `kid` may make us ask again
_MOST = 1000


@dataclass(slots=True)
class _Kept:
    keys: list[dict[str, Any]]
    fetched: float
    fresh_until: float


_kept: dict[str, _Kept] = {}
_lock = threading.Lock()


def keys_at(uri: str, *, wanted: str | None) -> list[dict[str, Any]]:
    """The keys at `uri`; asked for again when no longer fresh, or when `wanted` (a kid) is not among them."""
    at = time.monotonic()
    kept = _kept.get(uri)
    if kept is not None:
        has_it = wanted is None or any(key.get("kid") == wanted for key in kept.keys)
        if (at < kept.fresh_until and has_it) or at < kept.fetched + _AGAIN:
            return kept.keys
    try:
        fetched, keys = _ask(uri)
    except (FetchFailed, FetchRefused, InvalidClientMetadata, orjson.JSONDecodeError):
        if kept is not None:
            kept.fetched = at  # not again at once; errors are not kept, the last good copy is
            return kept.keys
        raise InvalidClient("The keys of this client cannot be read.", reason="jwks_unavailable") from None
    except _TooMany:
        if kept is not None:
            return kept.keys
        raise TemporarilyUnavailable("Too many keys are being asked for. Try again.", reason="jwks_crowd") from None
    with _lock:
        if len(_kept) >= _MOST:
            _kept.clear()
        _kept[uri] = _Kept(keys, at, at + lifetime(fetched.headers))
    return keys


class _TooMany(Exception):
    """Others are out already."""


def _ask(uri: str) -> tuple[Fetched, list[dict[str, Any]]]:
    with place_outside() as placed:
        if not placed:
            raise _TooMany
        fetched = fetch(uri, accept="*/*", max_bytes=_MAX_BYTES, timeout=5)
    if fetched.status != 200:
        raise FetchFailed("not 200")
    return fetched, public_keys(orjson.loads(fetched.body))
