"""OpenID Connect CIBA Core: an agent asks its person, who answers in their inbox; the agent fetches what they said."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from unittest import mock

import jwt
import pytest
from django.test import Client
from django.utils.timezone import now

from agentauth.agents.registering import add_key
from agentauth.grants.leaving import deactivate
from agentauth.keys.signing import sign
from agentauth.oauth import backchannel_requests, elsewhere
from agentauth.oauth.grants import backchannel as backchannel_grant
from agentauth.oauth.models import BackchannelRequest
from tenants.models import Member, secret_hash
from tenants.rls import in_tenant
from tests import cast
from tests.cast import House, events_of
from tests.oauth.asking import (
    GRANT,
    INBOX,
    answer,
    asking_flow,
    begin,
    begun,
    fetch,
    question,
    refused_for,
    rows_of,
    wait_over,
)
from tests.oauth.browser import Flow, form_of, register
from tests.oauth.test_own_host import HERE, OwnFlow, move
from tests.oauth.test_races import CALLERS, statuses, together


@pytest.fixture
def asker(acme: House) -> Flow:
    """Matt's assistant, confidential, that asks by itself and polls."""
    return asking_flow(acme)


def claims_of(token: str) -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return found


# The whole way


def test_an_agent_gets_a_token_once_its_person_has_said_yes_in_the_inbox(asker: Flow) -> None:
    said = begin(asker)
    assert said.status_code == 200 and said["Cache-Control"] == "no-store"  # §7.3
    assert said.json()["expires_in"] == 600 and said.json()["interval"] == 5
    auth_req_id = said.json()["auth_req_id"]
    assert len(auth_req_id) >= 43 and auth_req_id.replace("-", "").replace("_", "").isalnum()  # §7.3: 160 bits, these
    assert fetch(asker, auth_req_id).json()["error"] == "authorization_pending"  # §11
    listed = asker.browser.get(INBOX).content.decode()
    assert "Matt&#x27;s assistant asks to act for you" in listed and "Room for 10:00, W4-SCT" in listed
    assert "Room for 10:00, W4-SCT" in question(asker).content.decode()
    done = answer(asker)
    assert done.status_code == 200 and "has its badge" in done.content.decode()
    tokens = fetch(asker, auth_req_id)
    assert tokens.status_code == 200 and tokens["Cache-Control"] == "no-store"
    claims = claims_of(tokens.json()["access_token"])
    matt = asker.house.members["matt"]
    assert claims["sub"] == str(matt.id) and claims["act"] == {"sub": str(asker.agent.id)}
    assert claims["aud"] == asker.resource and set(claims["scope"].split()) == {"rooms:read", "meeting:enter"}
    who = claims_of(tokens.json()["id_token"])  # §10.1.1
    assert who["sub"] == str(matt.id) and who["aud"] == asker.agent.client_id and who["auth_time"] <= who["iat"]
    asked = events_of(asker.house.tenant.id, "grant.asked")
    assert [(event.agent_id, event.member_id) for event in asked] == [(asker.agent.id, matt.id)]
    assert asked[0].details["message"] == "Room for 10:00, W4-SCT"
    assert len(events_of(asker.house.tenant.id, "grant.given")) == 1
    issued = events_of(asker.house.tenant.id, "token.issued")
    assert [event.details["grant_type"] for event in issued] == [GRANT]
    assert asker.refresh(tokens.json()["refresh_token"]).status_code == 200
    assert "asks to act for you" not in asker.browser.get(INBOX).content.decode()


def test_the_person_narrows_it_as_on_any_other_question(asker: Flow) -> None:
    auth_req_id = begun(asker)
    answer(asker, scope=["rooms:read"], until="today")
    tokens = fetch(asker, auth_req_id).json()
    assert tokens["scope"] == "rooms:read"
    with in_tenant(asker.house.tenant.id):
        assert asker.house.tenant.grants.get().expires_at.date() == now().date()


