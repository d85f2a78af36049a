"""Registering, stopping and letting back in."""

from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.utils.timezone import now

from agentauth.agents.badge import verification_line
from agentauth.agents.face import face
from agentauth.agents.models import Agent, WrongState
from agentauth.agents.registering import add_key, add_secret, register_agent
from audit.actions import Action
from audit.record import Actor, record
from tenants.models import Revocation, secret_hash
from tests.cast import acme, assistant

pytestmark = pytest.mark.django_db

EC_KEY = {
    "kty": "EC",
    "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}


def test_registering_gives_a_numbered_badge_and_is_on_record():
    house = acme()
    first, second = assistant(house), assistant(house, name="Night porter")
    assert (first.number, second.number) == (1, 2)
    assert first.is_active and first.is_approved and first.client_id == str(first.id)
    event = house.events(Action.AGENT_REGISTERED)[0]
    assert (event.actor, event.details["name"]) == (str(house.owner.id), "Matt's assistant")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 81}, "name"),
        ({"kind": "human"}, "kind"),
        ({"auth_method": "password"}, "auth_method"),
        ({"kind": "autonomous", "auth_method": "none"}, "auth_method"),
    ],
)
def test_bad_input_names_its_field(changes, field):
    house = acme()
    with pytest.raises((ValidationError, ValueError)) as refused:
        assistant(house, **changes)
    if isinstance(refused.value, ValidationError):
        assert field in refused.value.message_dict
    assert house.events(Action.AGENT_REGISTERED) == []


@pytest.mark.parametrize("days", [-1, 0, 367])
def test_a_badge_ends_within_a_year(days):
    house = acme()
    with pytest.raises(ValidationError) as refused:
        assistant(house, valid_until=now() + timedelta(days=days))
    assert "valid_until" in refused.value.message_dict


def test_another_tenants_person_cannot_own_an_agent():
    house, other = acme(), acme("initech")
    with pytest.raises(ValidationError) as refused:
        register_agent(other.tenant, by=other.owner, name="A", purpose="", owner=house.owner, kind="delegated")
    assert "owner" in refused.value.message_dict


def test_a_secret_is_kept_as_a_hash_and_two_may_live():
    house = acme()
    agent = assistant(house)
    credential, secret = add_secret(agent, by=house.owner)
    assert (credential.secret_hash, credential.hint) == (secret_hash(secret), secret[-4:])
    assert secret not in str(house.events(Action.CREDENTIAL_ADDED)[0].body)
    add_key(agent, EC_KEY, by=house.owner)
    with pytest.raises(WrongState):
        add_secret(agent, by=house.owner)
    credential.retire(by=house.owner)
    add_secret(agent, by=house.owner)
    assert len(house.events(Action.CREDENTIAL_RETIRED)) == 1


@pytest.mark.parametrize(
    "key",
    [
        {**EC_KEY, "d": "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"},
        {**EC_KEY, "x": "AAAA"},
        {"kty": "oct", "k": "c2VjcmV0"},
        {"kty": "EC"},
        {},
        [],
    ],
)
def test_a_private_or_broken_key_is_refused(key):
    house = acme()
    agent = assistant(house)
    with pytest.raises(ValidationError) as refused:
        add_key(agent, key, by=house.owner)
    assert "key" in refused.value.message_dict
    assert house.events(Action.CREDENTIAL_ADDED) == []


def test_stopping_voids_tokens_and_letting_back_needs_new_ones():
    house = acme()
    agent = assistant(house)
    record(Action.TOKEN_ISSUED, tenant_id=house.tenant.id, actor=Actor("agent", str(agent.id)), agent_id=agent.id)
    ended = agent.suspend(by=house.owner, reason="On leave")
    assert (ended.tokens, agent.state, agent.is_active) == (1, "suspended", False)
    ban = Revocation.objects.get(kind="agent", subject=str(agent.id))
    assert ban.lifted_at is None
    with pytest.raises(WrongState):
        agent.suspend(by=house.owner)
    agent.let_back(by=house.owner)
    ban.refresh_from_db()
    assert ban.lifted_at is not None and agent.is_active
    assert [e.details["reason"] for e in house.events(Action.AGENT_SUSPENDED)] == ["On leave"]
    assert len(house.events(Action.AGENT_LET_BACK)) == 1


def test_a_retired_badge_stays_void():
    house = acme()
    agent = assistant(house)
    agent.retire(by=house.owner)
    for act in (lambda: agent.let_back(by=house.owner), lambda: agent.suspend(by=house.owner)):
        with pytest.raises(WrongState):
            act()
    assert Agent.objects.get(pk=agent.pk).state == "retired"


def test_a_badge_past_its_day_is_not_active():
    house = acme()
    agent = assistant(house, valid_until=now() + timedelta(days=2))
    agent.valid_until = now() - timedelta(seconds=1)
    assert not agent.is_active


def test_a_change_is_recorded_with_before_and_after():
    house = acme()
    agent = assistant(house)
    agent.change(by=house.owner, purpose="Books rooms")
    agent.change(by=house.owner, purpose="Books rooms")
    [event] = [e for e in house.events(Action.AGENT_CHANGED) if "after" in e.details]
    assert event.details["after"] == {"purpose": "Books rooms"}


def test_the_verification_line_is_stable_and_notices_a_change():
    house = acme()
    agent = assistant(house)
    first, second = verification_line(agent)
    assert first.startswith("AGENT<ACME<<MATTS<ASSISTANT") and len(first) == len(second) == 33
    assert verification_line(agent) == (first, second)
    agent.number = 8
    assert verification_line(agent)[1][-2:] != second[-2:]


def test_a_face_is_the_same_for_the_same_name_and_carries_no_markup_of_it():
    assert face("Matt's assistant", "acme") == face("MATT'S ASSISTANT", "acme")
    assert face("a", "acme") != face("a", "globex")
    assert "<script" not in face("<script>alert(1)</script>", "acme")
