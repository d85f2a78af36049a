"""A token that the short lane issues, from the moment its event is on its way until somebody is told of it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import orjson
from django.conf import settings
from uuid_utils import uuid7

from agentauth.keys.signing import signed_by
from agentauth.oauth.errors import TemporarilyUnavailable
from agentauth.oauth.memory import Issuable, Rotatable
from agentauth.oauth.remembering import Answer
from agentauth.oauth.statements import Rotation
from tenants.models import secret_hash


class Issuing:
    """A token on its way, as `token.issue` makes it: signed while its event is being committed, told once it is.

    `tell` is called with the answer, or with None when something the token stands on has ended: the ordinary way must
    say what. Whoever got this sets it before the loop goes on.
    """

    __slots__ = ("_claims", "_entry", "_said", "row", "tell")

    def __init__(self, entry: Issuable, ip: str, at: int, expires: int) -> None:
        jti, scope = str(uuid7()), entry.claims["scope"]
        details = {"jti": jti, "scope": scope, "expires": _moment(expires), "grant_type": entry.grant_type}
        self.row = entry.event.row(ip=ip, details=details, rotation=self._rotation(jti))
        self.tell: Callable[[Answer | None], None] = _nobody
        self._entry = entry
        self._claims = entry.claims | {"exp": expires, "iat": at, "jti": jti}
        self._said = {"access_token": "", "token_type": "Bearer", "expires_in": expires - at, "scope": scope}

    def _rotation(self, jti: str) -> Rotation | None:
        return None

    def meanwhile(self) -> None:
        self._said["access_token"] = signed_by(self._entry.signer, self._claims, "at+jwt")

    def settle(self, written: bool | None) -> None:
        if written is None:  # no record, no token
            gone = TemporarilyUnavailable("No token can be recorded here now.")
            self.tell(Answer(gone.status, self._entry.headers, orjson.dumps(gone.document())))
        else:
            self.tell(Answer(200, self._entry.headers, orjson.dumps(self._said)) if written else None)


class Rotating(Issuing):
    """The same with a refresh token, as `grants/refresh_token.py` does it: this one is used up, the next one may be
    asked with as this one was; `keep` is called when it may."""

    __slots__ = ("_fresh", "_keep", "_spent")
    _entry: Rotatable

    def __init__(
        self, entry: Rotatable, ip: str, at: int, expires: int, *, spent: str, fresh: str, keep: Callable[[], None]
    ) -> None:
        self._entry, self._spent, self._fresh, self._keep = entry, spent, fresh, keep
        super().__init__(entry, ip, at, expires)
        self._said["refresh_token"] = fresh

    def _rotation(self, jti: str) -> Rotation:
        entry, latest = self._entry, datetime.now(UTC) + timedelta(days=settings.KNOBS.refresh_token_days)
        return Rotation(
            token_hash=secret_hash(self._spent),
            next_hash=secret_hash(self._fresh),
            family=entry.family,
            family_scope=entry.family_scope,
            auth_time=entry.auth_time,
            acr=entry.acr,
            family_ends=entry.family_ends,
            next_ends=min(latest, entry.family_ends, entry.grant_ends),
            next_id=str(uuid7()),
            jti=jti,
        )

    def settle(self, written: bool | None) -> None:
        if written:
            self._keep()
        super().settle(written)


def _nobody(answer: Answer | None) -> None:
    """Nobody asks any more."""


@lru_cache(1024)
def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
