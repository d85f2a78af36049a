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
from agentauth.grants.arguments import hash_of
from agentauth.grants.granting import offerable
from agentauth.keys.addresses import issuer
from agentauth.keys.ring import RingError
from agentauth.keys.signing import NoSigningKey, sign
from agentauth.oauth.authorization_details import narrowed, read_details, scope_for
from agentauth.oauth.authorization_request import PROTOCOL_SCOPES
from agentauth.oauth.client_authentication import authenticate_client
from agentauth.oauth.door import Answer, Call, oauth_endpoint
from agentauth.oauth.errors import (
    InvalidDPoPProof,
    InvalidGrant,
    InvalidScope,
    InvalidTarget,
    TemporarilyUnavailable,
    UnauthorizedClient,
    UnsupportedGrantType,
)
from agentauth.oauth.grants import GRANT_TYPES, jwt_bearer, token_exchange
from agentauth.oauth.grants.authority import Authority
from agentauth.oauth.models import RefreshToken
from agentauth.oauth.own_token import AGENT_PROFILE, agents_of, strangers_of
from agentauth.oauth.parameters import Parameters, from_form, scope_names
from agentauth.oauth.possession import prove_possession, read_possession
from agentauth.oauth.target import audience
from agentauth.oauth.trust.issuers import learn_foreign_keys
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
    shown = read_possession(call, "token")  # RFC 9449 §5
    client = authenticate_client(call, asked)
    prove_possession(call, client, shown)
    if grant_type not in client.grant_types:
        raise UnauthorizedClient("This client is not registered for this grant type.", reason="grant_not_registered")
    learn_foreign_keys(call.tenant, asked)
    with in_tenant(call.tenant.id):
        authority = prove(asked, client)  # under a row lock, nothing used up yet
        require_same_key(authority, call)
        require_a_key(authority, call)
        authority = narrow(authority, asked, client, call)
        return Answer(issue(authority, client, call))


def require_same_key(authority: Authority, call: Call) -> None:
    """What was bound to a key is of no use without it (RFC 9449 §5, §10); it stays good for who holds the key."""
    if authority.bound_to and authority.bound_to != call.jkt:
        raise InvalidGrant("This is bound to another key.", reason="bound_to_another_key", grant=authority.grant)


def require_a_key(authority: Authority, call: Call) -> None:
    """A resource may take bound tokens only (RFC 9728 §2), whoever asks."""
    if authority.grant.resource.dpop_bound_access_tokens_required and not call.jkt:
        raise InvalidDPoPProof(
            "This resource takes bound tokens only. Send a DPoP proof.",
            reason="bound_tokens_only",
            grant=authority.grant,
        )


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
    if authority.gives_part:
        names = [name for name in names if name in authority.scope] or names
    if not set(names) <= set(authority.scope):
        raise InvalidScope("More was asked for than was granted.", reason="scope_grows", grant=grant)
    asked_details = read_details(asked.get("authorization_details", ""), client, call.tenant)
    details = narrowed(authority.authorization_details, asked_details)
    if asked_details:  # RFC 9396 §6: from here on only this call, within what was granted
        names = list(scope_for(details, grant.resource, tuple(names)))
    left = tuple(name for name in authority.scope if name in possible and (not names or name in names))
    if not left:
        raise InvalidGrant("Nothing of what was granted is allowed now.", reason="nothing_left", grant=grant)
    return replace(authority, scope=left, authorization_details=details)


