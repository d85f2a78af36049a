"""What the short lane remembers: answers that the ordinary way gave, until something that they stand on changes.

In memory only, bounded, never a secret: keys are hashes of whole requests.
"""

import threading
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agentauth.keys.signing import Signer
from agentauth.oauth.statements import Repeated

MOST = 20_000
LONGEST = 60.0  # seconds after which an answer is asked for anew although nothing was announced
LONGEST_ROTATING = 900.0  # the same of a refresh token, which comes back when its access token has ended

Headers = tuple[tuple[bytes, bytes], ...]  # names in lower case


@dataclass(frozen=True, slots=True)
class Remembered:
    """An answer to exactly one request. `subjects` are the ids whose change ends it, the tenant's among them."""

    subjects: frozenset[str]
    until: float  # time.monotonic()
    headers: Headers


@dataclass(frozen=True, slots=True)
class Introspected(Remembered):
    body: bytes
    expires: float  # seconds since 1970


@dataclass(frozen=True, slots=True)
class Issuable(Remembered):
    """A token that may be issued again: the claims without times and jti, and what its event says beside them."""

    claims: dict[str, Any]
    signer: Signer
    ends: int  # seconds since 1970: no token of it lives longer
    grant_type: str
    credential_ends: float
    event: Repeated


@dataclass(frozen=True, slots=True)
class Rotatable(Issuable):
    """The same with a refresh token, which is used up and gives the next: all that the tokens of a family share."""

    family: str
    family_scope: str
    auth_time: datetime
    acr: str
    family_ends: datetime
    grant_ends: datetime


def any_resource_of(tenant_id: str) -> str:
    """The subject of what was asked without naming a resource: any new grant may change which one is meant."""
    return f"{tenant_id} any resource"


class Memory:
    """Read without a lock, written under one."""

    def __init__(self) -> None:
        self._kept: dict[bytes, Remembered] = {}
        self._by_subject: dict[str, set[bytes]] = {}
        self._lock = threading.Lock()
        self._heard: dict[str, int] = {}  # how many notices of each tenant
        self._clears = 0

    def get(self, key: bytes) -> Remembered | None:
        return self._kept.get(key)

    def mark(self, tenant_id: str) -> tuple[int, int]:
        """Differs from an earlier one if anything of this tenant was heard in between."""
        return self._clears, self._heard.get(tenant_id, 0)

    def keep(self, key: bytes, entry: Remembered, *, tenant_id: str, unchanged_since: tuple[int, int]) -> None:
        """Remember, unless something was heard while the answer was on its way."""
        with self._lock:
            if self.mark(tenant_id) != unchanged_since:
                return
            self._forget(key)
            while len(self._kept) >= MOST:
                self._forget(next(iter(self._kept)))
            self._kept[key] = entry
            for subject in entry.subjects:
                self._by_subject.setdefault(subject, set()).add(key)

    def drop(self, key: bytes) -> None:
        with self._lock:
            self._forget(key)

    def on_notice(self, tenant_id: str, what: str, subject: str) -> None:
        """Forget what this may be about; what is not recognised ends all of the tenant's."""
        room, _, one = subject.partition(":") if what == "config" else (what, "", subject)
        with self._lock:
            if len(self._heard) >= MOST:
                self._heard.clear()
                self._clears += 1
            self._heard[tenant_id] = self._heard.get(tenant_id, 0) + 1
            if room in ("agent", "agents", "grant", "grants", "member", "token") and one:
                self._end(one)
                if room == "grants":
                    self._end(any_resource_of(tenant_id))
            else:
                self._end(tenant_id)

    def clear(self) -> None:
        with self._lock:
            self._clears += 1
            self._kept.clear()
            self._by_subject.clear()

    def _end(self, subject: str) -> None:
        for key in list(self._by_subject.get(subject, ())):
            self._forget(key)

    def _forget(self, key: bytes) -> None:
        entry = self._kept.pop(key, None)
        for subject in entry.subjects if entry else ():
            keys = self._by_subject.get(subject)
            if keys is not None:
                keys.discard(key)
                if not keys:
                    del self._by_subject[subject]
