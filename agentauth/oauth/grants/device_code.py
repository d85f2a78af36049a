"""The device grant (RFC 8628 §3.4): a device asks again and again until its person has answered elsewhere."""

from agentauth.agents.models import Agent
from agentauth.oauth.errors import InvalidGrant
from agentauth.oauth.grants.authority import Authority
from agentauth.oauth.grants.elsewhere import prove_answered
from agentauth.oauth.models import DeviceRequest
from agentauth.oauth.parameters import Parameters
from tenants.models import secret_hash

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:device_code"


def prove(asked: Parameters, client: Agent) -> Authority:
    return prove_answered(find(asked.require("device_code"), client), client, called="device_code")


def find(device_code: str, client: Agent) -> DeviceRequest:
    """The row, locked: of several who present the code at once, the others wait here and then see it spent."""
    rows = DeviceRequest.objects.filter(tenant_id=client.tenant_id, device_hash=secret_hash(device_code))
    row = rows.select_for_update(of=("self",)).select_related("grant__member__user", "grant__resource").first()
    if row is None:
        raise InvalidGrant("The device code is not good.", reason="unknown_device_code")
    return row