def test_userinfo_knows_the_person_whom_the_agent_asked(asker: Flow) -> None:
    auth_req_id = begun(asker, scope="openid email rooms:read")
    assert "your e-mail address" in question(asker).content.decode()
    answer(asker)
    token = fetch(asker, auth_req_id).json()["access_token"]
    told = Client().get(asker.path("userinfo"), headers={"Authorization": f"Bearer {token}"}).json()
    assert told == {"sub": str(asker.house.members["matt"].id), "email": "matt@acme.example"}


def test_one_concrete_call_may_be_asked_for(asker: Flow) -> None:
    detail = {"type": "operation", "locations": [asker.resource], "actions": ["POST /rooms/{room}/book"]}
    details = [detail | {"arguments": {"path": {"room": "blue"}}}]
    auth_req_id = begun(asker, scope="openid", authorization_details=json.dumps(details))
    assert "blue" in question(asker).content.decode()
    answer(asker)
    tokens = fetch(asker, auth_req_id).json()
    assert tokens["authorization_details"][0]["arguments"] == {"path": {"room": "blue"}}  # RFC 9396 §7
    wrong = begin(asker, scope="openid", authorization_details='[{"type":"payment"}]')
    assert wrong.json()["error"] == "invalid_authorization_details"


def test_it_asks_again_even_when_all_was_allowed_before(asker: Flow) -> None:
    for _ in range(2):
        auth_req_id = begun(asker)
        assert "Allow</button>" in question(asker).content.decode()
        answer(asker)
        assert fetch(asker, auth_req_id).status_code == 200


# What is kept, and what goes out


def test_only_a_hash_of_the_request_id_is_kept(asker: Flow) -> None:
    auth_req_id = begun(asker)
    with in_tenant(asker.house.tenant.id):
        assert auth_req_id not in str(list(BackchannelRequest.objects.values()))
    assert rows_of(asker)[0].sealed_ping_token is None


def test_discovery_names_endpoint_grant_and_modes(acme: House) -> None:
    said = Client().get("/.well-known/openid-configuration/t/acme").json()
    assert said["backchannel_authentication_endpoint"] == "http://localhost:8000/t/acme/oauth/bc-authorize"  # §4
    assert said["backchannel_token_delivery_modes_supported"] == ["poll", "ping"]
    assert said["backchannel_user_code_parameter_supported"] is False
    assert "backchannel_authentication_request_signing_alg_values_supported" not in said  # §4: no signed requests
    assert GRANT in said["grant_types_supported"]


# Who may ask (§7.1)


def test_the_client_proves_itself_and_is_registered_for_it(asker: Flow, acme: House) -> None:
    wrong = begin(asker, client_secret="wrong")
    assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_client")  # §13
    other = asking_flow(acme, name="Without", grant_types=["authorization_code"])
    assert begin(other).json()["error"] == "unauthorized_client"
    assert fetch(other, begun(asker)).json()["error"] == "unauthorized_client"
    assert Client().get(asker.path("bc-authorize")).status_code == 405


def test_a_public_client_asks_nobody(acme: House) -> None:
    public = asking_flow(acme, auth_method="none", grant_types=["authorization_code", GRANT])
    answered = begin(public)
    assert (answered.status_code, answered.json()["error"]) == (400, "unauthorized_client")
    assert refused_for(public) == ["public_client"]
    usual = asking_flow(acme, name="Usual", auth_method="none")
    assert GRANT not in usual.agent.grant_types


def test_an_assertion_may_name_this_endpoint_as_its_audience(acme: House) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    flow = asking_flow(acme, auth_method="private_key_jwt")
    public = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    with in_tenant(acme.tenant.id):
        kid = add_key(flow.agent, public, by=acme.owner).kid
    for number, audience in enumerate((flow.issuer, f"{flow.issuer}/oauth/token", f"{flow.issuer}/oauth/bc-authorize")):
        at = int(now().timestamp())
        said = {"iss": flow.agent.client_id, "sub": flow.agent.client_id, "aud": audience, "iat": at, "exp": at + 60}
        assertion = jwt.encode(said | {"jti": f"once-{number}"}, key, "ES256", headers={"kid": kid})
        proof = {
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": assertion,
            "client_secret": None,
        }
        assert begin(flow, **proof).status_code == 200  # §7.1: each of the three MUST be accepted


