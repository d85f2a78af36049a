"""Token endpoint (OAuth 2.1 §3.2): a proven grant becomes a short access token. The steps that every grant shares."""

import secrets
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.utils.timezone import now

from agentauth.agents.models import Agent
from agentauth.grants.granting import offerable
from agentauth.keys.addresses import issuer
from agentauth.keys.ring import RingError
from agentauth.keys.signing import NoSigningKey, sign
from agentauth.oauth.authorization_request import PROTOCOL_SCOPES
from agentauth.oauth.client_authentication import authenticate_client
from agentauth.oauth.door import Answer, Call, oauth_endpoint
from agentauth.oauth.errors import (
    InvalidGrant,
    InvalidScope,
    InvalidTarget,
    TemporarilyUnavailable,
    UnauthorizedClient,
    UnsupportedGrantType,
)
from agentauth.oauth.grants import GRANT_TYPES
from agentauth.oauth.grants.authority import Authority
from agentauth.oauth.grants.token_exchange import ACCESS_TOKEN_TYPE
from agentauth.oauth.models import RefreshToken
from agentauth.oauth.own_token import AGENT_PROFILE, agents_of
from agentauth.oauth.parameters import Parameters, from_form, scope_names
from agentauth.oauth.target import audience
from audit.actions import Action
from audit.record import Actor, record
from tenants.models import secret_hash
from tenants.rls import in_tenant, new_id


@oauth_endpoint()
def token(call: Call) -> Answer:
    asked = from_form(call.body, call.content_type)
    grant_type = asked.require("grant_type")
    prove = GRANT_TYPES.get(grant_type)
    if prove is None:
        raise UnsupportedGrantType("This grant type is not supported.")
    call.grant_type = grant_type
    client = authenticate_client(call, asked)
    if grant_type not in client.grant_types:
        raise UnauthorizedClient("This client is not registered for this grant type.", reason="grant_not_registered")
    with in_tenant(call.tenant.id):
        authority = prove(asked, client)  # under a row lock, nothing used up yet
        authority = narrow(authority, asked, client, call)
        return Answer(issue(authority, client, call))


def narrow(authority: Authority, asked: Parameters, client: Agent, call: Call) -> Authority:
    """Only less than was proven, and only what grant, ceiling and person's rights allow now (RFC 6749 §6, RFC 8707)."""
    grant = authority.grant
    if asked.resource and asked.resource != audience(call.tenant, grant.resource):
        raise InvalidTarget(
            "The token can only be for the resource that was consented.", reason="other_resource", grant=grant
        )
    granted = set(grant.permissions.exclude(mode="never").values_list("scope__name", flat=True))
    possible = {scope.name for scope in offerable(client, grant.resource, grant.member)} & granted
    names = [name for name in scope_names(asked.get("scope", "")) if name not in PROTOCOL_SCOPES]
    if not set(names) <= set(authority.scope):
        raise InvalidScope("More was asked for than was granted.", reason="scope_grows", grant=grant)
    left = tuple(name for name in authority.scope if name in possible and (not names or name in names))
    if not left:
        raise InvalidGrant("Nothing of what was granted is allowed now.", reason="nothing_left", grant=grant)
    return replace(authority, scope=left)


