"""One concrete call (RFC 9396) by the other ways to a token: device codes, CIBA, token exchange; and its races."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pytest

from agentauth.agents.registering import add_secret
from agentauth.grants.arguments import hash_of
from agentauth.grants.models import Approval
from tenants.rls import in_tenant
from tests import cast
from tests.oauth import test_device as device
from tests.oauth.asking import answer, asking_flow, begin, begun, fetch
from tests.oauth.browser import Flow, form_of
from tests.oauth.test_authorization_details import ARGUMENTS, approvals, asking, claims_of, detail, details, events
from tests.oauth.test_races import CALLERS, statuses, together
from tests.oauth.test_token_exchange import allow, exchange

HOSTILE = json.loads((Path(__file__).parents[1] / "corpora" / "authorization_details.json").read_text())


@pytest.fixture
def second(flow: Flow) -> Flow:
    """A second agent, to which Matt allowed seeing and booking rooms."""
    house = flow.house
    with in_tenant(house.tenant.id):
        agent = cast.assistant(house, name="The booker")
        _, secret = add_secret(agent, by=house.owner)
        allow(Flow(house, agent), "rooms:read", "rooms:book")
    return Flow(house, agent, secret)


@pytest.mark.parametrize("case", HOSTILE[::4], ids=lambda case: case["why"])
def test_the_other_doors_are_as_strict(acme: cast.House, case: dict[str, str]) -> None:
    shown = device.device_flow(acme)
    text = case["text"].replace("@office", shown.resource)
    refused = [device.start(shown, authorization_details=text, scope=None)]
    asker = replace(shown, agent=(own := asking_flow(acme, name="The asker")).agent, secret=own.secret)
    refused.append(begin(asker, authorization_details=text, scope="openid"))
    for one in refused:
        assert (one.status_code, one.json()["error"]) == (400, "invalid_authorization_details"), one.content
    assert len(events(shown, "authorization.refused")) == 2


def test_a_device_may_ask_for_one_call(acme: cast.House) -> None:
    flow = device.device_flow(acme)
    begun_ = device.started(flow, scope=None, authorization_details=details(flow))
    page = device.type_in(flow, begun_["user_code"])
    assert "asks to make one call" in page.content.decode()
    flow.answer(page)
    tokens = device.poll(flow, begun_["device_code"]).json()
    assert tokens["authorization_details"] == [detail(flow)] == claims_of(tokens)["authorization_details"]
    assert [one.state for one in approvals(flow)] == ["given"]
    again = flow.refresh(tokens["refresh_token"]).json()
    assert again["authorization_details"] == [detail(flow)]


def test_an_agent_may_ask_its_person_for_one_call_in_the_inbox(acme: cast.House) -> None:
    flow = asking_flow(acme)
    auth_req_id = begun(flow, scope="openid", authorization_details=details(flow))
    answer(flow)
    tokens = fetch(flow, auth_req_id).json()
    assert tokens["authorization_details"] == [detail(flow)] == claims_of(tokens)["authorization_details"]
    [approval] = approvals(flow)
    assert (approval.state, approval.args_hash) == ("given", hash_of(ARGUMENTS))


def test_what_is_handed_on_is_for_the_same_call_and_carries_no_yes(flow: Flow, second: Flow) -> None:
    """RFC 8693 with RFC 9396: exchange only narrows."""
    subject = flow.tokens(**asking(flow))["access_token"]
    got = exchange(second, subject).json()
    claims = jwt.decode(got["access_token"], options={"verify_signature": False})
    assert claims["authorization_details"] == [detail(flow)] == got["authorization_details"]
    assert got["scope"] == "rooms:book"
    assert {one.grant.agent_id for one in _with_grants(flow)} == {flow.agent.id}


def test_what_is_handed_on_is_for_no_other_call_and_no_other_place(flow: Flow, second: Flow) -> None:
    subject = flow.tokens(**asking(flow))["access_token"]
    other = exchange(second, subject, authorization_details=details(flow, arguments={"path": {"room": "red"}}))
    assert (other.status_code, other.json()["error"]) == (400, "invalid_authorization_details")
    with in_tenant(flow.house.tenant.id):
        annex = cast.office(flow.house, slug="annex")
        from agentauth.resources.ceilings import set_ceiling
        from agentauth.resources.models import Scope

        everything = list(Scope.objects.filter(tenant=flow.house.tenant))
        set_ceiling(second.agent, everything, by=flow.house.owner)
        house = replace(second.house)
        house.office = annex
        allow(replace(second, house=house), "rooms:read", "rooms:book")
    away = exchange(second, subject, resource=flow.resource.replace("office", "annex"))
    assert (away.status_code, away.json()["error"]) == (400, "invalid_target")
    assert events(flow, "token.refused")[-1].reasons == ["details_elsewhere"]


def test_a_wider_token_may_be_handed_on_for_one_call(flow: Flow, second: Flow) -> None:
    subject = flow.tokens(scope="rooms:read rooms:book")["access_token"]
    got = exchange(second, subject, authorization_details=details(flow)).json()
    assert (got["scope"], got["authorization_details"]) == ("rooms:book", [detail(flow)])


def test_one_answer_of_many_at_once_allows_one_call(flow: Flow) -> None:
    form = form_of(flow.authorize(**asking(flow))) | {"answer": "allow"}
    cookies = flow.browser.cookies

    def press() -> Any:
        from django.test import Client

        browser = Client()
        browser.cookies = cookies
        return browser.post(flow.path("consent"), form)

    got = together(press)
    assert statuses(got) == {303: 1, 400: CALLERS - 1}
    assert [one.state for one in approvals(flow)] == ["given"]


def _with_grants(flow: Flow) -> list[Approval]:
    with in_tenant(flow.house.tenant.id):
        return list(Approval.objects.select_related("grant").filter(tenant=flow.house.tenant))


def test_what_was_allowed_for_one_call_is_no_end_for_what_is_asked_next(flow: Flow) -> None:
    """The fifteen minutes of one call are offered by their hour, and not chosen beforehand."""
    flow.tokens(**asking(flow))
    page = flow.authorize(scope="rooms:read").content.decode()
    assert re.search(r'value="same">\d\d:\d\d, as now', page)
    assert 'value="30" checked' in page