# What a request holds (§7.1, §7.2), and its errors (§13)


UNMET = "unmet_authentication_requirements"


@pytest.mark.parametrize(
    ("changes", "error", "reason"),
    [
        ({"scope": None}, "invalid_request", "missing_parameter"),
        ({"scope": "rooms:read"}, "invalid_scope", "openid_missing"),
        ({"scope": "openid nothing:here"}, "invalid_scope", "unknown_scope"),
        ({"resource": "https://elsewhere.example/"}, "invalid_target", "unknown_resource"),
        ({"login_hint": None}, "invalid_request", "not_one_hint"),
        ({"id_token_hint": "x.y.z"}, "invalid_request", "not_one_hint"),
        ({"login_hint": None, "id_token_hint": "x.y.z"}, "invalid_request", "id_token_hint"),
        ({"login_hint": None, "login_hint_token": "x"}, "invalid_request", "login_hint_token_unsupported"),
        ({"login_hint_token": "x"}, "invalid_request", "login_hint_token_unsupported"),
        ({"user_code": "1234"}, "invalid_request", "user_code_unsupported"),
        ({"request": "x.y.z"}, "invalid_request", "request_unsupported"),
        ({"login_hint": ["matt@acme.example", "ada@acme.example"]}, "invalid_request", "repeated_parameter"),
        ({"login_hint": "nobody@acme.example"}, "unknown_user_id", "unknown_user_id"),
        ({"login_hint": "somebody"}, "unknown_user_id", "unknown_user_id"),
        ({"login_hint": "0199a000-0000-7000-8000-000000000000"}, "unknown_user_id", "unknown_user_id"),
        ({"binding_message": "x" * 101}, "invalid_binding_message", "message_too_long"),
        ({"binding_message": "two\nlines"}, "invalid_binding_message", "message_not_plain"),
        ({"binding_message": "turned \u202eround"}, "invalid_binding_message", "message_not_plain"),
        ({"binding_message": "in\u200bvisible"}, "invalid_binding_message", "message_not_plain"),
        ({"binding_message": "  "}, "invalid_binding_message", "message_not_plain"),
        ({"acr_values": "gold urn:mace:incommon:iap:silver"}, "unmet_authentication_requirements", UNMET),
        ({"requested_expiry": "0"}, "invalid_request", "requested_expiry"),
        ({"requested_expiry": "-1"}, "invalid_request", "requested_expiry"),
        ({"requested_expiry": "1.5"}, "invalid_request", "requested_expiry"),
        ({"requested_expiry": "soon"}, "invalid_request", "requested_expiry"),
        ({"requested_expiry": "\u0663"}, "invalid_request", "requested_expiry"),
    ],
)
def test_a_wrong_request_is_refused_at_once_and_on_record(
    asker: Flow, changes: dict[str, Any], error: str, reason: str
) -> None:
    answered = begin(asker, **changes)
    assert (answered.status_code, answered.json()["error"]) == (400, error)
    assert refused_for(asker) == [reason]
    assert rows_of(asker) == [] and events_of(asker.house.tenant.id, "grant.asked") == []


@pytest.mark.parametrize("blank", [*"\u034f\u115f\u17b4\u180b\u2800\u3164\ufe0f\uffa0\U000e0100"])
def test_a_letter_that_nobody_sees_is_named_and_refused(asker: Flow, blank: str) -> None:
    """§7.1: two people compare the message by eye."""
    answered = begin(asker, binding_message=f"Room {blank}4")
    assert (answered.status_code, answered.json()["error"]) == (400, "invalid_binding_message")
    assert f"U+{ord(blank):04X}" in answered.json()["error_description"]
    assert refused_for(asker) == ["message_not_plain"] and rows_of(asker) == []


