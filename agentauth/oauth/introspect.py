"""Token introspection (RFC 7662): a client learns about its own tokens, a resource's own server about those for it."""

from typing import Any

from django.utils.timezone import now

from agentauth.agents.models import Agent
from agentauth.oauth.client_authentication import authenticate_client
from agentauth.oauth.door import Answer, Call, oauth_endpoint
from agentauth.oauth.errors import InvalidClient
from agentauth.oauth.models import RefreshToken
from agentauth.oauth.own_token import read_own_token
from agentauth.oauth.parameters import from_form
from agentauth.oauth.resource_server import find_resource_server
from agentauth.oauth.signed_introspection import is_wanted, signed
from agentauth.oauth.target import audience
from agentauth.resources.models import Resource
from tenants.models import secret_hash
from tenants.rls import in_tenant

# RFC 7662 §2.2, RFC 8693 §4.1, RFC 9449 §6.2, RFC 9396 §9.2, RFC 9470 §6.2. No names of people: `sub` is all there is
_SAID = (
    "scope", "client_id", "exp", "iat", "sub", "aud", "iss", "jti", "act", "may_act", "cnf", "authorization_details",
    "acr", "auth_time", "grant_id",
)  # fmt: skip
_INACTIVE = {"active": False}


@oauth_endpoint()
def introspect(call: Call) -> Answer:
    asked = from_form(call.body, call.content_type)
    server = find_resource_server(call, asked)
    if server is not None:
        me = audience(call.tenant, server)
        presented = asked.require("token")
        with in_tenant(call.tenant.id):
            claims = read_own_token(call.tenant, presented)
            said = _access_token(claims) if claims is not None and _is_for(server, me, claims) else _INACTIVE
            return _answer(call, said, to=me)
    client = authenticate_client(call, asked)
    if client.token_endpoint_auth_method == "none":  # §2.1: the caller MUST be authenticated
        raise InvalidClient("Introspection is for clients that prove who they are.", reason="public_client")
    presented = asked.require("token")
    with in_tenant(call.tenant.id):
        claims = read_own_token(call.tenant, presented)
        if claims is None:
            said = _refresh_token(client, presented)
        else:  # §2.2: not for this caller is the same as not good
            said = _access_token(claims) if claims["client_id"] == client.client_id else _INACTIVE
        always = "introspection_signed_response_alg" in client.client_metadata  # RFC 9701 §6
        return _answer(call, said, to=client.client_id, always_signed=always)


def _is_for(server: Resource, me: str, claims: dict[str, Any]) -> bool:
    """Another resource's token is not good here, nor one without a key where only bound ones are taken."""
    return bool(claims["aud"] == me and ("cnf" in claims or not server.dpop_bound_access_tokens_required))


def _answer(call: Call, said: dict[str, Any], *, to: str, always_signed: bool = False) -> Answer:
    if always_signed or is_wanted(call.accept):
        return signed(call.tenant, said, audience=to)
    return Answer(said)


def _access_token(claims: dict[str, Any]) -> dict[str, Any]:
    bound = "jkt" in (claims.get("cnf") or {})
    said = {"active": True, "token_type": "DPoP" if bound else "Bearer"}
    return said | {name: claims[name] for name in _SAID if name in claims}


def _refresh_token(client: Agent, presented: str) -> dict[str, Any]:
    rows = RefreshToken.objects.filter(tenant_id=client.tenant_id, token_hash=secret_hash(presented), agent=client)
    row = rows.select_related("grant").filter(spent_at=None, revoked_at=None, expires_at__gt=now()).first()
    if row is None or not row.grant.is_live:
        return _INACTIVE
    return {
        "active": True,
        "token_type": "refresh_token",
        "client_id": client.client_id,
        "scope": row.scope,
        "exp": int(row.expires_at.timestamp()),
        "iat": int(row.created_at.timestamp()),
        "sub": str(row.grant.member_id),
    }
