"""Reading a JWT of a trusted issuer (RFC 7523 §3, RFC 8725): the issuer's key, our audience alone, our times. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

import jwt

from agentauth.keys.compact import is_compact
from agentauth.keys.verifying import is_plain, one_name, public_key, signed_claims, type_in
from agentauth.oauth.errors import InvalidScope
from agentauth.oauth.parameters import scope_names

LEEWAY = 30  # seconds
_LONGEST_SCOPE = 4096
_MOST_KEYS_TRIED = 10
_ALGORITHM_OF_CURVE = {"P-256": "ES256", "P-384": "ES384", "Ed25519": "EdDSA"}


class NotGood(Exception):
    """This token does not count. `reason` is the word for the record, the message is for the caller: plain ASCII."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Accepts:
    """What kind of token is expected. `types` are values of `typ` in small letters, empty for none at all."""

    types: frozenset[str]
    longest: int  # seconds between `iat` and `exp`: what lives longer is a password
    issued: bool = True  # `iat` must be there
    named: bool = True  # `iss` must be the issuer; a JWT-SVID may have none


ID_JAG = Accepts(frozenset({"oauth-id-jag+jwt"}), longest=3600)
WORKLOAD = Accepts(frozenset({"", "jwt"}), longest=86400)
SPIFFE = Accepts(frozenset({"", "jwt", "jose"}), longest=86400, issued=False, named=False)
SUBJECT = Accepts(frozenset({"", "jwt", "at+jwt"}), longest=86400)


def header_of(token: str) -> dict[str, Any]:
    """The header, unverified. Refuses one that brings a key along or wants what we do not know (RFC 7515 §4.1)."""
    try:
        if not is_compact(token):
            raise ValueError
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise NotGood("assertion_malformed", "This is not a signed JWT.") from None
    if not is_plain(header):
        raise NotGood("assertion_header", "The header has members that are not accepted.")
    return header


def type_of(token: str) -> str:
    """What kind it says that it is, unverified."""
    return type_in(header_of(token))


def claims_of(token: str) -> dict[str, Any]:
    """What it says, unverified: only for finding whose key to ask for."""
    try:
        claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise NotGood("assertion_malformed", "This is not a signed JWT.") from None
    return claims


def text(claims: Mapping[str, Any], name: str, *, longest: int = 255) -> str:
    """A claim that is text which we can keep. Raises NotGood."""
    value = claims.get(name)
    if not is_text(value, longest=longest):
        raise NotGood(f"assertion_{name}", f"{name} must be text of at most {longest} characters.")
    return value


def scope_of(claims: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The scopes that it names (RFC 8693 §4.2); None where it sets no limit. Raises NotGood: what cannot be read was
    meant as one."""
    said = claims.get("scope")
    if said is None:
        return None
    if not isinstance(said, str) or len(said) > _LONGEST_SCOPE:
        raise NotGood("assertion_scope", "scope must be text.")
    try:
        return scope_names(said)
    except InvalidScope:
        raise NotGood("assertion_scope", "scope is malformed.") from None


def is_text(value: Any, *, longest: int = 255) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= longest and value.isprintable()


def read(
    token: str,
    *,
    accepts: Accepts,
    issuer: str,
    audiences: Iterable[str],
    keys: Iterable[Mapping[str, Any]],
    algorithms: Iterable[str],
    now: float,
) -> dict[str, Any]:
    """The claims of a token that is good now, or NotGood. `keys` are public JWKs, `now` is seconds since 1970."""
    header, typ = header_of(token), type_of(token)
    if typ not in accepts.types:
        raise NotGood("assertion_type", "This is a token of another type.")
    claims = _signed_by_one(token, header, keys, set(algorithms))
    if accepts.named and claims.get("iss") != issuer:
        raise NotGood("assertion_issuer", "iss is not the issuer whose key signed it.")
    text(claims, "sub", longest=500)
    _require_for_us(claims.get("aud"), tuple(audiences))
    _require_now(claims, accepts, now)
    return claims


def _signed_by_one(
    token: str, header: dict[str, Any], keys: Iterable[Mapping[str, Any]], algorithms: set[str]
) -> dict[str, Any]:
    """RFC 8725 §3.1: the key says which algorithm it is for, the tenant which are allowed; the header only agrees."""
    alg, kid = header.get("alg"), header.get("kid")
    if not isinstance(alg, str) or one_name(alg) not in algorithms:
        raise NotGood("assertion_algorithm", f"Sign with one of {', '.join(sorted(algorithms))}.")
    could = [key for key in keys if kid is None or key.get("kid") in (None, kid)]
    for jwk in could[:_MOST_KEYS_TRIED]:
        if one_name(alg) not in algorithms_of(jwk):
            continue
        try:
            return signed_claims(token, public_key(jwk), alg)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            continue
    raise NotGood("assertion_signature", "It is not signed by a key of its issuer.")


def algorithms_of(jwk: Mapping[str, Any]) -> set[str]:
    """What a key may sign with: its type says, and `alg` narrows it (RFC 7517 §4.4)."""
    by_type = {"RSA": {"PS256", "RS256"}}.get(str(jwk.get("kty"))) or {_ALGORITHM_OF_CURVE.get(str(jwk.get("crv")), "")}
    return by_type & {one_name(str(jwk["alg"]))} if "alg" in jwk else by_type


def _require_for_us(aud: Any, audiences: tuple[str, ...]) -> None:
    """RFC 7523bis: us, and nobody else, or whoever else is named could use it here."""
    named = [aud] if isinstance(aud, str) else aud
    if not isinstance(named, list) or len(named) != 1 or named[0] not in audiences:
        raise NotGood("assertion_audience", "aud must be the issuer of this authorization server, and nothing else.")


def _require_now(claims: Mapping[str, Any], accepts: Accepts, now: float) -> None:
    expires = claims.get("exp")
    if not _is_time(expires):
        raise NotGood("assertion_expired", "exp is missing.")
    if expires <= now - LEEWAY:
        raise NotGood("assertion_expired", "It has expired.")
    if accepts.issued and not _is_time(claims.get("iat")):
        raise NotGood("assertion_issued", "iat is missing.")
    begins = [claims[name] for name in ("iat", "nbf") if name in claims]
    if any(not _is_time(at) or at > now + LEEWAY for at in begins):
        raise NotGood("assertion_early", "It is from the future.")
    if expires - claims.get("iat", now) > accepts.longest + LEEWAY:
        raise NotGood("assertion_too_long", f"It lives longer than {accepts.longest} seconds.")


def _is_time(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e11
