"""Step-up (RFC 9470): a sign-in as recent and as strong as was asked, told as it was and never better."""

from __future__ import annotations

import re
import time
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from allauth.mfa.models import Authenticator
from django.test import Client

from tenants.rls import in_tenant
from tests import cast
from tests.oauth.browser import Flow, answer_in, form_of

PASSWORD = "the-password-of-matt-1"


def proven(browser: Client, user: Any, *entries: tuple[str, float]) -> None:
    """Write into the browser's session how its person signed in: way and seconds ago, as allauth does."""
    ways = {
        "password": {"method": "password"},
        "link": {"method": "link"},
        "totp": {"method": "mfa", "type": "totp"},
        "recovery": {"method": "mfa", "type": "recovery_codes"},
        "passkey": {"method": "mfa", "type": "webauthn"},
    }
    session = browser.session
    session["account_authentication_methods"] = [{**ways[way], "at": time.time() - ago} for way, ago in entries]
    session["account_authentication_methods_user"] = str(user.pk)
    session.save()


def signed_in(flow: Flow, *entries: tuple[str, float]) -> Flow:
    flow.sign_in()
    proven(flow.browser, flow.house.members["matt"].user, *entries)
    return flow


def owns(flow: Flow, *kinds: str) -> None:
    user = flow.house.members["matt"].user
    user.set_password(PASSWORD)
    user.save()
    for kind in kinds:
        Authenticator.objects.create(user=user, type=kind, data={"secret": "x"})
    flow.sign_in()


def claims_of(tokens: dict[str, Any], token: str = "access_token") -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(tokens[token], options={"verify_signature": False})
    return found


# -- what the token says (RFC 9470 §6.1, RFC 9068 §2.2.1)


@pytest.mark.parametrize(
    ("entries", "acr", "ago"),
    [
        ([("password", 100)], "1fa", 100),
        ([("link", 100)], "1fa", 100),
        ([("password", 100), ("totp", 90)], "2fa", 90),
        ([("password", 100), ("recovery", 90)], "2fa", 90),
        ([("password", 100), ("passkey", 90)], "phr", 90),
        ([("passkey", 100)], "phr", 100),
        ([("password", 9000), ("totp", 8990), ("password", 5)], "2fa", 8990),  # never "2fa, five seconds ago"
    ],
)
def test_the_token_says_how_and_when_the_person_signed_in(
    flow: Flow, entries: list[tuple[str, float]], acr: str, ago: float
) -> None:
    tokens = signed_in(flow, *entries).tokens(scope="openid rooms:read")
    for which in ("access_token", "id_token"):
        claims = claims_of(tokens, which)
        assert claims["acr"] == acr
        assert abs(claims["auth_time"] - (time.time() - ago)) < 10
    seen = flow.post("introspect", {"token": tokens["access_token"]} | flow.proof()).json()
    assert (seen["acr"], seen["auth_time"]) == (acr, claims["auth_time"])  # RFC 9470 §6.2


def test_a_sign_in_of_another_person_in_the_same_browser_counts_for_nothing(flow: Flow) -> None:
    flow.sign_in()
    proven(flow.browser, flow.house.members["ada"].user, ("passkey", 10))
    assert "acr" not in claims_of(flow.tokens())


def test_a_refreshed_token_is_no_fresher_than_the_sign_in(flow: Flow) -> None:
    """RFC 9470 §6: what the refresh token came from counts, not the refresh."""
    first = signed_in(flow, ("password", 500), ("totp", 400)).tokens()
    second = flow.refresh(first["refresh_token"]).json()
    before, after = claims_of(first), claims_of(second)
    assert (before["acr"], before["auth_time"]) == (after["acr"], after["auth_time"])


def test_what_the_session_does_between_question_and_answer_does_not_count(flow: Flow) -> None:
    page = signed_in(flow, ("password", 500)).authorize()
    proven(flow.browser, flow.house.members["matt"].user, ("password", 500), ("passkey", 1))
    code = answer_in(flow.answer(page))["code"]
    assert claims_of(flow.redeem(code).json())["acr"] == "1fa"


# -- asking for more (RFC 9470 §4, §5)


@pytest.mark.parametrize("asked", ["1fa", "2fa", "2fa phr", "phr 2fa", "unknown 2fa"])
def test_a_sign_in_that_reaches_one_of_the_levels_will_do(flow: Flow, asked: str) -> None:
    signed_in(flow, ("password", 100), ("totp", 90))
    assert flow.authorize(acr_values=asked).status_code == 200


