"""UserInfo (OpenID Connect Core §5.3): who signed in, and of that what the person was asked about."""

from __future__ import annotations

from typing import Any

import jwt
import pytest
from django.test import Client

from agentauth.oauth.models import Disclosure
from tenants.rls import in_tenant
from tests.cast import House, events_of
from tests.oauth.browser import Flow, answer_in
from tests.oauth.test_device import GRANT, allow, device_flow, poll, started


def ask(flow: Flow, token: str, tenant: str = "acme", scheme: str = "Bearer") -> Any:
    return Client().get(f"/t/{tenant}/oauth/userinfo", headers={"Authorization": f"{scheme} {token}"})


def told(flow: Flow, scope: str) -> dict[str, Any]:
    tokens = flow.tokens(scope=scope)
    answer = ask(flow, tokens["access_token"])
    assert answer.status_code == 200, answer.content
    found: dict[str, Any] = answer.json()
    signed = jwt.decode(tokens["id_token"], options={"verify_signature": False})
    assert found["sub"] == signed["sub"] == str(flow.house.members["matt"].id)  # §5.3.2: MUST be the same
    return found


@pytest.mark.parametrize(
    ("scope", "names"),
    [
        ("openid rooms:read", {"sub"}),
        ("openid profile rooms:read", {"sub", "name"}),
        ("openid email rooms:read", {"sub", "email"}),
        ("openid profile email rooms:read", {"sub", "name", "email"}),
    ],
)
def test_it_says_what_was_asked_for_and_no_more(flow: Flow, scope: str, names: set[str]) -> None:
    found = told(flow, scope)  # §5.4
    assert set(found) == names
    assert found.get("name", "Matt Okafor") == "Matt Okafor"
    assert found.get("email", "matt@acme.example") == "matt@acme.example"


def test_get_and_post_are_answered_and_nothing_is_stored(flow: Flow) -> None:
    token = flow.tokens(scope="openid rooms:read")["access_token"]
    answer = Client().post(flow.path("userinfo"), headers={"Authorization": f"Bearer {token}"})  # §5.3.1
    assert answer.status_code == 200 and answer["Content-Type"] == "application/json"  # §5.3.2
    assert answer["Cache-Control"] == "no-store" and answer["Access-Control-Allow-Origin"] == "*"
    assert Client().put(flow.path("userinfo")).status_code == 405


def test_a_token_of_no_sign_in_learns_nothing(flow: Flow) -> None:
    for scope in ("rooms:read", "profile email rooms:read"):
        answer = ask(flow, flow.tokens(scope=scope)["access_token"])
        assert answer.status_code == 403 and 'error="insufficient_scope"' in answer["WWW-Authenticate"]
    tokens = flow.tokens(scope="openid profile rooms:read")
    refreshed = flow.refresh(tokens["refresh_token"]).json()
    assert ask(flow, refreshed["access_token"]).status_code == 403


def test_without_a_good_token_it_is_a_challenge(flow: Flow, globex: House) -> None:
    none = Client().get(flow.path("userinfo"))
    assert none.status_code == 401 and "error" not in none["WWW-Authenticate"]  # RFC 6750 §3.1
    assert (
        none["WWW-Authenticate"].startswith("Bearer ") and ", DPoP algs=" in none["WWW-Authenticate"]
    )  # RFC 9449 §7.2
    tokens = flow.tokens(scope="openid rooms:read")
    wrong = [tokens["access_token"] + "x", tokens["id_token"], tokens["refresh_token"], "x" * 9000]
    for token in wrong:
        answer = ask(flow, token)
        assert answer.status_code == 401 and 'error="invalid_token"' in answer["WWW-Authenticate"]  # §5.3.3
    assert ask(flow, tokens["access_token"], tenant="globex").status_code == 401
    assert ask(flow, tokens["access_token"], scheme="Basic").status_code == 401
    assert ask(flow, tokens["access_token"], tenant="nobody").status_code == 404


def test_every_refusal_is_on_record_and_who_showed_nothing_is_not(flow: Flow) -> None:
    """Whose token it was stands there as soon as that is known, and never the token."""
    Client().get(flow.path("userinfo"))
    tokens = flow.tokens(scope="openid rooms:read")
    good, other = tokens["access_token"], flow.refresh(tokens["refresh_token"]).json()["access_token"]
    ask(flow, good + "x")
    ask(flow, other)
    ask(flow, good, scheme="DPoP")
    assert ask(flow, good).status_code == 200
    said = events_of(flow.house.tenant.id, "authorization.refused")
    agent = flow.agent.id
    assert [(event.reasons[0], event.details["error"], event.status, event.agent_id) for event in said] == [
        ("access_token_void", "invalid_token", 401, None),
        ("insufficient_scope", "insufficient_scope", 403, agent),
        ("token_not_bound", "invalid_token", 401, agent),
    ]
    assert not any(token in event.body for event in said for token in (good, other))


def test_what_has_ended_learns_nothing(flow: Flow) -> None:
    tokens = flow.tokens(scope="openid rooms:read")
    with in_tenant(flow.house.tenant.id):
        flow.agent.suspend(by=flow.house.owner)
    assert ask(flow, tokens["access_token"]).status_code == 401


def test_the_person_is_told_what_it_learns_and_asked_again_when_it_grows(flow: Flow) -> None:
    flow.tokens(scope="openid rooms:read")
    assert flow.authorize(scope="openid rooms:read").status_code == 303
    assert answer_in(flow.authorize(scope="openid email rooms:read", prompt="none"))["error"] == "consent_required"
    page = flow.authorize(scope="openid email rooms:read")
    assert "It also learns your e-mail address." in page.content.decode()
    flow.answer(page)
    assert flow.authorize(scope="openid email rooms:read").status_code == 303
    more = flow.authorize(scope="openid email profile rooms:read")
    assert "It also learns your name and your e-mail address." in more.content.decode()
    flow.answer(more, "deny")
    with in_tenant(flow.house.tenant.id):
        assert list(Disclosure.objects.values_list("scope", flat=True)) == ["email"]
    said = events_of(flow.house.tenant.id, "member.disclosed")
    assert [(event.details["scope"], event.agent_id) for event in said] == [("email", flow.agent.id)]


def test_a_device_learns_it_too(acme: House) -> None:
    flow = device_flow(acme, grant_types=[GRANT])
    said = started(flow, scope="openid profile rooms:read")
    allow(flow, said["user_code"])
    tokens = poll(flow, said["device_code"]).json()
    assert ask(flow, tokens["access_token"]).json()["name"] == "Matt Okafor"


def test_discovery_names_the_endpoint(acme: House) -> None:
    said = Client().get("/t/acme/.well-known/openid-configuration").json()
    assert said["userinfo_endpoint"] == "http://localhost:8000/t/acme/oauth/userinfo"
    assert said["claims_supported"] == ["sub", "name", "email", "auth_time", "acr"]
