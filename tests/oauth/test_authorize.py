"""What the authorization endpoint refuses by a redirect, always with `iss` and `state`."""

from typing import Any
from urllib.parse import urlencode

import pytest
from django.db import transaction
from django.test import Client
from django.utils.timezone import now

from agentauth.agents.models import Agent
from agentauth.resources.models import Resource
from tenants.rls import in_tenant, set_tenant
from tests import cast
from tests.cast import events_of
from tests.oauth.browser import Flow, answer_in, form_of
from tests.oauth.test_par import bring, pushed


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),  # OAuth 2.1 §10.1: no implicit grant
        ({"response_type": "code token"}, "unsupported_response_type"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"scope": "rooms:read nothing:here"}, "invalid_scope"),
        ({"scope": 'rooms:read "'}, "invalid_scope"),
        ({"resource": "https://elsewhere.example/api"}, "invalid_target"),  # RFC 8707 §2
        ({"resource": "http://localhost:8001/acme/office/"}, "invalid_target"),
        ({"resource": "http://localhost:8001/acme/office#x"}, "invalid_target"),
        ({"resource": "http://localhost:8001/globex/office"}, "invalid_target"),
        ({"resource": "not a url"}, "invalid_target"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"prompt": "dance"}, "invalid_request"),
        ({"max_age": "soon"}, "invalid_request"),
        ({"request": "x.y.z"}, "request_not_supported"),
        ({"request_uri": "urn:x"}, "request_uri_not_supported"),
        ({"nonce": "n" * 300}, "invalid_request"),
        ({"scope": ["rooms:read", "rooms:book"]}, "invalid_request"),
        ({"login_hint": "x" * 3000}, "invalid_request"),
        ({"login_hint": "x" * 256}, "invalid_request"),
    ],
)
def test_a_wrong_request_goes_back_with_its_error_iss_and_state(
    flow: Flow, changes: dict[str, Any], error: str
) -> None:
    answer = answer_in(flow.authorize(**changes))
    assert answer["error"] == error
    assert answer["iss"] == flow.issuer and answer["state"] == "s t&=é"  # RFC 9207 §2, OAuth 2.1 §4.1.2.1
    assert "code" not in answer
    assert len(events_of(flow.house.tenant.id, "authorization.refused")) == 1


@pytest.mark.parametrize("ahead", [False, True])
def test_a_wrong_request_of_a_client_that_nobody_knows_sends_nobody_on_who_has_not_signed_in(
    flow: Flow, ahead: bool
) -> None:
    """RFC 9700 §4.11.2, OAuth 2.1 §7.13.2: else anybody who registers a client makes us send people where they like."""
    with in_tenant(flow.house.tenant.id):
        Agent.objects.filter(pk=flow.agent.pk).update(registration=Agent.Registration.DYNAMIC, approved_at=None)
    uri = pushed(flow, scope="rooms:read") if ahead else ""
    with in_tenant(flow.house.tenant.id):
        Agent.objects.filter(pk=flow.agent.pk).update(grant_types=["refresh_token"])
    flow.browser = Client()

    def ask() -> Any:
        return bring(flow, uri) if ahead else flow.authorize(scope="nothing:here")

    for _ in range(2):  # coming again changes nothing
        away = ask()
        assert away.status_code == 302 and away["Location"].startswith("/account/login/?next=")
        assert events_of(flow.house.tenant.id, "authorization.refused") == []
    flow.browser.force_login(flow.house.members["matt"].user, backend="django.contrib.auth.backends.ModelBackend")
    answer = answer_in(ask())
    assert answer["error"] == "unauthorized_client" and answer["iss"] == flow.issuer
    (event,) = events_of(flow.house.tenant.id, "authorization.refused")
    assert event.reasons == ["grant_not_registered"]


@pytest.mark.parametrize("registration", [Agent.Registration.ADMIN, Agent.Registration.DYNAMIC])
def test_a_wrong_request_of_a_client_that_an_admin_answers_for_goes_back_at_once(flow: Flow, registration: str) -> None:
    """RFC 9700 §4.11.2: its redirect_uri is trusted."""
    with in_tenant(flow.house.tenant.id):
        Agent.objects.filter(pk=flow.agent.pk).update(registration=registration, approved_at=now())
    flow.browser = Client()
    answer = answer_in(flow.authorize(scope="nothing:here"))
    assert (answer["error"], answer["iss"]) == ("invalid_scope", flow.issuer)
    assert len(events_of(flow.house.tenant.id, "authorization.refused")) == 1


def test_a_wrong_request_that_may_show_nothing_is_answered_at_once(flow: Flow) -> None:
    """RFC 9700 §4.11.2 leaves out who asks silently: there nobody can be asked to sign in."""
    flow.browser = Client()
    assert answer_in(flow.authorize(prompt="none", scope="nothing:here"))["error"] == "invalid_scope"
    assert len(events_of(flow.house.tenant.id, "authorization.refused")) == 1


def test_a_repeated_state_is_not_sent_back(flow: Flow) -> None:
    answer = answer_in(flow.authorize(state=["a", "b"]))
    assert answer["error"] == "invalid_request" and "state" not in answer


