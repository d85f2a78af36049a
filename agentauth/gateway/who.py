"""Who calls: the token in its header (RFC 6750, RFC 9449), a JWT access token (RFC 9068) for exactly this resource."""

import hashlib
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import jwt
from cryptography.exceptions import InvalidSignature

from agentauth.gateway.headers import RawHeaders
from agentauth.gateway.snapshot import Tenant
from agentauth.oauth.authorization_details import calls_of
from agentauth.oauth.own_token import AGENT_PROFILE, BEYOND_ALL_TIME
from agentauth.policy.decision import Reason

LEEWAY = 5  # seconds that another host's clock may be ahead; an expiry gets none
LONGEST_TOKEN = 8192
DEEPEST_CHAIN = 5
_TOKENS_KEPT = 10_000
_TOKEN = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\Z")
_TYPES = ("at+jwt", "application/at+jwt")
_JTI = re.compile(r"[\x21-\x7e]{1,64}\Z")


class NoToken(Exception):
    """Nobody said who they are (RFC 6750 §3: a challenge without an error)."""


class BadRequest(Exception):
    """Said twice, or in a way that is not one of RFC 6750's."""


class TokenRefused(Exception):
    """`detail` says what exactly, where the reason's own words do not."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(detail or reason.words)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class Principal:
    """What a valid token says. `chain` holds every agent in it, the one that calls first.

    `via` names the grants and tokens that this one was exchanged from (RFC 8693): ("grant" or "token", id). `acr` and
    `auth_time` say how and when its person signed in (RFC 9470), `calls` what it is only good for (RFC 9396), `jkt`
    which key it is bound to (RFC 9449 §6.1).
    """

    agent_id: UUID
    member_id: UUID | None
    grant_id: UUID
    client_id: str
    jti: str
    scopes: frozenset[str]
    issued_at: int
    not_before: int
    expires_at: int
    chain: tuple[UUID, ...]
    kid: str
    aud: str
    via: tuple[tuple[str, str], ...] = ()
    acr: str = ""
    auth_time: int | None = None
    calls: frozenset[tuple[str, str]] | None = None
    jkt: str = ""
    strangers: tuple[tuple[str, str], ...] = ()  # actors of other issuers before all of these, the latest first

    @property
    def name(self) -> str:
        """One for each agent and person: what sessions are bound to."""
        return f"{self.agent_id}/{self.member_id or '-'}"


def read_authorization(headers: RawHeaders) -> tuple[bytes, bool]:
    """The one token of this request, and whether it came with a proof (RFC 9449 §7.1). Raises NoToken, BadRequest."""
    found = [value for name, value in headers if name.lower() == b"authorization"]
    if not found:
        raise NoToken
    if len(found) > 1:
        raise BadRequest("Send one Authorization header.")
    scheme, _, token = found[0].strip().partition(b" ")
    scheme = scheme.lower()
    if scheme not in (b"bearer", b"dpop"):
        raise NoToken
    return token.strip(), scheme == b"dpop"


def verify(token: bytes, tenant: Tenant, audience: str, *, now: float | None = None) -> Principal:
    """The token's principal if it is this tenant's, for this audience, and valid now. Raises TokenRefused."""
    now = time.time() if now is None else now
    if len(token) > LONGEST_TOKEN or not _TOKEN.match(token):
        raise TokenRefused(Reason.TOKEN_MALFORMED)
    digest = hashlib.sha256(token).digest()
    principal: Principal | None = tenant.verified.get(digest)
    if principal is None:
        principal = _read(token, tenant)
        tenant.verified[digest] = principal
        if len(tenant.verified) > _TOKENS_KEPT:
            tenant.verified.popitem(last=False)
    withdrawn = tenant.unpublish_at.get(principal.kid)
    if withdrawn is not None and withdrawn <= datetime.now(UTC):
        raise TokenRefused(Reason.TOKEN_UNTRUSTED)
    if principal.aud != audience:
        raise TokenRefused(Reason.TOKEN_WRONG_AUDIENCE)
    if principal.expires_at <= now:
        raise TokenRefused(Reason.TOKEN_EXPIRED)
    if max(principal.not_before, principal.issued_at) > now + LEEWAY:
        raise TokenRefused(Reason.TOKEN_NOT_YET_VALID)
    return principal


def _read(token: bytes, tenant: Tenant) -> Principal:
    """Signature and claims, which do not change; times and audience are compared at each use."""
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise TokenRefused(Reason.TOKEN_MALFORMED) from None
    key = tenant.keys.get(header.get("kid", ""))
    if (
        header.get("alg") != "ES256"
        or str(header.get("typ", "")).lower() not in _TYPES
        or "crit" in header
        or header.get("b64", True) is not True
        or key is None
    ):
        raise TokenRefused(Reason.TOKEN_UNTRUSTED)
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=["ES256"],
            options={
                "verify_aud": False,
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
                "verify_iss": False,
                "require": ["iss", "sub", "aud", "client_id", "scope", "exp", "iat", "jti", "grant_id"],
            },
        )
    except (jwt.PyJWTError, InvalidSignature, ValueError, TypeError, RecursionError):
        raise TokenRefused(Reason.TOKEN_UNTRUSTED) from None
    if claims["iss"] != tenant.issuer:
        raise TokenRefused(Reason.TOKEN_UNTRUSTED)
    try:
        return _principal(claims, str(header["kid"]))
    except (ValueError, TypeError, KeyError):
        raise TokenRefused(Reason.TOKEN_MALFORMED) from None


def _principal(claims: dict[str, Any], kid: str) -> Principal:
    actors, strangers = _actors(claims.get("act"))
    subject = UUID(_text(claims["sub"]))
    for_agent = not actors or claims.get("sub_profile") == AGENT_PROFILE
    chain = (*actors, subject) if for_agent else tuple(actors)
    jti, aud = _text(claims["jti"]), _text(claims["aud"])
    if not _JTI.match(jti):
        raise ValueError(jti)
    return Principal(
        agent_id=chain[0],
        member_id=None if for_agent else subject,
        grant_id=UUID(_text(claims["grant_id"])),
        client_id=_text(claims["client_id"]),
        jti=jti,
        scopes=frozenset(_text(claims["scope"]).split()),
        issued_at=_seconds(claims["iat"]),
        not_before=_seconds(claims.get("nbf", claims["iat"])),
        expires_at=_seconds(claims["exp"]),
        chain=chain,
        kid=kid,
        aud=aud,
        via=_via(claims.get("via", [])),
        acr=_text(claims.get("acr", "")),
        auth_time=_seconds(claims["auth_time"]) if "auth_time" in claims else None,
        calls=calls_of(claims.get("authorization_details"), aud),
        jkt=_bound_to(claims),
        strangers=tuple(strangers),
    )


def _actors(act: Any) -> tuple[list[UUID], list[tuple[str, str]]]:
    """RFC 8693 §4.1: the outermost actor is the one that acts now, those inside came before it.

    Those of other issuers, as (`iss`, `sub`), came before all of ours: nothing is asked of them here.
    """
    found: list[UUID] = []
    strangers: list[tuple[str, str]] = []
    while act is not None:
        if not isinstance(act, dict) or len(found) + len(strangers) == DEEPEST_CHAIN:
            raise ValueError(act)
        if "iss" in act:
            strangers.append((_text(act["iss"]), _text(act["sub"])))
        elif strangers:
            raise ValueError(act)
        else:
            found.append(UUID(_text(act["sub"])))
        act = act.get("act")
    return found, strangers


def _via(before: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(before, list) or len(before) >= DEEPEST_CHAIN:
        raise ValueError(before)
    grants = [("grant", str(UUID(_text(one["grant_id"])))) for one in before]
    return (*grants, *(("token", _text(one["jti"])) for one in before))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _seconds(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(value)
    if not 0 < value < BEYOND_ALL_TIME:
        raise ValueError(value)
    return value


def _bound_to(claims: dict[str, Any]) -> str:
    """RFC 7800 §3.1: a way of binding that we do not know is not passed over."""
    if "cnf" not in claims:
        return ""
    if set(claims["cnf"]) != {"jkt"} or not claims["cnf"]["jkt"]:
        raise ValueError(claims["cnf"])
    return _text(claims["cnf"]["jkt"])
