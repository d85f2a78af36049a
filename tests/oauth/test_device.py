"""Device authorization (RFC 8628): a device shows a code, its person types it in elsewhere, it asks until they did."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from unittest import mock

import jwt
import pytest
from django.db import transaction
from django.test import Client
from django.utils.timezone import now

from agentauth.agents.registering import add_secret
from agentauth.oauth import elsewhere
from agentauth.oauth.device_codes import ALPHABET
from agentauth.oauth.grants import device_code as device_grant
from agentauth.oauth.models import DeviceRequest
from audit.models import Event
from tenants.models import secret_hash
from tenants.rls import in_tenant, set_tenant
from tests import cast
from tests.cast import House, events_of
from tests.oauth.browser import Flow, form_of, register
from tests.oauth.test_races import CALLERS, statuses, together

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
PAGE = "/t/acme/device/"


def device_flow(acme: House, **changes: Any) -> Flow:
    with transaction.atomic():
        set_tenant(acme.tenant.id)
        grants = [GRANT, "refresh_token", "authorization_code"]
        agent = cast.assistant(acme, **({"grant_types": grants} | changes))
        public = agent.token_endpoint_auth_method == "none"
        secret = "" if public else add_secret(agent, by=acme.owner)[1]
    return Flow(acme, agent, secret).sign_in()


@pytest.fixture
def device(acme: House) -> Flow:
    """Matt's assistant on a device without a browser, confidential; Matt's own browser beside it."""
    return device_flow(acme)


def start(flow: Flow, **changes: Any) -> Any:
    asked = {"scope": "rooms:read meeting:enter", "resource": flow.resource} | flow.proof() | changes
    return flow.post("device_authorization", {name: value for name, value in asked.items() if value is not None})


def started(flow: Flow, **changes: Any) -> dict[str, Any]:
    answer = start(flow, **changes)
    assert answer.status_code == 200, answer.content
    found: dict[str, Any] = answer.json()
    return found


def poll(flow: Flow, code: str, **changes: Any) -> Any:
    return flow.post("token", {"grant_type": GRANT, "device_code": code} | flow.proof() | changes)


def type_in(flow: Flow, user_code: str) -> Any:
    return flow.browser.post(PAGE, {"user_code": user_code})


def allow(flow: Flow, user_code: str, answer: str = "allow", **changes: Any) -> Any:
    return flow.answer(type_in(flow, user_code), answer, **changes)


def row_of(flow: Flow) -> DeviceRequest:
    with in_tenant(flow.house.tenant.id):
        return DeviceRequest.objects.get(tenant=flow.house.tenant)


def wait_over(flow: Flow) -> None:
    """As if the interval had gone by since the last poll."""
    with in_tenant(flow.house.tenant.id):
        row = DeviceRequest.objects.get(tenant=flow.house.tenant)
        DeviceRequest.objects.update(polled_at=now() - timedelta(seconds=row.interval))


def refused_for(flow: Flow, action: str = "authorization.refused") -> list[str]:
    return [event.reasons[0] for event in events_of(flow.house.tenant.id, action)]


def test_a_device_gets_a_token_once_its_person_has_allowed_it(device: Flow) -> None:
    answer = start(device)
    assert answer.status_code == 200 and answer["Cache-Control"] == "no-store"  # §3.2
    said = answer.json()
    assert said["verification_uri"] == f"{device.issuer}/device/"
    assert said["verification_uri_complete"] == f"{device.issuer}/device/?user_code={said['user_code']}"
    assert said["expires_in"] == 600 and said["interval"] == 5
    plain = said["user_code"].replace("-", "")
    assert len(plain) == 8 and set(plain) <= set(ALPHABET)  # §6.1
    assert poll(device, said["device_code"]).json()["error"] == "authorization_pending"  # §3.5
    done = allow(device, said["user_code"])
    assert done.status_code == 200 and "has its badge" in done.content.decode()
    tokens = poll(device, said["device_code"])
    assert tokens.status_code == 200 and tokens["Cache-Control"] == "no-store"
    claims = jwt.decode(tokens.json()["access_token"], options={"verify_signature": False})
    assert claims["sub"] == str(device.house.members["matt"].id) and claims["act"] == {"sub": str(device.agent.id)}
    assert claims["aud"] == device.resource and claims["auth_time"] <= claims["iat"]
    assert set(claims["scope"].split()) == {"rooms:read", "meeting:enter"}
    issued = events_of(device.house.tenant.id, "token.issued")
    assert [event.details["grant_type"] for event in issued] == [GRANT]
    assert len(events_of(device.house.tenant.id, "grant.given")) == 1
    assert device.refresh(tokens.json()["refresh_token"]).status_code == 200


def test_waiting_is_no_refusal_and_not_on_record(device: Flow) -> None:
    assert poll(device, started(device)["device_code"]).status_code == 400
    assert events_of(device.house.tenant.id, "token.refused") == []


def test_only_hashes_of_the_codes_are_kept(device: Flow) -> None:
    said = started(device)
    with in_tenant(device.house.tenant.id):
        kept = str(list(DeviceRequest.objects.values()))
    assert said["device_code"] not in kept
    assert said["user_code"] not in kept and said["user_code"].replace("-", "") not in kept


def test_a_public_client_uses_it_with_its_id_alone(acme: House) -> None:
    flow = device_flow(acme, auth_method="none")
    said = started(flow)
    allow(flow, said["user_code"])
    assert poll(flow, said["device_code"]).status_code == 200


def test_the_client_proves_itself_and_is_registered_for_it(device: Flow, acme: House) -> None:
    wrong = start(device, client_secret="wrong")
    assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_client")  # §3.1
    other = device_flow(acme, name="Without", grant_types=["authorization_code"])
    assert start(other).json()["error"] == "unauthorized_client"
    said = started(device)
    assert poll(other, said["device_code"]).json()["error"] == "unauthorized_client"
    assert device.browser.get(device.path("device_authorization")).status_code == 405


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"scope": "nothing:here"}, "invalid_scope"),
        ({"scope": 'rooms:read "'}, "invalid_scope"),
        ({"resource": "https://elsewhere.example/"}, "invalid_target"),
        ({"scope": ["rooms:read", "rooms:book"]}, "invalid_request"),  # §3.1: no parameter twice
    ],
)
def test_a_wrong_request_is_refused_at_once(device: Flow, changes: dict[str, Any], error: str) -> None:
    answer = start(device, **changes)
    assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert len(refused_for(device)) == 1


def test_a_device_that_asks_too_often_is_slowed_down_for_good(device: Flow) -> None:
    code = started(device)["device_code"]
    assert poll(device, code).json()["error"] == "authorization_pending"
    assert poll(device, code).json()["error"] == "slow_down"  # §3.5
    assert row_of(device).interval == 10
    assert poll(device, code).json()["error"] == "slow_down"
    assert row_of(device).interval == 15
    wait_over(device)
    assert poll(device, code).json()["error"] == "authorization_pending"
    assert row_of(device).interval == 15  # for all that follow, not only for the next
    assert refused_for(device, "token.refused") == ["slow_down", "slow_down"]


def test_a_person_who_says_no_is_heard_by_the_device(device: Flow) -> None:
    said = started(device)
    assert "got nothing" in allow(device, said["user_code"], "deny").content.decode()
    answer = poll(device, said["device_code"])
    assert (answer.status_code, answer.json()["error"]) == (400, "access_denied")  # §3.5
    assert refused_for(device, "grant.refused") == ["person_said_no"]
    assert events_of(device.house.tenant.id, "grant.given") == []
    assert type_in(device, said["user_code"]).status_code == 422


def test_a_code_that_nobody_answered_expires_for_both(device: Flow) -> None:
    said = started(device)
    page = type_in(device, said["user_code"])
    with in_tenant(device.house.tenant.id):
        DeviceRequest.objects.update(expires_at=now())
    assert poll(device, said["device_code"]).json()["error"] == "expired_token"  # §3.5
    assert device.answer(page).status_code == 400
    assert type_in(device, said["user_code"]).status_code == 422
    assert events_of(device.house.tenant.id, "grant.given") == []


def test_a_device_code_is_redeemed_once_by_its_client(device: Flow, acme: House) -> None:
    said = started(device)
    allow(device, said["user_code"])
    other = device_flow(acme, name="Other")
    assert poll(other, said["device_code"]).json()["error"] == "invalid_grant"  # §3.4: bound to the client
    assert poll(device, said["device_code"]).status_code == 200
    assert poll(device, said["device_code"]).json()["error"] == "invalid_grant"
    assert poll(device, said["device_code"] + "x").json()["error"] == "invalid_grant"
    assert poll(device, said["user_code"]).json()["error"] == "invalid_grant"
    assert refused_for(device, "token.refused") == [
        "device_code_of_another_client",
        "device_code_reused",
        "unknown_device_code",
        "unknown_device_code",
    ]


def test_no_token_is_fetched_without_the_clients_proof_or_without_a_code(device: Flow) -> None:
    """§3.4: what was allowed waits for the client that asked."""
    said = started(device)
    allow(device, said["user_code"])
    for wrong in ("aas_wrong", ""):
        answer = poll(device, said["device_code"], client_secret=wrong)
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    assert refused_for(device, "client.refused") == ["wrong_secret", "authentication_method"]
    assert device.post("token", {"grant_type": GRANT} | device.proof()).json()["error"] == "invalid_request"
    assert refused_for(device, "token.refused") == ["missing_parameter"]
    assert poll(device, said["device_code"]).status_code == 200


def test_a_device_code_that_comes_again_ends_what_it_gave(device: Flow) -> None:
    said = started(device)
    allow(device, said["user_code"])
    first = poll(device, said["device_code"]).json()
    rotated = device.refresh(first["refresh_token"]).json()
    other = device_flow(device.house, name="Other")
    assert poll(other, said["device_code"]).status_code == 400  # of no use to others, to end something neither
    assert is_active(device, first["access_token"]) and is_active(device, rotated["access_token"])
    assert poll(device, said["device_code"]).json()["error"] == "invalid_grant"
    assert not is_active(device, first["access_token"]) and not is_active(device, rotated["access_token"])
    assert device.refresh(rotated["refresh_token"]).json()["error"] == "invalid_grant"
    reused = events_of(device.house.tenant.id, "token.reused")
    assert [(one.agent_id, one.details["kind"]) for one in reused] == [(device.agent.id, "device_code")]


def is_active(flow: Flow, access_token: str) -> bool:
    answer = flow.post("introspect", flow.proof() | {"token": access_token})
    return bool(answer.json()["active"])


def test_a_grant_that_ended_gives_the_device_nothing(device: Flow) -> None:
    said = started(device)
    allow(device, said["user_code"])
    with in_tenant(device.house.tenant.id):
        grant = device.house.tenant.grants.get()
        grant.revoke(by=device.house.members["matt"])
    assert poll(device, said["device_code"]).json()["error"] == "invalid_grant"


def test_the_code_is_read_as_people_type_it(device: Flow) -> None:
    code = started(device)["user_code"]
    assert type_in(device, f" {code.lower().replace('-', ' ')} ").status_code == 200  # §6.1


def test_the_complete_address_fills_the_code_in_and_still_asks(device: Flow) -> None:
    said = started(device)
    page = device.browser.get(said["verification_uri_complete"].removeprefix("http://localhost:8000"))
    html = page.content.decode()
    assert f'value="{said["user_code"]}"' in html and "Does your device show this code?" in html  # §3.3.1
    assert row_of(device).member_id is None
    strange = device.browser.get(f"{PAGE}?user_code=%3Cscript%3E").content.decode()
    assert "<script" not in strange and "%3Cscript" not in strange
    assert "frame-ancestors 'none'" in page["Content-Security-Policy"]


@pytest.mark.parametrize("typed", ["HELO-WOLD", "bcd fgh", "…"], ids=["with vowels", "too short", "no letter"])
def test_a_wrong_code_stays_in_the_field_to_be_corrected(device: Flow, typed: str) -> None:
    page = type_in(device, typed)
    assert page.status_code == 422 and f'value="{typed}"' in page.content.decode()
    assert refused_for(device) == ([] if typed == "…" else ["user_code_wrong"])  # nothing typed is no guess


def test_who_has_not_signed_in_signs_in_first_and_keeps_the_code(device: Flow) -> None:
    answer = Client().get(f"{PAGE}?user_code=BCDF-GHJK")
    assert answer.status_code == 302
    assert answer["Location"] == "/account/login/?next=/t/acme/device/%3Fuser_code%3DBCDF-GHJK"


def test_it_asks_again_even_when_all_was_allowed_before(device: Flow) -> None:
    for _ in range(2):
        said = started(device)
        assert "Allow</button>" in type_in(device, said["user_code"]).content.decode()  # §5.4
        allow(device, said["user_code"])
        assert poll(device, said["device_code"]).status_code == 200


def test_whoever_typed_the_code_in_first_is_the_only_one_to_answer(device: Flow) -> None:
    said = started(device)
    page = type_in(device, said["user_code"])
    ada = cast.signed_in(device.house.members["ada"])
    assert ada.post(PAGE, {"user_code": said["user_code"]}).status_code == 422
    stolen = ada.post(device.path("consent"), form_of(page) | {"answer": "allow"})
    assert stolen.status_code == 400  # another person's question, in another browser
    assert "consent_other_browser" in refused_for(device)
    assert events_of(device.house.tenant.id, "grant.given") == []
    assert device.answer(page).status_code == 200


def test_another_tenants_people_do_not_find_it(device: Flow, globex: House) -> None:
    said = started(device)
    gus = cast.signed_in(globex.members["gus"])
    assert gus.get(PAGE).status_code == 404
    assert gus.post("/t/globex/device/", {"user_code": said["user_code"]}).status_code == 422
    assert type_in(device, said["user_code"]).status_code == 200


def test_a_form_from_another_site_is_not_taken(device: Flow) -> None:
    said = started(device)
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = device.browser.cookies
    assert strict.post(PAGE, {"user_code": said["user_code"]}).status_code == 403
    assert row_of(device).member_id is None


def test_what_is_above_the_ceiling_is_refused_to_the_device(device: Flow) -> None:
    from agentauth.resources.ceilings import set_ceiling

    said = started(device, scope="finance:enter")
    with in_tenant(device.house.tenant.id):
        set_ceiling(device.agent, [device.house.scope("rooms:read")], by=device.house.owner)
    assert type_in(device, said["user_code"]).status_code == 400
    assert refused_for(device) == ["above_ceiling"]
    assert poll(device, said["device_code"]).json()["error"] == "access_denied"


def test_guessing_codes_ends_after_five(device: Flow) -> None:
    said = started(device)
    for _ in range(5):
        assert type_in(device, "BBBB-BBBB").status_code == 422
    assert type_in(device, said["user_code"]).status_code == 429  # §5.1: even the right one
    assert row_of(device).member_id is None
    assert refused_for(device) == ["user_code_wrong"] * 5 + ["user_code_attempts"]
    guesses = events_of(device.house.tenant.id, "authorization.refused")
    assert {event.member_id for event in guesses} == {device.house.members["matt"].id}
    other = cast.signed_in(device.house.members["ada"])  # nobody else pays for it
    assert other.post(PAGE, {"user_code": said["user_code"]}).status_code == 200


def test_guessing_by_many_at_once_ends_after_five_too(device: Flow) -> None:
    def guess() -> Any:
        browser = Client()
        browser.cookies.update(device.browser.cookies)
        return browser.post(PAGE, {"user_code": "BBBB-BBBB"})

    counted = statuses(together(guess))
    assert counted[422] == 5 and counted[429] == CALLERS - 5


def test_a_client_registers_itself_for_devices_without_redirects(acme: House) -> None:
    document = {"client_name": "TV", "grant_types": [GRANT], "token_endpoint_auth_method": "none"}
    answer = register(acme, document)
    assert answer.status_code == 201, answer.content
    said = answer.json()
    assert said["grant_types"] == [GRANT] and said["redirect_uris"] == [] and said["response_types"] == []
    with in_tenant(acme.tenant.id):
        agent = acme.tenant.agents.get(client_id=said["client_id"])
    flow = Flow(acme, agent).sign_in()
    begun = started(flow, scope="rooms:read")
    page = type_in(flow, begun["user_code"])
    assert "the device that showed you a code" in page.content.decode()
    flow.answer(page)
    assert poll(flow, begun["device_code"]).json()["scope"] == "rooms:read"
    assert register(acme, document | {"grant_types": ["authorization_code", GRANT]}).status_code == 400


def test_discovery_names_endpoint_and_grant(acme: House) -> None:
    said = Client().get("/.well-known/oauth-authorization-server/t/acme").json()
    assert said["device_authorization_endpoint"] == "http://localhost:8000/t/acme/oauth/device_authorization"  # §4
    assert GRANT in said["grant_types_supported"]


# Races, and the mutants that they must see


def race_redemptions(flow: Flow, rounds: int) -> None:
    for _ in range(rounds):
        said = started(flow)
        assert allow(flow, said["user_code"]).status_code == 200
        counted = statuses(together(lambda said=said: poll(flow, said["device_code"])))  # type: ignore[misc]
        assert set(counted) <= {200, 400}
        assert counted[200] == 1


def race_answers(flow: Flow, rounds: int) -> None:
    """One person answers the same device from many pages at once: one answer counts."""
    for _ in range(rounds):
        said = started(flow)
        forms = [form_of(type_in(flow, said["user_code"])) | {"answer": "allow"} for _ in range(CALLERS)]

        def answer(forms: Any = forms) -> Any:
            browser = Client()
            browser.cookies.update(flow.browser.cookies)
            return browser.post(flow.path("consent"), forms.pop())

        counted = statuses(together(answer))
        assert set(counted) <= {200, 400}
        assert counted[200] == 1


def test_a_device_code_has_one_winner(device: Flow) -> None:
    race_redemptions(device, 5)
    assert len(events_of(device.house.tenant.id, "token.issued")) == 5
    assert set(refused_for(device, "token.refused")) == {"device_code_reused"}


def test_a_device_has_one_answer(device: Flow) -> None:
    race_answers(device, 3)
    assert set(refused_for(device)) == {"device_answered"}


def test_the_redemption_race_catches_a_missing_lock(device: Flow) -> None:
    def unlocked(code: str, client: Any) -> DeviceRequest:
        rows = DeviceRequest.objects.filter(tenant_id=client.tenant_id, device_hash=secret_hash(code))
        return rows.select_related("grant__member__user", "grant__resource").get()

    with mock.patch.object(device_grant, "find", unlocked), pytest.raises(AssertionError):
        race_redemptions(device, 20)


def test_the_answer_race_catches_a_missing_lock(device: Flow) -> None:
    def unlocked(asked: Any, member: Any) -> DeviceRequest:
        return DeviceRequest.objects.get(tenant_id=member.tenant_id, id=asked.device)

    with mock.patch.object(elsewhere, "waiting", unlocked), pytest.raises(AssertionError):
        race_answers(device, 20)


def test_the_guessing_race_catches_guesses_that_are_not_counted(device: Flow) -> None:
    with mock.patch.object(Event.objects, "filter", return_value=Event.objects.none()), pytest.raises(AssertionError):
        test_guessing_by_many_at_once_ends_after_five_too(device)
