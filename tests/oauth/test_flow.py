"""The whole way of a code: asked, signed in, consented, redeemed, refreshed; and what each step leaves on record."""

import jwt
import pytest

from agentauth.grants.models import Grant
from tenants.rls import in_tenant
from tests.cast import events_of
from tests.oauth.browser import CALLBACK, Flow, answer_in, form_of


def test_a_person_allows_an_agent_and_it_gets_a_token_for_that_resource_only(flow: Flow) -> None:
    page = flow.authorize()
    html = page.content.decode()
    assert "Matt&#x27;s assistant asks for a badge at&nbsp;Office" in html
    assert "Matt Okafor" in html and "assistant.example" in html and flow.resource in html.replace("<wbr>", "")
    back = flow.answer(page, **{"change-how": "always"})
    assert back.status_code == 303  # RFC 9700 §4.12
    answer = answer_in(back)
    assert back["Location"].startswith(f"{CALLBACK}?")
    assert answer["state"] == "s t&=é"  # RFC 6749 §4.1.2
    assert answer["iss"] == flow.issuer  # RFC 9207 §2
    response = flow.redeem(answer["code"])
    assert response.status_code == 200
    assert response["Cache-Control"] == "no-store" and response["Pragma"] == "no-cache"  # RFC 6749 §5.1
    tokens = response.json()
    keys = flow.browser.get(flow.path("jwks.json")).json()["keys"]
    claims = jwt.decode(
        tokens["access_token"], jwt.PyJWK(keys[0]), algorithms=["ES256"], audience=flow.resource, issuer=flow.issuer
    )
    assert jwt.get_unverified_header(tokens["access_token"])["typ"] == "at+jwt"  # RFC 9068 §2.1
    assert claims["sub"] == str(flow.house.members["matt"].id)
    assert claims["act"] == {"sub": str(flow.agent.id)}
    assert claims["client_id"] == flow.agent.client_id
    assert set(claims["scope"].split()) == {"rooms:read", "meeting:enter"} == set(tokens["scope"].split())
    assert claims["exp"] - claims["iat"] == tokens["expires_in"] == 300
    assert len(events_of(flow.house.tenant.id, "grant.given")) == 1
    issued = events_of(flow.house.tenant.id, "token.issued")
    assert [event.details["jti"] for event in issued] == [claims["jti"]]
    assert issued[0].member_id == flow.house.members["matt"].id and issued[0].agent_id == flow.agent.id


def test_a_person_who_says_no_sends_the_client_back_with_access_denied_and_iss(flow: Flow) -> None:
    answer = answer_in(flow.answer(flow.authorize(), "deny"))
    assert answer["error"] == "access_denied" and answer["iss"] == flow.issuer and answer["state"] == "s t&=é"
    assert "code" not in answer
    assert [event.reasons for event in events_of(flow.house.tenant.id, "grant.refused")] == [["person_said_no"]]
    assert events_of(flow.house.tenant.id, "grant.given") == []


def test_what_a_grant_covers_is_not_asked_again_and_what_grows_is(flow: Flow) -> None:
    flow.tokens()
    again = flow.authorize()
    assert again.status_code == 303 and "code" in answer_in(again)
    more = flow.authorize(scope="rooms:read meeting:enter rooms:book")
    assert more.status_code == 200 and "newmark" in more.content.decode()
    assert flow.authorize(prompt="consent").status_code == 200


def test_limits_on_a_grant_are_not_lifted_by_asking_again(flow: Flow) -> None:
    flow.tokens()
    limits = {"calls_per_day": 5}
    with in_tenant(flow.house.tenant.id):
        Grant.objects.filter(agent=flow.agent).update(constraints=limits)
    flow.answer(flow.authorize(scope="rooms:read meeting:enter rooms:book"))
    with in_tenant(flow.house.tenant.id):
        live = Grant.objects.get(agent=flow.agent, ended_at=None)
    assert live.constraints == limits
    assert len(events_of(flow.house.tenant.id, "grant.given")) == 2


def test_what_a_person_unticks_is_not_in_the_token(flow: Flow) -> None:
    answer = answer_in(flow.answer(flow.authorize(), scope=["rooms:read"]))
    assert flow.redeem(answer["code"]).json()["scope"] == "rooms:read"


def test_dangerous_starts_unticked_and_has_no_always(flow: Flow) -> None:
    page = flow.authorize(scope="rooms:read finance:enter")
    assert form_of(page)["scope"] == ["rooms:read"]
    forged = flow.answer(page, scope=["rooms:read", "finance:enter"], **{"dangerous-how": "always"})
    assert forged.status_code == 400
    assert events_of(flow.house.tenant.id, "grant.given") == []


def test_nothing_can_be_ticked_that_was_not_on_the_page(flow: Flow) -> None:
    page = flow.authorize(scope="rooms:read")
    assert flow.answer(page, scope=["rooms:read", "rooms:book"]).status_code == 400