def test_letters_of_any_script_may_stand_in_the_message(asker: Flow) -> None:
    begun(asker, binding_message="会議室 4, Zürich, กรุงเทพ, 🎉")


def test_the_body_is_a_form(asker: Flow) -> None:
    wrong = Client().post(asker.path("bc-authorize"), "{}", content_type="application/json")
    assert (wrong.status_code, wrong.json()["error"]) == (400, "invalid_request")


@pytest.mark.parametrize(("asked", "given"), [("1", 30), ("120", 120), ("999999999", 86400)])
def test_the_time_that_was_asked_for_is_kept_within_bounds(asker: Flow, asked: str, given: int) -> None:
    said = begin(asker, requested_expiry=asked).json()
    assert said["expires_in"] == given
    left = (rows_of(asker)[0].expires_at - now()).total_seconds()
    assert given - 10 < left <= given


def test_a_person_is_named_by_address_in_any_case_by_sub_or_by_an_id_token(asker: Flow) -> None:
    matt = asker.house.members["matt"]
    begun(asker, login_hint="MATT@acme.example")
    begun(asker, login_hint=str(matt.id))
    answer(asker)
    with in_tenant(asker.house.tenant.id):
        old = {"iss": asker.issuer, "sub": str(matt.id), "aud": asker.agent.client_id, "iat": 1, "exp": 2}
        hint = sign(asker.house.tenant.id, old, "JWT")
    begun(asker, login_hint=None, id_token_hint=hint)  # Core §3.1.2.1: expired ones count as well
    assert {row.member_id for row in rows_of(asker)} == {matt.id}


@pytest.mark.parametrize(
    ("changes", "typ"),
    [({"aud": "another"}, "JWT"), ({"iss": "https://elsewhere.example"}, "JWT"), ({}, "at+jwt"), ({"sub": "x"}, "JWT")],
)
def test_an_id_token_hint_is_of_this_issuer_for_this_client(asker: Flow, changes: dict[str, str], typ: str) -> None:
    claims = {"iss": asker.issuer, "sub": str(asker.house.members["matt"].id), "aud": asker.agent.client_id}
    with in_tenant(asker.house.tenant.id):
        hint = sign(asker.house.tenant.id, claims | {"iat": 1, "exp": 2} | changes, typ)
    assert begin(asker, login_hint=None, id_token_hint=hint).json()["error"] == "invalid_request"
    assert refused_for(asker) == ["id_token_hint"]


def test_somebody_who_left_is_as_unknown_as_somebody_who_never_was_here(asker: Flow, globex: House) -> None:
    with in_tenant(asker.house.tenant.id):
        deactivate(asker.house.members["cora"], by=asker.house.owner)
    assert begin(asker, login_hint="cora@acme.example").json()["error"] == "unknown_user_id"
    assert begin(asker, login_hint="gus@globex.example").json()["error"] == "unknown_user_id"
    assert begin(asker, login_hint=str(globex.members["gus"].id)).json()["error"] == "unknown_user_id"


def test_nobody_reads_the_list_of_people_out_of_it(asker: Flow) -> None:
    for number in range(20):
        assert begin(asker, login_hint=f"guess-{number}@acme.example").status_code == 400
    answered = begin(asker)  # even a right one
    assert (answered.status_code, answered["Retry-After"]) == (429, "3600")
    assert refused_for(asker) == ["unknown_user_id"] * 20 + ["unknown_people_named"]


def test_what_is_above_the_ceiling_is_not_even_asked(asker: Flow) -> None:
    from agentauth.resources.ceilings import set_ceiling

    with in_tenant(asker.house.tenant.id):
        set_ceiling(asker.agent, [asker.house.scope("rooms:read")], by=asker.house.owner)
    assert begin(asker, scope="openid finance:enter").json()["error"] == "invalid_scope"
    assert refused_for(asker) == ["above_ceiling"] and rows_of(asker) == []


# Agents that nobody has approved