def test_without_a_resource_only_the_one_that_is_possible_is_meant(flow: Flow) -> None:
    assert flow.authorize(resource=None).status_code == 200
    with transaction.atomic():
        set_tenant(flow.house.tenant.id)
        second = cast.office(flow.house, slug="annex")
        from agentauth.resources.ceilings import set_ceiling
        from agentauth.resources.models import Scope

        set_ceiling(flow.agent, list(Scope.objects.filter(tenant=flow.house.tenant)), by=flow.house.owner)
        assert second.state == Resource.State.PUBLISHED
    assert answer_in(flow.authorize(resource=None))["error"] == "invalid_target"


def test_what_is_above_the_agents_ceiling_is_not_offered(flow: Flow) -> None:
    from agentauth.resources.ceilings import set_ceiling

    with in_tenant(flow.house.tenant.id):
        set_ceiling(flow.agent, [flow.house.scope("rooms:read")], by=flow.house.owner)
    assert flow.tokens(scope="rooms:read meeting:enter")["scope"] == "rooms:read"
    answer = answer_in(flow.authorize(scope="meeting:enter"))
    assert answer["error"] == "invalid_scope" and answer["iss"] == flow.issuer
    assert events_of(flow.house.tenant.id, "authorization.refused")[-1].reasons == ["above_ceiling"]


def test_a_client_that_names_no_scope_is_offered_all_there_is(flow: Flow) -> None:
    html = flow.authorize(scope=None).content.decode()
    assert all(name in html for name in ("rooms:read", "rooms:book", "meeting:enter", "finance:enter"))


def test_our_own_api_is_a_resource_like_any_other(flow: Flow) -> None:
    from agentauth.resources.ceilings import set_ceiling
    from agentauth.resources.models import Scope

    with in_tenant(flow.house.tenant.id):
        set_ceiling(flow.agent, [Scope.objects.get(tenant=flow.house.tenant, name="agents:read")], by=flow.house.owner)
    flow.sign_in("ada")
    url = "http://localhost:8000/api/v1/tenants/acme"
    tokens = flow.tokens(resource=url, scope="agents:read")
    assert tokens["scope"] == "agents:read"


def test_a_long_request_comes_through_the_sign_in(flow: Flow) -> None:
    """A client's `state` may have 4,096 characters; Django looks at no address over 2,048."""
    user = flow.house.members["matt"].user
    user.set_password("the-password-of-matt-1")
    user.save()
    flow.browser = Client()
    away = flow.authorize(state="s" * 4096)
    assert away.status_code == 302 and away["Location"].startswith("/account/login/?next=")
    form = form_of(flow.browser.get(away["Location"])) | {"login": user.email, "password": "the-password-of-matt-1"}
    back = flow.browser.post(away["Location"], form)
    assert back.status_code == 302 and back["Location"].startswith(flow.path("authorize"))
    assert answer_in(flow.answer(flow.browser.get(back["Location"])))["state"] == "s" * 4096


@pytest.mark.parametrize(
    "next_", ["https://evil.example/?x", "//evil.example?x", "/\\evil.example?x", "http:///evil?x"]
)
def test_a_sign_in_leads_nowhere_else_however_long_the_address(flow: Flow, next_: str) -> None:
    user = flow.house.members["matt"].user
    user.set_password("the-password-of-matt-1")
    user.save()
    form = {"login": user.email, "password": "the-password-of-matt-1", "next": next_ + "x" * 3000}
    assert Client().post("/account/login/", form)["Location"] == "/"


@pytest.mark.parametrize("signed_in", [True, False])
def test_what_would_not_come_through_the_sign_in_is_refused_before_it(flow: Flow, signed_in: bool) -> None:
    """One answer to the same request, whoever brings it: who has that much to say pushes it (RFC 9126)."""
    if not signed_in:
        flow.browser = Client()
    answer = flow.authorize(state="é" * 2048)
    assert answer.status_code == 400 and "Location" not in answer and "RFC 9126" in answer.content.decode()
    assert [e.reasons for e in events_of(flow.house.tenant.id, "authorization.refused")] == [["address_too_long"]]


def test_a_request_in_a_post_is_answered_as_the_same_in_the_address(flow: Flow) -> None:
    """OpenID Connect Core §3.1.2.1; what is wrong with it is told where it would be told otherwise."""
    asked = flow.request(state="a b&c#d\r\né")
    for form in (asked, asked | {"state": ["1", "2"]}, asked | {"scope": "nothing:here"}, {"client_id": "nobody"}):
        body = urlencode(form, doseq=True)
        sent = flow.browser.post(flow.path("authorize"), body, content_type="application/x-www-form-urlencoded")
        assert sent.status_code == 303 and sent["Location"].startswith(f"{flow.path('authorize')}?")
        (one, other) = (flow.browser.get(url) for url in (sent["Location"], f"{flow.path('authorize')}?{body}"))
        assert (one.status_code, one.get("Location")) == (other.status_code, other.get("Location"))
    page = flow.browser.post(flow.path("authorize"), "{}", content_type="application/json")
    assert page.status_code == 400 and page["Content-Type"].startswith("text/html")
    assert events_of(flow.house.tenant.id, "authorization.refused")[-1].reasons == ["wrong_content_type"]
