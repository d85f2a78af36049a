"""A look at an issuer before it is trusted: does it publish what its tokens will be checked with?"""

from dataclasses import dataclass
from typing import Any

from agentauth.agents.models import TrustedIssuer
from agentauth.oauth.kept import Unreadable
from agentauth.oauth.trust import keys
from agentauth.oauth.trust.reading import algorithms_of

KeysFrom = TrustedIssuer.KeysFrom


class NotThere(Exception):
    """It cannot be used as it is; `field` is what to change, the message says what was found."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found: where the keys are, their ids, and which algorithms they are for."""

    jwks_uri: str
    kids: tuple[str, ...]
    algorithms: tuple[str, ...]

    @property
    def sentence(self) -> str:
        many = f"{len(self.kids)} keys" if len(self.kids) != 1 else "one key"
        return f"{many[0].upper()}{many[1:]} found, for {', '.join(self.algorithms)}."


def look(*, kind: str, issuer: str, keys_from: str, jwks_uri: str = "", jwks: dict[str, Any] | None = None) -> Seen:
    """Ask it now, by the guarded fetcher; pasted keys are only read. Raises NotThere. Outside a transaction."""
    field = {KeysFrom.DISCOVERY: "issuer", KeysFrom.ADDRESS: "jwks_uri"}.get(KeysFrom(keys_from), "jwks")
    try:
        if keys_from == KeysFrom.DISCOVERY:
            jwks_uri, found = keys.published(issuer)
        elif keys_from == KeysFrom.ADDRESS:
            found = keys.published_at(jwks_uri)
        else:
            found = keys.usable(jwks)
    except (Unreadable, ValueError) as why:
        raise NotThere(field, str(why)) from None
    usable = keys.for_purpose(found, kind)
    if not usable:
        wanted = "marked “use”: “jwt-svid”" if kind == TrustedIssuer.Kind.SPIFFE else "for signatures"
        raise NotThere(field, f"There is no key that can be used: EC, Ed25519 or RSA of 2048 bits or more, {wanted}.")
    algorithms = sorted({one for key in usable for one in algorithms_of(key)})
    return Seen(jwks_uri, tuple(str(key.get("kid", "without a name")) for key in usable), tuple(algorithms))
