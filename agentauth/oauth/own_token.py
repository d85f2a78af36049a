"""Reading an access token of this very issuer: signature, type, times and whether anything behind it was revoked."""

from datetime import UTC, datetime
from typing import Any

import jwt
from django.db.models import Q

from agentauth.agents.models import Agent
from agentauth.grants.models import Grant
from agentauth.keys.addresses import issuer
from agentauth.keys.signing import public_keys
from tenants.models import Revocation, Tenant

_NEEDED = ["exp", "iat", "iss", "sub", "aud", "jti", "client_id", "grant_id"]


def read_own_token(tenant: Tenant, presented: str) -> dict[str, Any] | None:
    """The claims of a token that counts now, or None. In the tenant's transaction."""
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
            issuer=issuer(tenant.slug),
            options={"require": _NEEDED, "verify_aud": False},
        )
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        return None
    return None if is_void(tenant, claims) else claims


def is_void(tenant: Tenant, claims: dict[str, Any]) -> bool:
    """Was the tenant, person, agent, grant or the token itself revoked at or after `iat`, or has the grant ended?"""
    issued = datetime.fromtimestamp(int(claims["iat"]), UTC)
    agent_id = str((claims.get("act") or {}).get("sub") or claims["sub"])
    kind = Revocation.Kind
    named = (
        Q(kind=kind.TENANT, subject=str(tenant.id))
        | Q(kind=kind.MEMBER, subject=str(claims["sub"]))
        | Q(kind=kind.AGENT, subject=agent_id)
        | Q(kind=kind.GRANT, subject=str(claims.get("grant_id")))
        | Q(kind=kind.TOKEN, subject=str(claims["jti"]))
    )
    standing = Revocation.objects.filter(named, tenant=tenant, at__gte=issued)
    if standing.filter(Q(lifted_at=None) | Q(lifted_at__gte=issued)).exists():
        return True
    grant = Grant.objects.filter(tenant=tenant, pk=claims["grant_id"]).first()
    agent = Agent.objects.filter(tenant=tenant, pk=agent_id).first()
    return grant is None or not grant.is_live or agent is None or not agent.is_active
