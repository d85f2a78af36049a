"""Pushed authorization requests (RFC 9126): what is sent ahead, who may bring it, and that it is answered once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from unittest import mock
from urllib.parse import urlencode

import jwt
import pytest
from django.test import Client
from django.utils.timezone import now

from agentauth.agents.models import Agent
from agentauth.agents.registering import add_secret
from agentauth.oauth import authorize as authorize_endpoint
from agentauth.oauth import pushed_requests
from agentauth.oauth.models import PushedRequest
from tenants.models import secret_hash
from tenants.rls import in_tenant
from tests import cast
from tests.cast import House, events_of
from tests.oauth.browser import CALLBACK, Flow, answer_in, basic, register
from tests.oauth.test_races import CALLERS, together


def push(flow: Flow, **changes: Any) -> Any:
    return flow.post("par", flow.request(**changes) | flow.proof())


def pushed(flow: Flow, **changes: Any) -> str:
    answer = push(flow, **changes)
    assert answer.status_code == 201, answer.content
    return str(answer.json()["request_uri"])


def bring(flow: Flow, uri: str, browser: Client | None = None, **beside: Any) -> Any:
    query = urlencode({"client_id": flow.agent.client_id, "request_uri": uri} | beside, doseq=True)
    return (browser or flow.browser).get(f"{flow.path('authorize')}?{query}")


def aud_of(tokens: dict[str, Any]) -> Any:
    return jwt.decode(tokens["access_token"], options={"verify_signature": False})["aud"]


def refused_for(flow: Flow) -> list[str]:
    return [event.reasons[0] for event in events_of(flow.house.tenant.id, "authorization.refused")]


def assert_second_use_is_refused(flow: Flow, uri: str) -> None:
    again = bring(flow, uri)
    assert again.status_code == 400 and "Location" not in again
    assert "invalid_request_uri" in again.content.decode()
    assert refused_for(flow)[-1] == "request_uri_reused"


def test_a_pushed_request_leads_to_a_code_for_what_was_pushed(flow: Flow) -> None:
    answer = push(flow)
    assert answer.status_code == 201 and "no-store" in answer["Cache-Control"]  # §2.2
    said = answer.json()
    assert said["expires_in"] == 60 and set(said) == {"request_uri", "expires_in"}
    assert said["request_uri"].startswith("urn:ietf:params:oauth:request_uri:")
    back = answer_in(flow.answer(bring(flow, said["request_uri"])))
    assert back["state"] == "s t&=é" and back["iss"] == flow.issuer
    tokens = flow.redeem(back["code"]).json()
    assert set(tokens["scope"].split()) == {"rooms:read", "meeting:enter"}


def test_two_pushed_requests_never_share_an_address_and_only_its_hash_is_kept(flow: Flow) -> None:
    uris = {pushed(flow) for _ in range(20)}
    assert len(uris) == 20 and all(len(uri) > len(pushed_requests.PREFIX) + 40 for uri in uris)  # §7.1
    with in_tenant(flow.house.tenant.id):
        rows = list(PushedRequest.objects.filter(tenant=flow.house.tenant))
    kept = str([(row.parameters, bytes(row.uri_hash)) for row in rows])
    assert not any(uri.removeprefix(pushed_requests.PREFIX) in kept for uri in uris)
    assert flow.secret not in kept and "client_secret" not in kept


def test_the_client_proves_itself_as_at_the_token_endpoint(flow: Flow) -> None:
    wrong = flow.post("par", flow.request() | {"client_secret": "wrong"})
    assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_client")  # §2, §2.3
    none = flow.post("par", flow.request())
    assert (none.status_code, none.json()["error"]) == (401, "invalid_client")
    header = {"Authorization": basic(flow.agent.client_id, flow.secret)}
    assert flow.post("par", flow.request(), **header).status_code == 201
    assert len(events_of(flow.house.tenant.id, "client.refused")) == 2
    no_id = flow.post("par", flow.request(client_id=None), **header)
    assert (no_id.status_code, no_id.json()["error"]) == (400, "invalid_request")  # §2.1: required here as well


def test_a_public_client_pushes_with_its_id_alone(public: Flow) -> None:
    page = bring(public, pushed(public))
    assert public.redeem(answer_in(public.answer(page))["code"]).status_code == 200


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"request_uri": "urn:ietf:params:oauth:request_uri:x"}, "invalid_request"),  # §2.1
        ({"request_uri": "https://assistant.example/r"}, "invalid_request"),
        ({"request": "x.y.z"}, "request_not_supported"),  # §3
        ({"redirect_uri": "https://evil.example/cb"}, "invalid_request"),  # §2.4
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": None}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"scope": "nothing:here"}, "invalid_scope"),
        ({"resource": "https://elsewhere.example/"}, "invalid_target"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"scope": ["rooms:read", "rooms:book"]}, "invalid_request"),
        ({"client_id": "another"}, "invalid_client"),
    ],
)
def test_what_authorize_would_refuse_is_refused_when_it_is_pushed(
    flow: Flow, changes: dict[str, Any], error: str
) -> None:
    answer = push(flow, **changes) if "client_id" not in changes else flow.post("par", flow.request(**changes))
    assert answer.status_code in (400, 401) and answer.json()["error"] == error  # §2.3
    assert "request_uri" not in answer.json()
    refusals = "client.refused" if error == "invalid_client" else "authorization.refused"
    assert len(events_of(flow.house.tenant.id, refusals)) == 1


def test_only_posts_of_a_form_are_taken_and_nothing_too_large(flow: Flow) -> None:
    assert flow.browser.get(flow.path("par")).status_code == 405  # §2.3
    answer = flow.browser.post(flow.path("par"), "{}", content_type="application/json")
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert push(flow, state="x" * 70000).status_code == 413  # §2.3


def test_discovery_names_the_endpoint(flow: Flow) -> None:
    said = flow.browser.get("/.well-known/oauth-authorization-server/t/acme").json()
    assert said["pushed_authorization_request_endpoint"] == f"{flow.issuer}/oauth/par"  # §5


# Each way of being answered, twice (§4, §7.3)


def test_after_the_question_was_shown_the_address_is_used_up(flow: Flow) -> None:
    uri = pushed(flow)
    page = bring(flow, uri)
    assert_second_use_is_refused(flow, uri)
    assert "code" in answer_in(flow.answer(page))  # the question itself is still open
    assert_second_use_is_refused(flow, uri)


def test_after_a_code_without_a_question_the_address_is_used_up(flow: Flow) -> None:
    flow.tokens()
    uri = pushed(flow)
    assert "code" in answer_in(bring(flow, uri))
    assert_second_use_is_refused(flow, uri)


def test_after_a_silent_code_the_address_is_used_up(flow: Flow) -> None:
    flow.tokens()
    uri = pushed(flow, prompt="none")
    assert "code" in answer_in(bring(flow, uri))
    assert_second_use_is_refused(flow, uri)


@pytest.mark.parametrize("signed_in", [True, False])
def test_after_a_silent_refusal_the_address_is_used_up(flow: Flow, signed_in: bool) -> None:
    if not signed_in:
        flow.browser = Client()
    uri = pushed(flow, prompt="none")
    answer = answer_in(bring(flow, uri))
    assert answer["error"] == ("consent_required" if signed_in else "login_required")
    assert answer["state"] == "s t&=é" and answer["iss"] == flow.issuer
    assert_second_use_is_refused(flow, uri)


def test_after_an_error_the_address_is_used_up(flow: Flow) -> None:
    uri = pushed(flow, scope="finance:enter")
    from agentauth.resources.ceilings import set_ceiling

    with in_tenant(flow.house.tenant.id):
        set_ceiling(flow.agent, [flow.house.scope("rooms:read")], by=flow.house.owner)
    assert answer_in(bring(flow, uri))["error"] == "invalid_scope"
    assert_second_use_is_refused(flow, uri)


def test_after_a_page_of_refusal_the_address_is_used_up(flow: Flow) -> None:
    uri = pushed(flow)
    with in_tenant(flow.house.tenant.id):
        flow.agent.change(by=flow.house.owner, redirect_uris=["https://other.example/cb"])
    answer = bring(flow, uri)
    assert answer.status_code == 400 and "Location" not in answer
    assert_second_use_is_refused(flow, uri)


def test_after_a_stranger_brought_it_the_address_is_used_up(flow: Flow, globex: House) -> None:
    uri = pushed(flow)
    flow.browser = cast.signed_in(globex.members["gus"])
    assert bring(flow, uri).status_code == 403
    assert_second_use_is_refused(flow, uri)


def test_who_must_sign_in_first_comes_back_to_it_in_the_same_browser_only(flow: Flow) -> None:
    flow.browser, uri = Client(), pushed(flow)
    away = bring(flow, uri)
    assert away.status_code == 302 and away["Location"].startswith("/account/login/?next=")
    other = bring(flow, uri, cast.signed_in(flow.house.members["ada"]))  # a browser that did not start it
    assert other.status_code == 400 and refused_for(flow) == ["request_uri_other_browser"]
    with in_tenant(flow.house.tenant.id):  # longer than it would have waited for its first browser
        assert PushedRequest.objects.get().expires_at > now() + timedelta(minutes=20)
    flow.browser.force_login(flow.house.members["matt"].user, backend="django.contrib.auth.backends.ModelBackend")
    page = bring(flow, uri)
    assert "code" in answer_in(flow.answer(page))
    assert_second_use_is_refused(flow, uri)


# What may not be brought


@pytest.mark.parametrize(
    "beside",
    [
        {"scope": "finance:enter"},
        {"redirect_uri": "https://evil.example/cb"},
        {"state": "other"},
        {"resource": "http://localhost:8001/acme/office-mcp"},
        {"response_type": "token", "code_challenge": "other", "prompt": "none"},
    ],
)
def test_nothing_is_added_to_a_pushed_request(flow: Flow, beside: dict[str, Any]) -> None:
    """RFC 9101 §6.3: clients repeat some of it there, and nobody changes a request that way."""
    answer = flow.answer(bring(flow, pushed(flow), **beside))
    assert answer["Location"].startswith(f"{CALLBACK}?")
    back = answer_in(answer)
    tokens = flow.redeem(back["code"]).json()
    assert back["state"] == "s t&=é" and aud_of(tokens) == flow.resource
    assert set(tokens["scope"].split()) == {"rooms:read", "meeting:enter"}


@pytest.mark.parametrize(
    ("beside", "reason"),
    [({"request": "x.y.z"}, "beside_request_uri"), ({"prompt": ["none", "none"]}, "repeated_parameter")],
)
def test_what_may_never_stand_beside_a_pushed_request_ends_it(flow: Flow, beside: dict[str, Any], reason: str) -> None:
    """RFC 9101 §5, RFC 6749 §3.1."""
    uri = pushed(flow)
    answer = bring(flow, uri, **beside)
    assert answer.status_code == 400 and "Location" not in answer
    assert refused_for(flow) == [reason]
    assert_second_use_is_refused(flow, uri)


def test_a_client_may_bind_itself_to_pushing(flow: Flow) -> None:
    """RFC 9126 §6: `require_pushed_authorization_requests` in what it says of itself."""
    said = register(flow.house, {"redirect_uris": [CALLBACK], "require_pushed_authorization_requests": True}).json()
    assert said["require_pushed_authorization_requests"] is True
    with in_tenant(flow.house.tenant.id):
        mine = replace(flow, agent=Agent.objects.get(client_id=said["client_id"]), secret=said["client_secret"])
    refusal = answer_in(mine.authorize(scope="rooms:read"))
    assert (refusal["error"], refusal["iss"]) == ("invalid_request", flow.issuer)
    assert refused_for(flow) == ["not_pushed"]
    assert "code" in answer_in(mine.answer(bring(mine, pushed(mine, scope="rooms:read"))))


def test_another_client_cannot_bring_it_nor_use_it_up(flow: Flow) -> None:
    uri = pushed(flow)
    with in_tenant(flow.house.tenant.id):
        agent = cast.assistant(flow.house, name="Other assistant")
        _, secret = add_secret(agent, by=flow.house.owner)
    other = Flow(flow.house, agent, secret).sign_in()
    answer = bring(other, uri)  # §2.2
    assert answer.status_code == 400 and "Location" not in answer
    assert refused_for(flow) == ["request_uri_of_another_client"]
    assert bring(flow, uri).status_code == 200


def test_an_old_or_unknown_address_is_refused(flow: Flow) -> None:
    uri = pushed(flow)
    with in_tenant(flow.house.tenant.id):
        PushedRequest.objects.update(expires_at=now())
    assert bring(flow, uri).status_code == 400  # §4: MUST reject what has expired
    assert bring(flow, uri + "x").status_code == 400
    assert bring(flow, pushed_requests.PREFIX).status_code == 400
    assert refused_for(flow) == ["request_uri_expired", "unknown_request_uri", "unknown_request_uri"]


def test_another_tenant_does_not_know_it(flow: Flow, globex: House) -> None:
    uri = pushed(flow)
    answer = flow.browser.get(
        f"/t/{globex.tenant.slug}/oauth/authorize?{urlencode({'client_id': flow.agent.client_id, 'request_uri': uri})}"
    )
    assert answer.status_code == 400 and "Location" not in answer
    assert bring(flow, uri).status_code == 200


def test_a_code_is_no_request_address_and_an_address_no_code(flow: Flow) -> None:
    code = flow.code()
    assert bring(flow, pushed_requests.PREFIX + code).status_code == 400
    uri = pushed(flow)
    assert flow.redeem(uri.removeprefix(pushed_requests.PREFIX)).json()["error"] == "invalid_grant"
    assert flow.redeem(uri).json()["error"] == "invalid_grant"


# Races, and the mutants that they must see


def browser_like(flow: Flow) -> Client:
    browser = Client()
    browser.cookies.update(flow.browser.cookies)
    return browser


def race_answers(flow: Flow, rounds: int) -> None:
    """One browser brings it many times at once: one code, whatever the others get."""
    flow.tokens()
    for _ in range(rounds):
        uri = pushed(flow)
        answers = together(lambda uri=uri: bring(flow, uri, browser_like(flow)))  # type: ignore[misc]
        assert {answer.status_code for answer in answers} <= {303, 400}
        assert sum(answer.status_code == 303 for answer in answers) == 1


def race_browsers(flow: Flow, rounds: int) -> None:
    """Many browsers bring it at once: it is the first one's, the others are turned away."""
    for _ in range(rounds):
        uri = pushed(flow)
        answers = together(lambda uri=uri: bring(flow, uri, Client()))  # type: ignore[misc]
        assert {answer.status_code for answer in answers} <= {302, 400}
        assert sum(answer.status_code == 302 for answer in answers) == 1