def test_an_empty_answer_is_asked_again_and_can_still_be_given(flow: Flow) -> None:
    page = flow.authorize()
    again = flow.answer(page, scope=[])
    assert again.status_code == 422 and "Tick at least one" in again.content.decode()
    again.status_code = 200
    assert "code" in answer_in(flow.answer(again, scope=["rooms:read"]))


def test_a_question_is_answered_once(flow: Flow) -> None:
    page = flow.authorize()
    assert flow.answer(page).status_code == 303
    second = flow.answer(page)
    said = second.content.decode()  # a second press of the button is nobody's mistake, and what was allowed stays
    assert second.status_code == 400 and "Your first answer counts" in said and "/t/acme/my/agents/" in said
    assert "made a mistake" not in said and "Nothing was allowed" not in said
    refused = events_of(flow.house.tenant.id, "authorization.refused")
    assert refused[-1].reasons == ["consent_answered"]


def test_a_question_cannot_be_answered_in_another_browser(flow: Flow) -> None:
    form = form_of(flow.authorize())
    other = Flow(flow.house, flow.agent, flow.secret).sign_in()
    other.authorize()
    answered = other.browser.post(other.path("consent"), form | {"answer": "allow"})
    assert answered.status_code == 400
    assert events_of(flow.house.tenant.id, "authorization.refused")[-1].reasons == ["consent_other_browser"]


def test_a_forged_form_is_refused(flow: Flow) -> None:
    page = flow.authorize()
    form = form_of(page)
    assert flow.answer(page, request=form["request"][:-2] + "AA").status_code == 400
    assert flow.answer(page, request="").status_code == 400


def test_the_question_cannot_be_framed_and_runs_no_script(flow: Flow) -> None:
    page = flow.authorize()
    policy = page["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in policy and "script-src" not in policy and "default-src 'none'" in policy
    assert page["X-Frame-Options"] == "DENY" and "no-store" in page["Cache-Control"]
    assert b"<script" not in page.content and b"style=" not in page.content


def test_a_stranger_signs_in_first_and_comes_back_to_the_same_request(flow: Flow) -> None:
    flow.browser.logout()
    away = flow.authorize()
    assert away.status_code == 302 and away["Location"].startswith(
        "/account/login/?next=%2Ft%2Facme%2Foauth%2Fauthorize"
    )


def test_prompt_none_shows_nothing(flow: Flow) -> None:
    assert answer_in(flow.authorize(prompt="none"))["error"] == "consent_required"
    flow.browser.logout()
    answer = answer_in(flow.authorize(prompt="none"))
    assert answer["error"] == "login_required" and answer["iss"] == flow.issuer


def test_prompt_login_and_max_age_ask_for_a_fresh_sign_in(flow: Flow) -> None:
    away = flow.authorize(prompt="login")
    assert away.status_code == 302 and away["Location"].startswith("/account/")
    assert flow.sign_in().authorize(max_age="0").status_code == 302
    assert flow.sign_in().authorize(max_age="3600").status_code == 200
    assert answer_in(flow.authorize(max_age="-1"))["error"] == "invalid_request"


def test_someone_of_another_organisation_is_told_so_and_gets_nothing(flow: Flow, globex: object) -> None:
    from tests.cast import signed_in

    flow.browser = signed_in(globex.members["gus"])  # type: ignore[attr-defined]
    assert flow.authorize().status_code == 403


def test_markup_in_an_agents_name_is_text(flow: Flow) -> None:
    from agentauth.agents.models import Agent
    from tenants.rls import in_tenant

    with in_tenant(flow.house.tenant.id):
        Agent.objects.filter(pk=flow.agent.pk).update(name="<img src=x onerror=alert(1)>")
    html = flow.authorize().content.decode()
    assert "<img" not in html and "&lt;img" in html


def test_post_to_authorize_becomes_a_get(flow: Flow) -> None:
    answer = flow.post("authorize", flow.request())
    assert answer.status_code == 303 and answer["Location"].startswith(flow.path("authorize") + "?")


@pytest.mark.parametrize("method", ["put", "delete", "patch"])
def test_other_methods_are_not_allowed(flow: Flow, method: str) -> None:
    for endpoint in ("authorize", "token", "revoke", "introspect", "register"):
        assert getattr(flow.browser, method)(flow.path(endpoint)).status_code == 405


def test_get_on_the_token_endpoint_is_refused(flow: Flow) -> None:
    assert flow.browser.get(flow.path("token")).status_code == 405  # OAuth 2.1 §3.2


def test_openid_adds_who_signed_in_and_nothing_more(flow: Flow) -> None:
    tokens = flow.tokens(scope="openid rooms:read", nonce="n1")
    claims = jwt.decode(tokens["id_token"], options={"verify_signature": False})
    assert set(claims) == {"iss", "sub", "aud", "exp", "iat", "auth_time", "nonce"}
    assert claims["aud"] == flow.agent.client_id and claims["nonce"] == "n1" and claims["iss"] == flow.issuer
    assert "openid" not in tokens["scope"]
