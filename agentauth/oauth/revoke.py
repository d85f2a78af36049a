"""Token revocation (RFC 7009): a client gives back what it holds. Says 200 whatever it was (§2.2)."""

from agentauth.oauth.client_authentication import authenticate_client
from agentauth.oauth.door import Answer, Call, oauth_endpoint
from agentauth.oauth.families import revoke_family, revoke_token
from agentauth.oauth.models import RefreshToken
from agentauth.oauth.own_token import read_own_token
from agentauth.oauth.parameters import from_form
from audit.actions import Action
from audit.record import Actor, record
from tenants.models import secret_hash
from tenants.rls import in_tenant


@oauth_endpoint()
def revoke(call: Call) -> Answer:
    asked = from_form(call.body, call.content_type)
    client = authenticate_client(call, asked)
    presented = asked.require("token")
    with in_tenant(call.tenant.id):
        rows = RefreshToken.objects.filter(tenant=call.tenant, token_hash=secret_hash(presented), agent=client)
        row = rows.select_related("grant").first()
        if row is not None:  # §2.1: with a refresh token go the access tokens of the same grant
            ended = revoke_family(call.tenant.id, row.family)
            _record(call, "refresh_token", row.grant_id, row.grant.member_id, ended=ended)
            return Answer(None)
        claims = read_own_token(call.tenant, presented)
        if claims is not None and claims.get("client_id") == client.client_id:
            revoke_token(call.tenant.id, str(claims["jti"]))
            _record(call, "access_token", claims.get("grant_id"), None, jti=str(claims["jti"]))
    return Answer(None)  # unknown, expired or somebody else's: the same answer, so that nobody learns from it


def _record(call: Call, kind: str, grant_id: object, member_id: object, **details: object) -> None:
    assert call.client is not None
    record(
        Action.TOKEN_REVOKED,
        tenant_id=call.tenant.id,
        actor=Actor("agent", str(call.client.id)),
        agent_id=call.client.id,
        grant_id=grant_id,
        member_id=member_id,
        ip=call.ip,
        details={"kind": kind, **details},
    )
