"""Step-up (RFC 9470) where the answer is given in another place: an agent's own question (CIBA), a device's code."""

from __future__ import annotations

from typing import Any

import pytest

from agentauth.grants.sign_in_rules import demand_sign_in
from tenants.rls import in_tenant
from tests.cast import House, events_of
from tests.oauth.asking import answer, asking_flow, begun, fetch, question, rows_of
from tests.oauth.browser import Flow
from tests.oauth.test_authorization_details import asking
from tests.oauth.test_device import allow, device_flow, poll, started, type_in
from tests.oauth.test_step_up import claims_of, owns, proven, signed_in

TWO = "/account/2fa/reauthenticate/"


@pytest.fixture
def asker(acme: House) -> Flow:
    return asking_flow(acme)


def demanded(flow: Flow, **rule: Any) -> None:
    with in_tenant(flow.house.tenant.id):
        demand_sign_in(flow.house.office, from_risk="change", by=flow.house.owner, **rule)


def sign_in_as(flow: Flow, *entries: tuple[str, float]) -> None:
    proven(flow.browser, flow.house.members["matt"].user, *entries)


def test_an_agents_question_is_answered_by_who_has_signed_in_as_it_asks(asker: Flow) -> None:
    """CIBA Core §7.1: acr_values; the id token says how it was."""
    owns(asker, "totp")
    signed_in(asker, ("password", 20))
    asked = begun(asker, acr_values="gold 2fa")
    away = question(asker)
    assert away.status_code == 302 and away["Location"].startswith(f"{TWO}?next=%2Ft%2Facme%2Fmy%2Finbox%2Fasks%2F")
    sign_in_as(asker, ("password", 20), ("totp", 0))
    answer(asker)
    tokens = fetch(asker, asked).json()
    assert claims_of(tokens)["acr"] == claims_of(tokens, "id_token")["acr"] == "2fa"


def test_without_a_level_any_sign_in_answers_it(asker: Flow) -> None:
    signed_in(asker, ("password", 20))
    asked = begun(asker)
    answer(asker)
    assert claims_of(fetch(asker, asked).json())["acr"] == "1fa"


def test_who_has_not_set_up_what_it_takes_finds_the_question_still_open(asker: Flow) -> None:
    signed_in(asker, ("password", 20))
    asked = begun(asker, acr_values="2fa")
    page = question(asker)
    assert page.status_code == 403 and "Set up a second step first" in page.content.decode()
    assert "Allow" not in page.content.decode() and "Back to the question" in page.content.decode()
    (told,) = events_of(asker.house.tenant.id, "authorization.refused")
    assert told.reasons == ["unmet_authentication_requirements"] and told.agent_id == asker.agent.id
    assert rows_of(asker)[0].is_open and fetch(asker, asked).json()["error"] == "authorization_pending"
    owns(asker, "totp")
    sign_in_as(asker, ("password", 20), ("totp", 0))
    assert answer(asker).status_code == 200


def test_for_one_call_the_sign_in_that_the_resource_wants_comes_first(asker: Flow) -> None:
    """RFC 9396: nobody says yes to a call that the gateway would then refuse."""
    demanded(asker, acr="2fa", max_age=300)
    owns(asker, "totp")
    signed_in(asker, ("password", 20))
    asked = begun(asker, **asking(asker) | {"scope": "openid"})
    assert question(asker)["Location"].startswith(TWO)
    sign_in_as(asker, ("password", 20), ("totp", 0))
    answer(asker)
    assert claims_of(fetch(asker, asked).json())["acr"] == "2fa"


def test_each_devices_code_takes_a_sign_in_as_fresh_as_is_wanted(acme: House) -> None:
    """Every code is typed in at the same address: having signed in for one is not having signed in for the next."""
    flow = device_flow(acme)
    demanded(flow, acr="2fa", max_age=300)
    owns(flow, "totp")
    signed_in(flow, ("password", 20))
    first, second = (started(flow, **asking(flow)) for _ in range(2))
    assert type_in(flow, first["user_code"])["Location"].startswith(TWO)
    sign_in_as(flow, ("password", 20), ("totp", 0))
    allow(flow, first["user_code"])
    assert claims_of(poll(flow, first["device_code"]).json())["acr"] == "2fa"
    session = flow.browser.session  # a day goes by
    session["oauth-sign-in-asked"] = {mark: at - 86400 for mark, at in session["oauth-sign-in-asked"].items()}
    session.save()
    sign_in_as(flow, ("password", 20), ("totp", 400))
    assert type_in(flow, second["user_code"])["Location"].startswith(TWO)