def self_registered(acme: House, **changes: Any) -> Flow:
    document = {"client_name": "Stranger", "grant_types": [GRANT], "token_endpoint_auth_method": "client_secret_post"}
    said = register(acme, document | changes)
    assert said.status_code == 201, said.content
    with in_tenant(acme.tenant.id):
        agent = acme.tenant.agents.get(client_id=said.json()["client_id"])
    return Flow(acme, agent, said.json()["client_secret"]).sign_in()


def test_an_agent_that_nobody_approved_neither_finds_nor_asks_strangers(acme: House) -> None:
    flow = self_registered(acme)
    for hint in ("matt@acme.example", "nobody@acme.example"):  # the same for both: nothing is learnt
        answered = begin(flow, login_hint=hint, scope="openid rooms:read")
        assert (answered.status_code, answered.json()["error"]) == (403, "access_denied")  # §13
    assert refused_for(flow) == ["asks_unapproved"] * 2 and rows_of(flow) == []
    with in_tenant(acme.tenant.id):
        flow.agent.approve(by=acme.owner, owner=acme.owner, ceiling_risk="read")
    assert begin(flow, scope="openid rooms:read").status_code == 200


def test_it_may_ask_who_has_signed_in_to_it_before(acme: House) -> None:
    document = {"grant_types": ["authorization_code", GRANT], "redirect_uris": ["https://assistant.example/cb"]}
    flow = self_registered(acme, **document)
    hint = flow.tokens(scope="openid rooms:read")["id_token"]
    auth_req_id = begun(flow, login_hint=None, id_token_hint=hint, scope="openid rooms:read")
    assert "Nobody has checked who this is" in question(flow).content.decode()
    answer(flow)
    assert fetch(flow, auth_req_id).status_code == 200


# Nobody is worn down


def test_an_agent_has_three_questions_open_with_one_person(asker: Flow, acme: House) -> None:
    for _ in range(3):
        begun(asker)
    answered = begin(asker)
    assert (answered.status_code, answered["Retry-After"]) == (429, "3600")
    assert refused_for(asker) == ["person_asked_too_often"]
    held = events_of(asker.house.tenant.id, "authorization.refused")[0]
    assert (held.agent_id, held.member_id) == (asker.agent.id, acme.members["matt"].id)
    begun(asker, login_hint="ada@acme.example")  # nobody else's time is taken for it


def test_an_agent_asks_one_person_ten_times_an_hour(asker: Flow) -> None:
    for _ in range(10):
        begun(asker)
        answer(asker, "deny")
    assert begin(asker).status_code == 429
    with in_tenant(asker.house.tenant.id):
        BackchannelRequest.objects.update(created_at=now() - timedelta(hours=1, seconds=1))
    assert begin(asker).status_code == 200


def test_a_person_has_twenty_open_questions_of_all_agents_together(asker: Flow) -> None:
    with mock.patch.object(backchannel_requests, "_OPEN_OF_ALL", 2):
        begun(asker)
        begun(asker)
        assert begin(asker).status_code == 429


def race_questions(flow: Flow) -> None:
    counted = statuses(together(lambda: begin(flow)))
    assert counted[200] == 3 and counted[429] == CALLERS - 3


def test_many_questions_at_once_are_counted_too(asker: Flow) -> None:
    race_questions(asker)


def test_the_question_race_catches_a_missing_lock(asker: Flow) -> None:
    def races() -> None:
        for _ in range(10):
            race_questions(asker)
            with in_tenant(asker.house.tenant.id):
                BackchannelRequest.objects.all().delete()

    unlocked = mock.patch.object(Member.objects, "select_for_update", return_value=Member.objects.all())
    with unlocked, pytest.raises(AssertionError):
        races()


# The answer


