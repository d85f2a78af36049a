"""`private_key_jwt` (RFC 7523 §2.2, §3): a client proves itself with a short JWT under its own key. Pure."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

import jwt

from agentauth.keys.compact import is_compact
from agentauth.keys.verifying import is_plain, one_name, public_key, signed_claims, type_in
from agentauth.oauth.errors import InvalidClient

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ALGORITHMS = ("ES256", "Ed25519", "EdDSA", "PS256", "RS256")
_LONGEST = 3600  # seconds an assertion may be valid: what is longer is a password
_LEEWAY = 30  # seconds
_ALGORITHMS_OF_KEY = {"EC": {"ES256"}, "OKP": {"EdDSA"}, "RSA": {"PS256", "RS256"}}


@dataclass(frozen=True, slots=True)
class Proof:
    """A checked assertion; its `jti` may be spent once until `expires` (seconds since 1970)."""

    jti: str
    expires: int


def claimed_client(assertion: str) -> str:
    """Whose it says it is, unverified: only for finding the keys."""
    try:
        claims = jwt.decode(assertion, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise InvalidClient("The client assertion is not a JWT.", reason="assertion_malformed") from None
    sub = claims.get("sub")
    if not isinstance(sub, str) or not sub:
        raise InvalidClient("The client assertion names no client.", reason="assertion_malformed")
    return sub


def header_kid(assertion: str) -> str | None:
    """The key it names, or None. Refuses headers that bring a key along or want what we do not know (RFC 7515 §4.1)."""
    try:
        if not is_compact(assertion):
            raise ValueError
        header = jwt.get_unverified_header(assertion)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise InvalidClient("The client assertion is not a JWT.", reason="assertion_malformed") from None
    if not is_plain(header) or header.get("alg") not in ALGORITHMS:
        raise InvalidClient("The client assertion has a header that is not accepted.", reason="assertion_header")
    if "typ" in header and type_in(header) not in ("jwt", "client-authentication+jwt"):
        raise InvalidClient("The client assertion is of another type.", reason="assertion_header")
    kid = header.get("kid")
    return kid if isinstance(kid, str) else None


def verify(
    assertion: str,
    *,
    client_id: str,
    keys: Iterable[Mapping[str, Any]],
    audiences: Iterable[str],
    now: float,
    algorithms: Collection[str] = ALGORITHMS,
    aud_is_text: bool = False,
) -> Proof:
    """The proof in `assertion`, or InvalidClient. `keys` are the client's own public JWKs, `now` seconds since 1970.

    §3: `iss` and `sub` are the client, `aud` is us and nobody else, `exp` is near, `jti` is there.
    """
    kid = header_kid(assertion)
    if jwt.get_unverified_header(assertion)["alg"] not in algorithms:
        raise InvalidClient("The client assertion has a header that is not accepted.", reason="assertion_header")
    claims = _signed_by_one(assertion, [key for key in keys if kid is None or key.get("kid") in (None, kid)])
    if claims.get("iss") != client_id or claims.get("sub") != client_id:
        raise InvalidClient("The client assertion is about another client.", reason="assertion_subject")
    aud = claims.get("aud")
    named = [aud] if isinstance(aud, str) else aud
    if (
        not isinstance(named, list)
        or len(named) != 1
        or named[0] not in tuple(audiences)
        or (aud_is_text and named is aud)
    ):
        raise InvalidClient("The client assertion is for somebody else.", reason="assertion_audience")
    expires: Any = claims.get("exp")
    if not _is_time(expires) or expires <= now - _LEEWAY:
        raise InvalidClient("The client assertion has expired.", reason="assertion_expired")
    if expires > now + _LONGEST + _LEEWAY:
        raise InvalidClient("The client assertion lives too long.", reason="assertion_too_long")
    begins = [claims[name] for name in ("iat", "nbf") if name in claims]
    if any(not _is_time(at) or at > now + _LEEWAY for at in begins):
        raise InvalidClient("The client assertion is from the future.", reason="assertion_early")
    jti = claims.get("jti")
    if not isinstance(jti, str) or not 0 < len(jti) <= 255:
        raise InvalidClient("The client assertion has no jti.", reason="assertion_malformed")
    return Proof(jti=jti, expires=int(expires) + _LEEWAY)


def _signed_by_one(assertion: str, keys: list[Mapping[str, Any]]) -> dict[str, Any]:
    alg = jwt.get_unverified_header(assertion)["alg"]
    for jwk in keys[:10]:
        if one_name(alg) not in _ALGORITHMS_OF_KEY.get(str(jwk.get("kty")), ()):
            continue  # the key decides which algorithms there are, not the header
        if one_name(str(jwk.get("alg", alg))) != one_name(alg):
            continue
        try:
            return signed_claims(assertion, public_key(jwk), alg)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            continue
    raise InvalidClient("The client assertion is not signed by a key of this client.", reason="assertion_signature")


def _is_time(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e11
