"""An agent that asks its person by itself (OpenID Connect CIBA), over Django's test client."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils.timezone import now

from agentauth.agents.registering import add_secret
from agentauth.oauth.models import BackchannelRequest
from tenants.rls import in_tenant, set_tenant
from tests import cast
from tests.cast import House, events_of
from tests.oauth.browser import Flow

GRANT = "urn:openid:params:grant-type:ciba"
INBOX = "/t/acme/my/inbox/"
NOTIFY = "https://assistant.example/ping"
PING = {"backchannel_token_delivery_mode": "ping", "backchannel_client_notification_endpoint": NOTIFY}


def asking_flow(house: House, metadata: dict[str, str] | None = None, **changes: Any) -> Flow:
    """Matt's assistant as an admin registers it; Matt's own browser beside it."""
    with transaction.atomic():
        set_tenant(house.tenant.id)
        agent = cast.assistant(house, **changes)
        agent.client_metadata = metadata or {}
        agent.save(update_fields=["client_metadata"])
        secret = "" if agent.token_endpoint_auth_method == "none" else add_secret(agent, by=house.owner)[1]
    return Flow(house, agent, secret).sign_in()


def begin(flow: Flow, **changes: Any) -> Any:
    asked = {
        "scope": "openid rooms:read meeting:enter",
        "resource": flow.resource,
        "login_hint": "matt@acme.example",
        "binding_message": "Room for 10:00, W4-SCT",
    }
    asked |= flow.proof() | changes
    return flow.post("bc-authorize", {name: value for name, value in asked.items() if value is not None})


def begun(flow: Flow, **changes: Any) -> str:
    answer = begin(flow, **changes)
    assert answer.status_code == 200, answer.content
    return str(answer.json()["auth_req_id"])


def fetch(flow: Flow, auth_req_id: str, **changes: Any) -> Any:
    return flow.post("token", {"grant_type": GRANT, "auth_req_id": auth_req_id} | flow.proof() | changes)


def rows_of(flow: Flow) -> list[BackchannelRequest]:
    with in_tenant(flow.house.tenant.id):
        return list(BackchannelRequest.objects.filter(tenant=flow.house.tenant).order_by("id"))


def question(flow: Flow, browser: Any = None) -> Any:
    """The newest question's page in the person's browser."""
    return (browser or flow.browser).get(f"{INBOX}asks/{rows_of(flow)[-1].id}/")


def answer(flow: Flow, said: str = "allow", **changes: Any) -> Any:
    return flow.answer(question(flow), said, **changes)


def wait_over(flow: Flow) -> None:
    """As if the interval had gone by since the last poll."""
    with in_tenant(flow.house.tenant.id):
        for row in BackchannelRequest.objects.filter(tenant=flow.house.tenant):
            row.polled_at = now() - timedelta(seconds=row.interval)
            row.save(update_fields=["polled_at"])


def refused_for(flow: Flow, action: str = "authorization.refused") -> list[str]:
    return [event.reasons[0] for event in events_of(flow.house.tenant.id, action)]