def test_a_person_who_says_no_is_heard_by_the_agent(asker: Flow) -> None:
    auth_req_id = begun(asker)
    assert "got nothing" in answer(asker, "deny").content.decode()
    answered = fetch(asker, auth_req_id)
    assert (answered.status_code, answered.json()["error"]) == (400, "access_denied")  # §11
    assert refused_for(asker, "grant.refused") == ["person_said_no"]
    assert events_of(asker.house.tenant.id, "grant.given") == []
    assert "Allow</button>" not in question(asker).content.decode()


def test_what_became_of_each_question_stays_in_the_inbox(asker: Flow) -> None:
    """Refused, allowed or too late, it stands under what was answered, and is nobody else's to see."""
    begun(asker)
    answer(asker, "deny")
    begun(asker)
    answer(asker)
    begun(asker)
    with in_tenant(asker.house.tenant.id):
        BackchannelRequest.objects.filter(allowed_at=None, refused_at=None).update(expires_at=now())
    page = asker.browser.get(INBOX).content.decode()
    ended = [page.index(words) for words in ("no answer in time", "you said yes", "you said no")]
    assert ended == sorted(ended), "newest first"
    assert page.count("Asked to act for you") == 3 and "Nothing waits for you" in page
    assert "Asked to act for you" not in cast.signed_in(asker.house.owner).get(INBOX).content.decode()


def test_a_question_that_nobody_answered_lapses_for_both(asker: Flow) -> None:
    auth_req_id = begun(asker)
    page = question(asker)
    with in_tenant(asker.house.tenant.id):
        BackchannelRequest.objects.update(expires_at=now())
    assert fetch(asker, auth_req_id).json()["error"] == "expired_token"  # §11
    assert asker.answer(page).status_code == 400
    assert "waits no longer" in question(asker).content.decode()
    assert "asks to act for you" not in asker.browser.get(INBOX).content.decode()
    assert events_of(asker.house.tenant.id, "grant.given") == []
    assert refused_for(asker) == ["backchannel_answered"]


def test_only_the_named_person_finds_and_answers_it(asker: Flow, globex: House) -> None:
    begun(asker)
    page = question(asker)
    ada = cast.signed_in(asker.house.members["ada"])
    assert question(asker, ada).status_code == 404
    assert "asks to act for you" not in ada.get(INBOX).content.decode()
    stolen = ada.post(asker.path("consent"), form_of(page) | {"answer": "allow"})
    assert stolen.status_code == 400
    assert question(asker, cast.signed_in(globex.members["gus"])).status_code == 404
    assert question(asker, Client()).status_code == 302  # sign in first
    assert events_of(asker.house.tenant.id, "grant.given") == []
    assert refused_for(asker) == ["consent_other_browser"]


def test_it_is_answered_in_one_browser(asker: Flow) -> None:
    begun(asker)
    first, second = question(asker), cast.signed_in(asker.house.members["matt"])
    swapped = second.post(asker.path("consent"), form_of(first) | {"answer": "allow"})
    assert swapped.status_code == 400
    again = question(asker, second)
    assert asker.answer(first).status_code == 200
    assert second.post(asker.path("consent"), form_of(again) | {"answer": "allow"}).status_code == 400
    assert len(events_of(asker.house.tenant.id, "grant.given")) == 1
    assert refused_for(asker) == ["consent_other_browser", "backchannel_answered"]


def test_looking_at_it_answers_nothing(asker: Flow) -> None:
    auth_req_id = begun(asker)
    assert question(asker).status_code == 200
    assert asker.browser.post(f"{INBOX}asks/{rows_of(asker)[0].id}/").status_code == 405
    assert fetch(asker, auth_req_id).json()["error"] == "authorization_pending"


def test_what_was_taken_from_the_agent_meanwhile_cannot_be_allowed(asker: Flow) -> None:
    from agentauth.resources.ceilings import set_ceiling

    auth_req_id = begun(asker)
    with in_tenant(asker.house.tenant.id):
        set_ceiling(asker.agent, [asker.house.scope("finance:enter")], by=asker.house.owner)
    assert question(asker).status_code == 400
    assert refused_for(asker) == ["above_ceiling"]
    assert fetch(asker, auth_req_id).json()["error"] == "access_denied"