def issue(authority: Authority, client: Agent, call: Call) -> dict[str, Any]:
    """The token response (RFC 6749 §5.1); writes the event and the next refresh token in the same transaction."""
    grant, tenant = authority.grant, call.tenant
    jti, at = new_id(), int(time.time())
    ends = [at + settings.KNOBS.access_token_seconds, int(grant.expires_at.timestamp())]
    if client.valid_until is not None:
        ends.append(int(client.valid_until.timestamp()))
    if authority.delegation is not None:
        ends.append(authority.delegation.expires)
    expires = min(ends)
    claims = access_claims(authority, client, call, jti=jti, iat=at, exp=expires)
    try:
        answer: dict[str, Any] = {
            "access_token": sign(tenant.id, claims, "at+jwt"),
            "token_type": "Bearer",
            "expires_in": expires - at,
            "scope": claims["scope"],
        }
        if authority.delegation is not None:
            answer["issued_token_type"] = ACCESS_TOKEN_TYPE  # RFC 8693 §2.2.1
        if authority.openid:
            answer["id_token"] = sign(tenant.id, _id_claims(authority, client, call, at), "JWT")
    except (NoSigningKey, RingError):
        raise TemporarilyUnavailable("No token can be signed here now.", reason="no_signing_key") from None
    authority.spend(jti)
    if authority.family is not None and "refresh_token" in client.grant_types:
        answer["refresh_token"] = _next_refresh_token(authority, client, jti)
    record(
        Action.TOKEN_ISSUED,
        tenant_id=tenant.id,
        actor=Actor("agent", str(client.id)),
        agent_id=client.id,
        member_id=grant.member_id,
        grant_id=grant.id,
        resource_id=grant.resource_id,
        ip=call.ip,
        details={
            "jti": str(jti),
            "scope": claims["scope"],
            "expires": datetime.fromtimestamp(expires, UTC).isoformat(),
            "grant_type": call.grant_type,
        }
        | ({"chain": agents_of(claims), "via": claims["via"]} if authority.delegation else {}),
    )
    return answer


def access_claims(authority: Authority, client: Agent, call: Call, *, jti: UUID, iat: int, exp: int) -> dict[str, Any]:
    """RFC 9068 §2.2, with `act` (RFC 8693 §4.1) when it is for a person. Times are seconds since 1970."""
    grant = authority.grant
    claims: dict[str, Any] = {
        "iss": issuer(call.tenant.slug),
        "sub": str(grant.member_id or client.id),
        "aud": audience(call.tenant, grant.resource),
        "client_id": client.client_id,
        "scope": " ".join(authority.scope),
        "exp": exp,
        "iat": iat,
        "jti": str(jti),
        "grant_id": str(grant.id),
    }
    if grant.member_id:
        claims["act"] = {"sub": str(client.id)}
    if (before := authority.delegation) is not None:  # §4.1: the outermost actor is the current one
        claims |= {"sub": before.sub, "act": {"sub": str(client.id)}, "via": before.via}
        claims["act"] |= {"act": before.act} if before.act else {}
        claims |= {"sub_profile": AGENT_PROFILE} if before.sub_is_agent else {}
    if authority.auth_time is not None:
        claims["auth_time"] = int(authority.auth_time.timestamp())
    return claims


def _id_claims(authority: Authority, client: Agent, call: Call, at: int) -> dict[str, Any]:
    """OpenID Connect Core §2: who signed in, and nothing more."""
    claims: dict[str, Any] = {
        "iss": issuer(call.tenant.slug),
        "sub": str(authority.grant.member_id),
        "aud": client.client_id,
        "exp": at + settings.KNOBS.access_token_seconds,
        "iat": at,
    }
    if authority.auth_time is not None:
        claims["auth_time"] = int(authority.auth_time.timestamp())
    return claims | ({"nonce": authority.nonce} if authority.nonce else {})


def _next_refresh_token(authority: Authority, client: Agent, jti: UUID) -> str:
    assert authority.family is not None
    secret = secrets.token_urlsafe(32)
    ends = now() + timedelta(days=settings.KNOBS.refresh_token_days)
    RefreshToken.objects.create(
        tenant_id=client.tenant_id,
        token_hash=secret_hash(secret),
        family=authority.family.id,
        agent=client,
        grant=authority.grant,
        resource_id=authority.grant.resource_id,
        scope=authority.family.scope,
        auth_time=authority.auth_time or now(),
        expires_at=min(ends, authority.family.expires_at, authority.grant.expires_at),
        family_expires_at=authority.family.expires_at,
        access_jti=jti,
    )
    return secret
