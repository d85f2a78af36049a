"""Token introspection (RFC 7662): a client that proves itself learns about its own tokens, and about no others."""

from typing import Any

from django.utils.timezone import now

from agentauth.agents.models import Agent
from agentauth.oauth.client_authentication import authenticate_client
from agentauth.oauth.door import Answer, Call, oauth_endpoint
from agentauth.oauth.errors import InvalidClient
from agentauth.oauth.models import RefreshToken
from agentauth.oauth.own_token import read_own_token
from agentauth.oauth.parameters import from_form
from tenants.models import secret_hash
from tenants.rls import in_tenant

_SAID = ("scope", "client_id", "exp", "iat", "sub", "aud", "iss", "jti", "act", "auth_time", "grant_id")
_INACTIVE = {"active": False}


@oauth_endpoint()
def introspect(call: Call) -> Answer:
    asked = from_form(call.body, call.content_type)
    client = authenticate_client(call, asked)
    if client.token_endpoint_auth_method == "none":  # §2.1: the caller MUST be authenticated
        raise InvalidClient("Introspection is for clients that prove who they are.", reason="public_client")
    presented = asked.require("token")
    with in_tenant(call.tenant.id):
        claims = read_own_token(call.tenant, presented)
        if claims is not None:
            if claims["client_id"] != client.client_id:
                return Answer(_INACTIVE)  # §2.2: not for this caller is the same as not good
            return Answer({"active": True, "token_type": "Bearer", **{n: claims[n] for n in _SAID if n in claims}})
        return Answer(_refresh_token(client, presented))


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