@pytest.mark.parametrize(
    ("kinds", "asked", "page"),
    [
        (["totp"], "2fa", "/account/2fa/reauthenticate/"),
        (["totp", "webauthn"], "2fa", "/account/2fa/reauthenticate/"),
        (["webauthn"], "2fa", "/account/2fa/webauthn/reauthenticate/"),
        (["totp", "webauthn"], "phr", "/account/2fa/webauthn/reauthenticate/"),
        (["totp"], "phr 2fa", "/account/2fa/reauthenticate/"),
    ],
)
def test_a_weaker_one_is_made_stronger_and_comes_back(flow: Flow, kinds: list[str], asked: str, page: str) -> None:
    owns(flow, *kinds)
    signed_in(flow, ("password", 10))
    away = flow.authorize(acr_values=asked)
    assert away.status_code == 302 and away["Location"].startswith(f"{page}?next=")
    kind = "passkey" if "webauthn" in page else "totp"
    proven(flow.browser, flow.house.members["matt"].user, ("password", 10), (kind, 0))
    assert claims_of(flow.tokens(acr_values=asked))["acr"] in ("2fa", "phr")


@pytest.mark.parametrize(
    ("kinds", "asked", "needs"),
    [([], "2fa", "a passkey, or a code from an app"), ([], "phr", "a passkey"), (["totp"], "phr", "a passkey")],
)
def test_who_has_not_set_up_what_it_takes_reads_that_before_going_back(
    flow: Flow, kinds: list[str], asked: str, needs: str
) -> None:
    owns(flow, *kinds)
    signed_in(flow, ("password", 10))
    page = flow.authorize(acr_values=asked)
    html = page.content.decode()
    assert page.status_code == 403 and "Location" not in page and "no-store" in page["Cache-Control"]
    assert f"more than your password: {needs}. You have" in html and 'href="/account/2fa/"' in html
    (back,) = re.findall(r'href="(https://assistant\.example/cb\?[^"]+)"', html)
    answer = parse_qs(urlsplit(unescape(back)).query)
    assert answer["error"] == ["unmet_authentication_requirements"] and answer["iss"] == [flow.issuer]
    [event] = cast.events_of(flow.house.tenant.id, "authorization.refused")
    assert event.reasons == ["unmet_authentication_requirements"]


@pytest.mark.parametrize("asked", [{"acr_values": "loa4"}, {"acr_values": "2fa", "prompt": "none"}])
def test_what_nobody_could_set_up_or_be_shown_goes_back_at_once(flow: Flow, asked: dict[str, str]) -> None:
    """RFC 9470 §5: unmet_authentication_requirements."""
    owns(flow)
    signed_in(flow, ("password", 10))
    answer = answer_in(flow.authorize(**asked))
    assert (answer["error"], answer["iss"]) == ("unmet_authentication_requirements", flow.issuer)
    [event] = cast.events_of(flow.house.tenant.id, "authorization.refused")
    assert event.reasons == ["unmet_authentication_requirements"]


def test_without_being_shown_anything_nobody_steps_up(flow: Flow) -> None:
    """OpenID Connect Core §3.1.2.1: prompt=none."""
    owns(flow, "totp")
    signed_in(flow, ("password", 10))
    assert answer_in(flow.authorize(acr_values="2fa", prompt="none"))["error"] == "login_required"


def test_level_and_age_must_be_met_by_the_same_proof(flow: Flow) -> None:
    owns(flow, "totp")
    signed_in(flow, ("password", 5000), ("totp", 4990), ("password", 5))
    away = flow.authorize(acr_values="2fa", max_age="300")
    assert away.status_code == 302 and away["Location"].startswith("/account/2fa/reauthenticate/")
    assert flow.authorize(acr_values="1fa", max_age="300").status_code == 200
    assert claims_of(flow.tokens(max_age="300"))["acr"] == "1fa"  # the recent one was only a password
    assert claims_of(flow.tokens())["acr"] == "2fa"


def test_a_real_password_makes_an_old_sign_in_fresh(flow: Flow) -> None:
    owns(flow)
    signed_in(flow, ("password", 5000))
    away = flow.authorize(max_age="300")
    assert away["Location"].startswith("/account/reauthenticate/?next=")
    page = flow.browser.get(away["Location"])
    assert page.status_code == 200
    back = flow.browser.post(away["Location"], {"password": PASSWORD, "next": away["Location"].split("next=")[1]})
    assert back.status_code == 302
    assert time.time() - claims_of(flow.tokens(max_age="300"))["auth_time"] < 30