def test_the_message_is_shown_as_text_and_never_as_a_page(asker: Flow) -> None:
    begun(asker, binding_message='<b onload="x">Hi</b> & "you"')
    for page in (asker.browser.get(INBOX), question(asker)):
        html = page.content.decode()
        assert "<b onload" not in html and "&lt;b onload=&quot;x&quot;&gt;Hi" in html


def test_the_frame_and_the_home_page_count_it(asker: Flow) -> None:
    begun(asker, login_hint="ada@acme.example")
    begun(asker)
    home = cast.signed_in(asker.house.members["ada"]).get("/t/acme/").content.decode()
    assert '1<span class="hidden"> waiting</span>' in home and "You are asked for a badge" in home
    mine = asker.browser.get("/t/acme/my/agents/").content.decode()
    assert '1<span class="hidden"> waiting</span>' in mine


# Fetching (§10.1, §11)


def test_an_agent_that_asks_too_often_is_slowed_down_for_good(asker: Flow) -> None:
    auth_req_id = begun(asker)
    assert fetch(asker, auth_req_id).json()["error"] == "authorization_pending"
    assert fetch(asker, auth_req_id).json()["error"] == "slow_down"  # §11
    assert rows_of(asker)[0].interval == 10  # five seconds more, for this and all that follow
    wait_over(asker)
    assert fetch(asker, auth_req_id).json()["error"] == "authorization_pending"
    assert rows_of(asker)[0].interval == 10
    assert refused_for(asker, "token.refused") == ["slow_down"]


def test_a_request_id_is_redeemed_once_by_its_client(asker: Flow, acme: House) -> None:
    auth_req_id = begun(asker)
    answer(asker)
    other = asking_flow(acme, name="Other")
    assert fetch(other, auth_req_id).json()["error"] == "invalid_grant"  # §11: issued to another client
    assert fetch(asker, auth_req_id).status_code == 200
    assert fetch(asker, auth_req_id).json()["error"] == "invalid_grant"
    assert fetch(asker, auth_req_id + "x").json()["error"] == "invalid_grant"
    assert asker.post("token", {"grant_type": GRANT} | asker.proof()).json()["error"] == "invalid_request"
    assert refused_for(asker, "token.refused") == [
        "auth_req_id_of_another_client",
        "auth_req_id_reused",
        "unknown_auth_req_id",
        "missing_parameter",
    ]


def test_a_request_id_that_comes_again_ends_what_it_gave(asker: Flow) -> None:
    auth_req_id = begun(asker)
    answer(asker)
    given = fetch(asker, auth_req_id).json()
    asked = asker.proof() | {"token": given["access_token"]}
    assert asker.post("introspect", asked).json()["active"] is True
    assert fetch(asker, auth_req_id).json()["error"] == "invalid_grant"
    assert asker.post("introspect", asked).json() == {"active": False}
    assert asker.refresh(given["refresh_token"]).json()["error"] == "invalid_grant"
    reused = events_of(asker.house.tenant.id, "token.reused")
    assert [(one.agent_id, one.details["kind"]) for one in reused] == [(asker.agent.id, "auth_req_id")]


def test_a_request_id_of_another_tenant_is_unknown(asker: Flow, globex: House) -> None:
    auth_req_id = begun(asker)
    answer(asker)
    with in_tenant(globex.tenant.id):
        globex.members["matt"] = globex.owner
    other = asking_flow(globex)
    assert fetch(other, auth_req_id).json()["error"] == "invalid_grant"
    assert refused_for(other, "token.refused") == ["unknown_auth_req_id"]


def test_a_grant_that_ended_gives_the_agent_nothing(asker: Flow) -> None:
    auth_req_id = begun(asker)
    answer(asker)
    with in_tenant(asker.house.tenant.id):
        asker.house.tenant.grants.get().revoke(by=asker.house.members["matt"])
    assert fetch(asker, auth_req_id).json()["error"] == "invalid_grant"


