"""The CIBA grant (OpenID Connect CIBA Core §10.1, §11): an agent that asked its person fetches what they answered."""

from agentauth.agents.models import Agent
from agentauth.agents.registering import CIBA
from agentauth.oauth.errors import InvalidGrant
from agentauth.oauth.grants.authority import Authority
from agentauth.oauth.grants.elsewhere import prove_answered
from agentauth.oauth.models import BackchannelRequest
from agentauth.oauth.parameters import Parameters
from tenants.models import secret_hash

GRANT_TYPE = CIBA


def prove(asked: Parameters, client: Agent) -> Authority:
    """Whether it is pinged or not: who is pinged may ask as well (§10.2)."""
    return prove_answered(find(asked.require("auth_req_id"), client), client, called="auth_req_id")


def find(auth_req_id: str, client: Agent) -> BackchannelRequest:
    """The row, locked: of several who present the id at once, the others wait here and then see it spent."""
    rows = BackchannelRequest.objects.filter(tenant_id=client.tenant_id, auth_req_hash=secret_hash(auth_req_id))
    row = rows.select_for_update(of=("self",)).select_related("grant__member__user", "grant__resource").first()
    if row is None:
        raise InvalidGrant("The auth_req_id is not good.", reason="unknown_auth_req_id")
    return row
