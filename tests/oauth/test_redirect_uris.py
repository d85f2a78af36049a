"""Redirect URIs: byte by byte, the port of a loopback address aside (OAuth 2.1 §2.3, RFC 9700 §4.1, RFC 8252 §7.3)."""

import json
from pathlib import Path

import pytest

from agentauth.agents.models import Agent
from agentauth.oauth.errors import InvalidRedirectUri
from agentauth.oauth.redirect_uris import is_registered, require_registrable
from tenants.rls import in_tenant
from tests.cast import events_of
from tests.oauth.browser import Flow

CORPUS = json.loads((Path(__file__).parents[1] / "corpora" / "redirect_uris.json").read_text())


@pytest.mark.parametrize("uri", CORPUS["refused_at_registration"], ids=repr)
def test_what_could_lead_astray_is_not_registered(uri: object) -> None:
    with pytest.raises(InvalidRedirectUri):
        require_registrable(uri)


@pytest.mark.parametrize("uri", CORPUS["accepted_at_registration"])
def test_what_real_clients_use_is_registered(uri: str) -> None:
    assert require_registrable(uri) == uri


@pytest.mark.parametrize("uri", CORPUS["not_the_registered"])
def test_only_the_very_same_uri_matches(uri: str) -> None:
    assert is_registered(CORPUS["registered"], [CORPUS["registered"]])
    assert not is_registered(uri, [CORPUS["registered"]])


def test_the_port_of_a_loopback_address_may_differ_and_nothing_else() -> None:
    known = CORPUS["loopback_registered"]
    assert [uri for uri in CORPUS["loopback_same"] if not is_registered(uri, known)] == []
    assert [uri for uri in CORPUS["loopback_other"] if is_registered(uri, known)] == []


def test_an_unregistered_address_is_never_redirected_to(flow: Flow) -> None:
    with in_tenant(flow.house.tenant.id):
        Agent.objects.filter(pk=flow.agent.pk).update(redirect_uris=[CORPUS["registered"]])
    for uri in CORPUS["not_the_registered"]:
        answer = flow.authorize(redirect_uri=uri)
        assert answer.status_code == 400 and "Location" not in answer, uri  # OAuth 2.1 §4.1.2.1
    assert {e.reasons[0] for e in events_of(flow.house.tenant.id, "authorization.refused")} <= {
        "redirect_uri_unknown",
        "not_text",
    }


def test_an_unknown_client_is_told_on_a_page(flow: Flow) -> None:
    for client_id in ("nobody", "", None, "http://plain.example/client.json"):
        answer = flow.authorize(client_id=client_id)
        assert answer.status_code == 400 and "Location" not in answer


def test_a_registered_query_is_kept_and_nothing_stands_twice(flow: Flow) -> None:
    with in_tenant(flow.house.tenant.id):
        Agent.objects.filter(pk=flow.agent.pk).update(redirect_uris=["https://app.example/cb?x=1"])
    back = flow.answer(flow.authorize(redirect_uri="https://app.example/cb?x=1"))["Location"]
    assert back.startswith("https://app.example/cb?x=1&code=")  # RFC 6749 §3.1.2
    assert [back.count(f"{name}=") for name in ("code", "state", "iss")] == [1, 1, 1]
