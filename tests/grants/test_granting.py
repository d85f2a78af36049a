"""Giving, narrowing and ending grants."""

from datetime import timedelta

import pytest
from django.utils.timezone import now

from agentauth.agents.models import WrongState
from agentauth.grants.granting import NotGrantable, give, live_grant, offerable
from agentauth.grants.leaving import deactivate
from agentauth.grants.models import Grant
from agentauth.grants.tasks import sweep_expired
from agentauth.resources.ceilings import set_ceiling
from audit.actions import Action
from audit.record import Actor, record
from tenants.models import Member, Revocation
from tests.cast import acme, assistant, matts_grant

pytestmark = pytest.mark.django_db


def test_a_grant_is_on_record_with_what_it_allows():
    house = acme()
    agent = assistant(house)
    grant = matts_grant(house, agent)
    [event] = house.events(Action.GRANT_GIVEN)
    assert (event.agent_id, event.member_id, event.grant_id) == (agent.id, house.members["matt"].id, grant.id)
    assert event.details["permissions"]["finance:enter"] == "never"
    assert live_grant(agent, house.office, house.members["matt"]) == grant


def test_a_second_grant_replaces_the_first_and_voids_its_tokens():
    house = acme()
    agent = assistant(house)
    first, second = matts_grant(house, agent), matts_grant(house, agent)
    first.refresh_from_db()
    assert first.end_reason == Grant.EndReason.REPLACED
    assert live_grant(agent, house.office, house.members["matt"]) == second
    assert Revocation.objects.filter(tenant=house.tenant, kind="grant", subject=str(first.id)).exists()


@pytest.mark.parametrize(
    ("permissions", "field"),
    [
        ({}, "permissions"),
        ({"rooms:read": "never"}, "permissions"),
        ({"rooms:read": "sometimes"}, "permissions"),
        ({"finance:enter": "always"}, "permissions"),
    ],
)
def test_what_cannot_be_granted_names_its_field(permissions, field):
    house = acme()
    agent = assistant(house)
    with pytest.raises(NotGrantable) as refused:
        give(
            agent=agent,
            resource=house.office,
            member=house.members["matt"],
            by=house.members["matt"],
            permissions={house.scope(name): mode for name, mode in permissions.items()},
            expires_at=now() + timedelta(days=1),
        )
    assert refused.value.field == field
    assert house.events(Action.GRANT_GIVEN) == []


@pytest.mark.parametrize("ends_in", [timedelta(0), timedelta(days=-1), timedelta(days=367)])
def test_a_grant_ends_within_a_year(ends_in):
    house = acme()
    with pytest.raises(NotGrantable) as refused:
        give(
            agent=assistant(house),
            resource=house.office,
            member=house.members["matt"],
            by=house.members["matt"],
            permissions={house.scope("rooms:read"): "always"},
            expires_at=now() + ends_in,
        )
    assert refused.value.field == "expires_at"


def test_nothing_above_the_ceiling_is_offered_or_granted():
    house = acme()
    agent = assistant(house)
    set_ceiling(agent, [house.scope("rooms:read")], by=house.owner)
    assert [scope.name for scope in offerable(agent, house.office, house.members["matt"])] == ["rooms:read"]
    with pytest.raises(NotGrantable):
        matts_grant(house, agent)


def test_an_agent_that_introduced_itself_is_offered_only_its_risk_class():
    house = acme()
    agent = assistant(house)
    set_ceiling(agent, [], by=house.owner)
    assert offerable(agent, house.office, house.members["matt"]) == []
    agent.registration, agent.ceiling_risk = "document", "read"
    agent.save()
    assert [scope.name for scope in offerable(agent, house.office, house.members["matt"])] == ["rooms:read"]


def test_a_member_cannot_hand_on_rights_of_an_admin():
    house = acme()
    agent = assistant(house)
    management = house.tenant.resources.get(kind="management")
    set_ceiling(agent, list(management.scopes.all()), by=house.owner)
    offered = {scope.name for scope in offerable(agent, management, house.members["matt"])}
    assert offered == {"grants:read", "events:read"}
    assert "agents:write" in {scope.name for scope in offerable(agent, management, house.members["ada"])}


def test_revoking_says_what_ended_and_happens_once():
    house = acme()
    agent = assistant(house)
    grant = matts_grant(house, agent)
    record(
        Action.TOKEN_ISSUED,
        tenant_id=house.tenant.id,
        actor=Actor("agent", str(agent.id)),
        agent_id=agent.id,
        grant_id=grant.id,
    )
    ended = grant.revoke(by=house.members["matt"])
    assert (ended.grants, ended.tokens) == (1, 1)
    assert house.events(Action.GRANT_REVOKED)[0].details == {"reason": "revoked", "tokens_ended": 1}
    with pytest.raises(WrongState):
        grant.revoke(by=house.members["matt"])


def test_a_grant_can_be_narrowed_but_not_widened():
    house = acme()
    grant = matts_grant(house, assistant(house))
    matt = house.members["matt"]
    grant.narrow(by=matt, permissions={house.scope("meeting:enter"): "ask"}, expires_at=now() + timedelta(days=2))
    assert house.events(Action.GRANT_NARROWED)[0].details["changed"]["meeting:enter"] == "ask"
    with pytest.raises(WrongState):
        grant.narrow(by=matt, permissions={house.scope("finance:enter"): "ask"})
    with pytest.raises(WrongState):
        grant.narrow(by=matt, expires_at=now() + timedelta(days=20))


def test_the_sweep_closes_expired_grants_and_records_them():
    house = acme()
    agent = assistant(house)
    grant = matts_grant(house, agent)
    Grant.objects.filter(pk=grant.pk).update(expires_at=now() - timedelta(seconds=1))
    assert live_grant(agent, house.office, house.members["matt"]) is None
    assert sweep_expired() == 1
    [event] = house.events(Action.GRANT_EXPIRED)
    assert (event.actor_kind, event.grant_id) == ("task", grant.id)
    assert sweep_expired() == 0


def test_a_person_who_leaves_takes_their_grants_and_agents_with_them():
    house = acme()
    agent = assistant(house)
    matts_grant(house, agent)
    ended = deactivate(house.members["matt"], by=house.owner)
    agent.refresh_from_db()
    assert (ended.grants, agent.state) == (1, "suspended")
    assert house.events(Action.MEMBER_DEACTIVATED)[0].details["grants_ended"] == 1
    assert Revocation.objects.filter(kind="member", subject=str(house.members["matt"].id)).exists()


def test_the_last_owner_cannot_leave():
    house = acme()
    with pytest.raises(WrongState):
        deactivate(house.members["ada"], by=house.owner)
    assert Member.objects.get(pk=house.owner.pk).deactivated_at is None