def test_of_many_at_once_one_gets_an_answer(flow: Flow) -> None:
    race_answers(flow, 5)
    assert len(refused_for(flow)) == 5 * (CALLERS - 1)


def test_of_many_browsers_one_has_it(flow: Flow) -> None:
    race_browsers(flow, 5)
    assert set(refused_for(flow)) == {"request_uri_other_browser"}


def test_the_answer_race_catches_a_use_that_is_not_counted(flow: Flow) -> None:
    def careless(row: PushedRequest | None) -> bool:
        if row is not None:
            PushedRequest.objects.filter(pk=row.pk).update(spent_at=now())
        return True

    with mock.patch.object(authorize_endpoint, "spend", careless), pytest.raises(AssertionError):
        race_answers(flow, 20)


def test_the_browser_race_catches_a_missing_lock(flow: Flow) -> None:
    def unlocked(request_uri: str, client: Any) -> PushedRequest | None:
        mark = secret_hash(request_uri.removeprefix(pushed_requests.PREFIX))
        return PushedRequest.objects.filter(tenant_id=client.tenant_id, uri_hash=mark).first()

    finder: Callable[..., Any] = unlocked
    with mock.patch.object(pushed_requests, "find", finder), pytest.raises(AssertionError):
        race_browsers(flow, 20)