def test_a_suspended_agent_neither_asks_nor_fetches(asker: Flow) -> None:
    auth_req_id = begun(asker)
    page = question(asker)
    with in_tenant(asker.house.tenant.id):
        asker.agent.suspend(by=asker.house.owner)
    assert begin(asker).json()["error"] == "unauthorized_client"
    assert asker.answer(page).status_code == 400
    assert fetch(asker, auth_req_id).json()["error"] == "unauthorized_client"
    assert events_of(asker.house.tenant.id, "grant.given") == []


# Races, and the mutants that they must see


def race_redemptions(flow: Flow, rounds: int) -> None:
    for _ in range(rounds):
        auth_req_id = begun(flow)
        assert answer(flow).status_code == 200
        counted = statuses(together(lambda one=auth_req_id: fetch(flow, one)))  # type: ignore[misc]
        assert set(counted) <= {200, 400}
        assert counted[200] == 1


def race_answers(flow: Flow, rounds: int) -> None:
    """One person answers the same question from many pages at once, yes and no: one answer counts."""
    for _ in range(rounds):
        auth_req_id = begun(flow)
        forms = [form_of(question(flow)) | {"answer": ("allow", "deny")[number % 2]} for number in range(CALLERS)]

        def say(forms: Any = forms) -> Any:
            browser = Client()
            browser.cookies.update(flow.browser.cookies)
            return browser.post(flow.path("consent"), forms.pop())

        answers = together(say)
        counted = statuses(answers)
        assert set(counted) <= {200, 400}
        assert counted[200] == 1
        (counts,) = [one for one in answers if one.status_code == 200]
        heard = fetch(flow, auth_req_id).status_code
        assert heard == (200 if "has its badge" in counts.content.decode() else 400)


@pytest.fixture
def unhurried(asker: Flow) -> Any:
    """An agent that is not held to a rate."""
    with mock.patch.object(backchannel_requests, "_hold_rate", return_value=None):
        yield asker


def test_a_request_id_has_one_winner(unhurried: Flow) -> None:
    race_redemptions(unhurried, 5)
    assert len(events_of(unhurried.house.tenant.id, "token.issued")) == 5
    assert set(refused_for(unhurried, "token.refused")) == {"auth_req_id_reused"}


def test_a_question_has_one_answer(unhurried: Flow) -> None:
    race_answers(unhurried, 3)
    assert set(refused_for(unhurried)) == {"backchannel_answered"}


def test_the_redemption_race_catches_a_missing_lock(unhurried: Flow) -> None:
    def unlocked(auth_req_id: str, client: Any) -> BackchannelRequest:
        rows = BackchannelRequest.objects.filter(tenant_id=client.tenant_id, auth_req_hash=secret_hash(auth_req_id))
        return rows.select_related("grant__member__user", "grant__resource").get()

    with mock.patch.object(backchannel_grant, "find", unlocked), pytest.raises(AssertionError):
        race_redemptions(unhurried, 20)


def test_the_answer_race_catches_a_missing_lock(unhurried: Flow) -> None:
    def unlocked(asked: Any, member: Any) -> BackchannelRequest:
        return BackchannelRequest.objects.get(tenant_id=member.tenant_id, id=asked.backchannel)

    with mock.patch.object(elsewhere, "waiting", unlocked), pytest.raises(AssertionError):
        race_answers(unhurried, 20)


def test_an_issuer_at_its_own_host_asks_in_the_inbox_where_its_people_are(asker: Flow) -> None:
    move(asker.house)
    there = OwnFlow(asker.house, asker.agent, asker.secret)
    auth_req_id = begun(there)
    page = question(asker)
    assert 'action="/t/acme/my/inbox/answers/"' in page.content.decode()
    done = asker.browser.post("/t/acme/my/inbox/answers/", form_of(page) | {"answer": "allow"})
    assert done.status_code == 200 and "has its badge" in done.content.decode()
    tokens = fetch(there, auth_req_id).json()
    assert claims_of(tokens["id_token"])["iss"] == HERE