def issue(authority: Authority, client: Agent, call: Call) -> dict[str, Any]:
    """The token response (RFC 6749 §5.1); writes the event and the next refresh token in the same transaction."""
    grant, tenant = authority.grant, call.tenant
    jti, at = new_id(), int(time.time())
    ends = [at + settings.KNOBS.access_token_seconds, int(grant.expires_at.timestamp())]
    if client.valid_until is not None:
        ends.append(int(client.valid_until.timestamp()))
    if authority.delegation is not None and authority.delegation.expires is not None:
        ends.append(authority.delegation.expires)
    expires = min(ends)
    if expires <= at:  # it ends within this second
        raise InvalidGrant("What was allowed has ended.", reason="grant_ended", grant=grant)
    claims = access_claims(authority, client, call, jti=jti, iat=at, exp=expires)
    try:
        answer: dict[str, Any] = {
            "access_token": sign(tenant.id, claims, "at+jwt"),
            "token_type": "DPoP" if call.jkt else "Bearer",
            "expires_in": expires - at,
            "scope": claims["scope"],
        }
        if call.grant_type == token_exchange.GRANT_TYPE:
            answer["issued_token_type"] = token_exchange.ACCESS_TOKEN_TYPE  # RFC 8693 §2.2.1
        if call.grant_type == jwt_bearer.GRANT_TYPE:
            answer["resource"] = claims["aud"]  # ID-JAG §4.4.1: what was granted of what the assertion names
        if authority.authorization_details:
            answer["authorization_details"] = claims["authorization_details"]  # RFC 9396 §7
        if authority.openid:
            answer["id_token"] = sign(tenant.id, _id_claims(authority, client, call, at), "JWT")
    except (NoSigningKey, RingError):
        raise TemporarilyUnavailable("No token can be signed here now.", reason="no_signing_key") from None
    authority.spend(jti)
    if authority.family is not None and "refresh_token" in client.grant_types:
        answer["refresh_token"] = _next_refresh_token(authority, client, call, jti)
    record(
        Action.TOKEN_ISSUED,
        tenant_id=tenant.id,
        actor=Actor("agent", str(client.id)),
        agent_id=client.id,
        member_id=grant.member_id,
        grant_id=grant.id,
        resource_id=grant.resource_id,
        **_one_call(authority),
        ip=call.ip,
        details={
            "jti": str(jti),
            "scope": claims["scope"],
            "expires": datetime.fromtimestamp(expires, UTC).isoformat(),
            "grant_type": call.grant_type,
        }
        | ({"chain": agents_of(claims), "via": claims["via"]} if authority.delegation else {})
        | ({"strangers": before} if (before := strangers_of(claims)) else {})
        | ({"jkt": call.jkt} if call.jkt else {})
        | ({"vouched_by": authority.vouched_by} if authority.vouched_by else {}),
    )
    return answer


def _one_call(authority: Authority) -> dict[str, str]:
    """What the event says of a token for one call (RFC 9396): which, and with what arguments by their hash."""
    if not authority.authorization_details:
        return {}
    detail = authority.authorization_details[0]
    return {"operation": detail["actions"][0], "args_hash": hash_of(detail["arguments"])}


def access_claims(authority: Authority, client: Agent, call: Call, *, jti: UUID, iat: int, exp: int) -> dict[str, Any]:
    """RFC 9068 §2.2, with `act` (RFC 8693 §4.1) when it is for a person. Times are seconds since 1970."""
    grant = authority.grant
    claims: dict[str, Any] = {
        "iss": issuer(call.tenant),
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
    claims |= _sign_in(authority)
    if authority.authorization_details:
        claims["authorization_details"] = list(authority.authorization_details)  # RFC 9396 §9.1
    if call.jkt:
        claims["cnf"] = {"jkt": call.jkt}  # RFC 9449 §6.1
    return claims


def _id_claims(authority: Authority, client: Agent, call: Call, at: int) -> dict[str, Any]:
    """OpenID Connect Core §2: who signed in, and nothing more."""
    claims: dict[str, Any] = {
        "iss": issuer(call.tenant),
        "sub": str(authority.grant.member_id),
        "aud": client.client_id,
        "exp": at + settings.KNOBS.access_token_seconds,
        "iat": at,
    }
    claims |= _sign_in(authority)
    return claims | ({"nonce": authority.nonce} if authority.nonce else {})


def _sign_in(authority: Authority) -> dict[str, Any]:
    """How and when the person signed in (RFC 9068 §2.2.1, RFC 9470 §6)."""
    acr = {"acr": authority.acr} if authority.acr else {}
    if authority.auth_time is None:
        return acr
    return {"auth_time": int(authority.auth_time.timestamp()), **acr}


def _next_refresh_token(authority: Authority, client: Agent, call: Call, jti: UUID) -> str:
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
        acr=authority.acr,
        authorization_details=list(authority.family.authorization_details),
        expires_at=min(ends, authority.family.expires_at, authority.grant.expires_at),
        family_expires_at=authority.family.expires_at,
        access_jti=jti,
        # RFC 9449 §5: a public client proves itself by this key alone; any other by its own credential
        jkt=call.jkt if client.token_endpoint_auth_method == "none" else "",
    )
    return secret
