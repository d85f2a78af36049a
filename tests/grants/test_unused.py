"""Agents that introduced themselves and that nobody used expire; what is used, approved or blocked stays."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils.timezone import now

from agentauth.agents.models import Agent
from agentauth.grants.models import Grant
from agentauth.grants.tasks import retire_unused
from agentauth.oauth.client_metadata import read_registration
from agentauth.oauth.self_registration import admit
from audit.actions import Action
from audit.record import ANONYMOUS, record
from tests import cast
from tests.cast import House

pytestmark = pytest.mark.django_db
DOCUMENT = "https://tool.example/oauth/client.json"


@pytest.fixture
def acme() -> House:
    return cast.acme()


def newcomer(house: House, *, days: int = 91, client_id: str = "", **fields: Any) -> Agent:
    metadata = read_registration({"redirect_uris": ["http://127.0.0.1/cb"], "token_endpoint_auth_method": "none"})
    kind = Agent.Registration.DOCUMENT if client_id else Agent.Registration.DYNAMIC
    agent = admit(house.tenant, metadata, registration=kind, client_id=client_id, ip="")
    Agent.objects.filter(pk=agent.pk).update(created_at=now() - timedelta(days=days), **fields)
    agent.refresh_from_db()
    return agent


def test_who_was_never_used_for_ninety_days_expires_on_record(acme: House) -> None:
    unused, young = newcomer(acme), newcomer(acme, days=89)
    assert retire_unused() == 1
    states = {one.id: one.state for one in Agent.objects.all()}
    assert (states[unused.id], states[young.id]) == ("retired", "active")
    (event,) = acme.events("agent.retired")
    assert event.agent_id == unused.id and (event.actor_kind, event.actor) == ("task", "grants.retire_unused")
    assert "90 days" in event.details["reason"]
    assert retire_unused() == 0


def test_who_is_used_approved_blocked_or_registered_by_an_admin_stays(acme: House) -> None:
    granted, issued, called = newcomer(acme), newcomer(acme), newcomer(acme, last_seen_at=now() - timedelta(days=80))
    Grant.objects.create(
        tenant=acme.tenant, agent=granted, resource=acme.office, member=acme.members["matt"],
        given_by=acme.members["matt"], expires_at=now() + timedelta(days=1),
    )  # fmt: skip
    record(Action.TOKEN_ISSUED, tenant_id=acme.tenant.id, actor=ANONYMOUS, agent_id=issued.id)
    approved, blocked = newcomer(acme), newcomer(acme)
    approved.approve(by=acme.owner, owner=acme.owner, ceiling_risk="read")
    blocked.suspend(by=acme.owner, reason="Odd")
    own = cast.assistant(acme)
    Agent.objects.filter(pk=own.pk).update(created_at=now() - timedelta(days=400))
    assert retire_unused() == 0
    assert not Agent.objects.filter(state="retired").exists() and called.state == "active"


def test_an_expired_document_may_come_back_and_is_seen_anew(acme: House) -> None:
    first = newcomer(acme, client_id=DOCUMENT)
    assert retire_unused() == 1
    first.refresh_from_db()
    assert first.host == "tool.example" and first.client_id != DOCUMENT
    again = newcomer(acme, days=0, client_id=DOCUMENT)
    assert again.id != first.id and again.is_active and not again.is_approved


def test_the_operator_may_switch_it_off(acme: House, settings: Any) -> None:
    newcomer(acme)
    settings.KNOBS = settings.KNOBS.model_copy(update={"unused_client_days": 0})
    assert retire_unused() == 0
