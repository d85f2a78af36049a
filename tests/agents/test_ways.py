"""How an agent gets in: an admin sees it in plain words and sets it, in the console and over REST."""

from __future__ import annotations

import pytest

from agentauth.agents.models import Agent
from agentauth.agents.registering import TOKEN_EXCHANGE
from agentauth.agents.ways import WAYS
from agentauth.oauth.grants import GRANT_TYPES
from tests import cast
from tests.api.tokens import robot
from tests.cast import House, signed_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def acme() -> House:
    return cast.acme()


def test_every_way_that_the_token_endpoint_knows_has_words() -> None:
    assert set(WAYS) == set(GRANT_TYPES)


def test_an_agent_from_before_token_exchange_gets_it_on_its_page(acme: House) -> None:
    agent = cast.assistant(acme, grant_types=["authorization_code", "refresh_token"])
    browser = signed_in(acme.owner)
    html = browser.get(f"/t/acme/agents/{agent.id}/").content.decode()
    assert "A person says yes in the browser" in html and WAYS[TOKEN_EXCHANGE][0] not in html
    assert WAYS[TOKEN_EXCHANGE][0] in browser.get(f"/t/acme/agents/{agent.id}/ways/").content.decode()
    chosen = ["authorization_code", "refresh_token", TOKEN_EXCHANGE]
    answer = browser.post(f"/t/acme/agents/{agent.id}/ways/", {"grant_types": chosen})
    assert answer.status_code == 303
    agent.refresh_from_db()
    assert set(agent.grant_types) == set(chosen)
    (event,) = [one for one in acme.events("agent.changed") if "after" in one.details]
    assert TOKEN_EXCHANGE in event.details["after"]["grant_types"] and event.actor == str(acme.owner.id)


@pytest.mark.parametrize("chosen", [[], ["refresh_token"], ["password"], ["authorization_code", "implicit"]], ids=str)
def test_what_cannot_be_is_refused_at_the_field(acme: House, chosen: list[str]) -> None:
    agent = cast.assistant(acme)
    page = signed_in(acme.owner).post(f"/t/acme/agents/{agent.id}/ways/", {"grant_types": chosen})
    assert page.status_code == 422 and "Not saved yet" in page.content.decode()
    answer = robot(acme).patch(f"/agents/{agent.id}", {"grant_types": chosen})
    assert answer.status_code in (400, 422) and "grant_types" in answer.content.decode()
    before = agent.grant_types
    agent.refresh_from_db()
    assert agent.grant_types == before


def test_a_public_client_gets_nothing_that_needs_proof(acme: House) -> None:
    agent = cast.assistant(acme, auth_method="none")
    for way in (TOKEN_EXCHANGE, "client_credentials"):
        page = signed_in(acme.owner).post(f"/t/acme/agents/{agent.id}/ways/", {"grant_types": [way]})
        assert page.status_code == 422 and "proves itself" in page.content.decode()


def test_who_introduced_itself_says_it_itself(acme: House) -> None:
    agent = cast.assistant(acme)
    Agent.objects.filter(pk=agent.pk).update(registration="dynamic")
    assert signed_in(acme.owner).get(f"/t/acme/agents/{agent.id}/ways/").status_code == 404
    answer = robot(acme).patch(f"/agents/{agent.id}", {"grant_types": ["authorization_code"]})
    assert answer.status_code in (400, 422) and "introduced itself" in answer.content.decode()


def test_over_rest_it_is_read_and_set(acme: House) -> None:
    agent, api = cast.assistant(acme), robot(acme)
    answer = api.patch(f"/agents/{agent.id}", {"grant_types": ["refresh_token", "authorization_code"]})
    assert answer.status_code == 200, answer.content
    assert answer.json()["grant_types"] == ["authorization_code", "refresh_token"]


def test_only_admins_set_it(acme: House) -> None:
    agent = cast.assistant(acme)
    for who in ("matt", "cora"):
        assert signed_in(acme.members[who]).get(f"/t/acme/agents/{agent.id}/ways/").status_code == 403
