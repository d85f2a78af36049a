"""Nobody gets, or hands on, more than they have themselves."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.utils.timezone import now

from agentauth.agents.models import TrustedIssuer
from agentauth.grants.distrusting import suspend_issuer
from agentauth.grants.leaving import deactivate
from agentauth.grants.models import Grant
from tenants.founding import join
from tenants.models import Member, Role
from tests import cast
from tests.api.tokens import Api, helper_of, management_agent, management_grant, robot, token
from tests.oauth.provider import IDP, Provider

pytestmark = pytest.mark.django_db


def test_an_admin_cannot_let_an_owner_go_by_any_door() -> None:
    house = cast.acme()
    join(house.tenant, email="olaf@acme.example", name="Olaf", role=Role.OWNER, actor=cast.CAST)
    admin = join(house.tenant, email="adam@acme.example", name="Adam", role=Role.ADMIN, actor=cast.CAST)
    with pytest.raises(ValidationError):
        deactivate(house.owner, by=admin)
    assert Member.objects.get(pk=house.owner.pk).deactivated_at is None
    assert house.events("member.deactivated") == []


HANDED_ON: dict[str, tuple[str, dict[str, Any]]] = {
    "always, where its own says ask": ("permissions", {"permissions": [{"scope": "agents:read", "mode": "always"}]}),
    "for longer": ("expires_at", {"expires_at": (now() + timedelta(days=200)).isoformat()}),
}


@pytest.mark.parametrize("case", HANDED_ON)
def test_an_agent_hands_on_nothing_more_freely_or_for_longer_than_it_has_it(case: str) -> None:
    house = cast.acme()
    robot, other = management_agent(house, "Robot"), management_agent(house, "Other")
    own = management_grant(house, robot, None, {"grants:write": "always", "agents:read": "ask"})
    field, changes = HANDED_ON[case]
    wish = {
        "agent": str(other.id),
        "resource": "agentauth",
        "for_itself": True,
        "permissions": [{"scope": "agents:read", "mode": "ask"}],
        "expires_at": (now() + timedelta(hours=1)).isoformat(),
    }
    answer = Api(house, token(house, own, "grants:write", "agents:read")).post("/grants", wish | changes)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert not Grant.objects.filter(tenant=house.tenant, agent=other).exists()


def test_an_agent_for_itself_has_nobody_believed_who_speaks_for_people() -> None:
    """With an identity provider of its own it would be any member, at any resource, by the next ID-JAG."""
    house = cast.acme()
    said = {"kind": "enterprise", "name": "SSO", "issuer": IDP, "keys_from": "pasted", "jwks": Provider().jwks}
    api = robot(house)
    assert api.post("/trusted-issuers", said).status_code == 409
    assert not TrustedIssuer.objects.exists()
    assert house.events("call.refused")[-1].status == 409
    made = Provider().trusted_by(house)
    suspend_issuer(made, by=house.owner)
    assert api.post(f"/trusted-issuers/{made.id}/let-back").status_code == 409  # an admin stopped it
    made.refresh_from_db()
    assert not made.is_trusted
    ada = helper_of(house, house.owner, agents__write="ask")
    assert ada.post(f"/trusted-issuers/{made.id}/let-back").json()["ask_at"]  # a person is asked about this very call


def test_an_agent_for_itself_gives_itself_no_way_into_anothers_grants() -> None:
    house = cast.acme()
    other, api = management_agent(house, "Other"), robot(house)
    assert api.post(f"/agents/{other.id}/credentials", {"kind": "secret"}).status_code == 201  # it has nothing yet
    management_grant(house, other, None, {"grants:write": "always"})
    assert api.post(f"/agents/{other.id}/credentials", {"kind": "secret"}).status_code == 409
    assert other.credentials.count() == 1 and len(house.events("credential.added")) == 1
    assert house.events("call.refused")[-1].status == 409


@pytest.mark.parametrize("leaver", ["agent", "resource"])
def test_what_is_retired_leaves_no_grant_behind(leaver: str) -> None:
    house = cast.acme()
    agent = cast.assistant(house)
    grant = cast.matts_grant(house, agent)
    owner = cast.signed_in(house.owner)
    if leaver == "agent":
        path, said = f"/t/acme/agents/{agent.id}/retire/", {"name": agent.name}
    else:
        path, said = "/t/acme/resources/office/retire/", {}
    assert owner.post(path, said).status_code == 303
    assert owner.post(path, said).status_code in (303, 404)  # a second time changes nothing
    grant.refresh_from_db()
    assert grant.ended_at is not None
    (event,) = house.events("grant.revoked")
    assert (event.grant_id, event.actor) == (grant.id, str(house.owner.id))