@pytest.mark.parametrize("wanted", [{"prompt": "login"}, {"max_age": "0"}])
def test_who_signs_in_for_a_request_does_so_once_and_for_that_one_alone(flow: Flow, wanted: dict[str, str]) -> None:
    """OpenID Connect Core §3.1.2.1: each such request wants a sign-in, the very same one again too."""
    owns(flow)
    flow.browser = Client()
    away = flow.authorize(**wanted)["Location"]
    assert away.startswith("/account/login/?next=")
    form = form_of(flow.browser.get(away))
    back = flow.browser.post(away, form | {"login": flow.house.members["matt"].user.email, "password": PASSWORD})
    page = flow.browser.get(back["Location"])
    assert page.status_code == 200 and "code" in answer_in(flow.answer(page))
    assert flow.authorize(**wanted)["Location"].startswith("/account/reauthenticate/?next=")
    assert flow.authorize(**wanted)["Location"].startswith("/account/reauthenticate/?next=")  # until it was done


def test_the_pages_that_ask_again_are_ours(flow: Flow) -> None:
    owns(flow, "totp")
    for page in ("reauthenticate/", "2fa/reauthenticate/"):
        html = flow.browser.get(f"/account/{page}").content.decode()
        assert "<h1>Is it you?</h1>" in html and "%}" not in html


def test_demands_may_be_pushed_ahead(flow: Flow) -> None:
    owns(flow, "totp")
    signed_in(flow, ("password", 10))
    pushed = flow.post("par", flow.request(acr_values="2fa", max_age="60") | flow.proof()).json()
    asked = {"client_id": flow.agent.client_id, "request_uri": pushed["request_uri"]}
    away = flow.browser.get(flow.path("authorize"), asked)
    assert away.status_code == 302 and away["Location"].startswith("/account/2fa/reauthenticate/")
    proven(flow.browser, flow.house.members["matt"].user, ("password", 10), ("totp", 0))
    assert flow.browser.get(flow.path("authorize"), asked).status_code == 200


def test_the_levels_are_announced(flow: Flow) -> None:
    """RFC 9470 §7, OpenID Connect Discovery §3."""
    found = flow.browser.get(f"/t/{flow.house.tenant.slug}/.well-known/openid-configuration").json()
    assert found["acr_values_supported"] == ["1fa", "2fa", "phr"]


def test_an_agent_that_was_handed_a_token_hands_on_no_better_sign_in(flow: Flow) -> None:
    """RFC 8693: what the subject token says of the person stays."""
    from dataclasses import replace

    from agentauth.agents.registering import TOKEN_EXCHANGE, add_secret

    subject = signed_in(flow, ("password", 300)).tokens()
    house = flow.house
    with in_tenant(house.tenant.id):
        second = cast.assistant(house, name="Specialist")
        second.grant_types = [*second.grant_types, TOKEN_EXCHANGE]
        second.save()
        _, secret = add_secret(second, by=house.owner)
        cast.matts_grant(house, second)
    own = replace(flow, agent=second, secret=secret)
    form = {
        "grant_type": TOKEN_EXCHANGE,
        "subject_token": subject["access_token"],
        "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
    }
    got = claims_of(own.post("token", form | own.proof()).json())
    assert (got["acr"], got["auth_time"]) == ("1fa", claims_of(subject)["auth_time"])


@pytest.mark.parametrize(
    ("client_asks", "where"), [({}, "2fa"), ({"acr_values": "1fa"}, "2fa"), ({"max_age": "9"}, "2fa")]
)
def test_for_one_call_the_sign_in_that_it_takes_comes_before_the_question(
    flow: Flow, client_asks: dict[str, str], where: str
) -> None:
    """Nobody says yes to a call (RFC 9396) that the resource would then refuse for want of a better sign-in."""
    from agentauth.grants.sign_in_rules import demand_sign_in
    from tests.oauth.test_authorization_details import asking

    house = flow.house
    with in_tenant(house.tenant.id):
        demand_sign_in(house.office, from_risk="change", acr="2fa", max_age=300, by=house.owner)
    owns(flow, "totp")
    signed_in(flow, ("password", 20))
    away = flow.authorize(**asking(flow), **client_asks)
    assert away.status_code == 302 and away["Location"].startswith(f"/account/{where}/reauthenticate/")
    assert flow.authorize(**asking(flow, actions=["GET /rooms"], arguments={})).status_code == 200  # below the class
    proven(flow.browser, house.members["matt"].user, ("password", 20), ("totp", 0))
    assert claims_of(flow.tokens(**asking(flow), **client_asks))["acr"] == "2fa"


def test_who_cannot_sign_in_well_enough_for_the_call_is_not_asked_about_it(flow: Flow) -> None:
    from agentauth.grants.sign_in_rules import demand_sign_in
    from tests.oauth.test_authorization_details import asking

    house = flow.house
    with in_tenant(house.tenant.id):
        demand_sign_in(house.office, from_risk="read", acr="phr", max_age=None, by=house.owner)
    signed_in(flow, ("password", 20))
    page = flow.authorize(**asking(flow))
    assert page.status_code == 403 and "Set up a passkey first" in page.content.decode()
    assert "Allow" not in page.content.decode()
