"""Reading an access token of this very issuer: signature, type, times and whether anything behind it was revoked."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import jwt
from django.db.models import Q

from agentauth.agents.models import Agent
from agentauth.grants.models import Grant
from agentauth.keys.addresses import issuer
from agentauth.keys.compact import is_compact
from agentauth.keys.signing import public_keys
from tenants.models import Revocation, Tenant

BEYOND_ALL_TIME = 10**11  # seconds since 1970; what is no time may stand in a JWT of ours only by mistake
LONGEST = 8192  # characters; ours are a tenth of it
AGENT_PROFILE = "ai_agent"  # `sub_profile` of a `sub` that is no person, where `act` alone would say that it is one
_NEEDED = ["exp", "iat", "iss", "sub", "aud", "jti", "client_id", "grant_id", "scope"]


def read_own_token(tenant: Tenant, presented: str) -> dict[str, Any] | None:
    """The claims of a token that counts now, or None. In the tenant's transaction."""
    if len(presented) > LONGEST or not is_compact(presented):
        return None
    try:
        header = jwt.get_unverified_header(presented)
        if header.get("typ") != "at+jwt" or header.get("alg") != "ES256" or set(header) != {"typ", "alg", "kid"}:
            return None
        jwk = public_keys(tenant.id).get(str(header["kid"]))
        if jwk is None:
            return None
        claims: dict[str, Any] = jwt.decode(
            presented,
            jwt.PyJWK(jwk),
            algorithms=["ES256"],
            issuer=issuer(tenant),
            options={"require": _NEEDED, "verify_aud": False},
        )
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
        return None
    return None if not is_ours(claims) or is_void(tenant, claims) else claims


def is_ours(claims: dict[str, Any]) -> bool:
    """Are these claims of the kind that we write? What is not can only be a mistake of ours, and counts as nothing."""
    if not all(_is_time(claims[name]) for name in ("iat", "exp", "nbf") if name in claims):
        return False
    try:
        UUID(claims["sub"]), UUID(claims["grant_id"])
    except (ValueError, TypeError, AttributeError):
        return False
    return all(isinstance(claims[name], str) and claims[name].isprintable() for name in ("aud", "client_id", "scope"))


def _is_time(value: Any) -> bool:
    return type(value) is int and 0 < value < BEYOND_ALL_TIME


def is_void(tenant: Tenant, claims: dict[str, Any]) -> bool:
    """Was the tenant, person, an agent, a grant or a token in its chain revoked at or after `iat`, or did one end?"""
    issued = datetime.fromtimestamp(int(claims["iat"]), UTC)
    agents = set(agents_of(claims))
    behind = tokens_behind(claims)
    grants = {one["grant_id"] for one in behind}
    kind = Revocation.Kind
    named = (
        Q(kind=kind.TENANT, subject=str(tenant.id))
        | Q(kind=kind.MEMBER, subject=str(claims["sub"]))
        | Q(kind=kind.AGENT, subject__in=agents)
        | Q(kind=kind.GRANT, subject__in=grants)
        | Q(kind=kind.TOKEN, subject__in=[one["jti"] for one in behind])
    )
    standing = Revocation.objects.filter(named, tenant=tenant, at__gte=issued)
    if standing.filter(Q(lifted_at=None) | Q(lifted_at__gte=issued)).exists():
        return True
    live = sum(grant.is_live for grant in Grant.objects.filter(tenant=tenant, pk__in=grants))
    active = sum(agent.is_active for agent in Agent.objects.filter(tenant=tenant, pk__in=agents))
    return (live, active) != (len(grants), len(agents))


def actors_of(claims: dict[str, Any]) -> list[str]:
    """Every agent of ours in `act` (RFC 8693 §4.1), the one that acts now first; none in what an agent got for itself.

    Actors with an `iss` are of another issuer (`trust/act.py`): they came before all of ours and are nothing here.
    """
    found, act = [], claims.get("act")
    while act and "iss" not in act:
        found.append(str(act["sub"]))
        act = act.get("act")
    return found


def strangers_of(claims: dict[str, Any]) -> list[dict[str, str]]:
    """The actors of other issuers in `act`, the latest first: `iss` and `sub` of each."""
    found, act = [], claims.get("act")
    while act:
        if "iss" in act:
            found.append({"iss": str(act["iss"]), "sub": str(act["sub"])})
        act = act.get("act")
    return found


def is_for_agent(claims: dict[str, Any]) -> bool:
    """Is `sub` an agent that acts for itself, or began to? Else it is a person."""
    return not claims.get("act") or claims.get("sub_profile") == AGENT_PROFILE


def agents_of(claims: dict[str, Any]) -> list[str]:
    """Every agent in a token, the one that acts now first, the one that began last."""
    return actors_of(claims) + ([str(claims["sub"])] if is_for_agent(claims) else [])


def tokens_behind(claims: dict[str, Any]) -> list[dict[str, str]]:
    """What this token and those it was exchanged from say of themselves, the latest first."""
    return [{name: str(claims[name]) for name in ("grant_id", "jti", "aud", "scope")}, *claims.get("via", [])]
