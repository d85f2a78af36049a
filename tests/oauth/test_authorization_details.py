"""Rich authorization requests (RFC 9396): asked for strictly, shown whole, allowed once, carried by the token."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pytest
from django.utils.timezone import now

from agentauth.grants.arguments import hash_of
from agentauth.grants.models import Approval, Grant
from agentauth.oauth.models import AuthorizationCode, RefreshToken
from agentauth.resources.models import Operation
from tenants.rls import in_tenant
from tests import cast
from tests.oauth.browser import Flow, answer_in, form_of

HOSTILE = json.loads((Path(__file__).parents[1] / "corpora" / "authorization_details.json").read_text())
ARGUMENTS: dict[str, Any] = {"path": {"room": "blue"}, "body": {"from": "10:00", "people": 4}}
BOOK = "POST /rooms/{room}/book"


def detail(flow: Flow, **changes: Any) -> dict[str, Any]:
    return {"type": "operation", "locations": [flow.resource], "actions": [BOOK], "arguments": ARGUMENTS} | changes


def details(flow: Flow, **changes: Any) -> str:
    return json.dumps([detail(flow, **changes)])


def asking(flow: Flow, **changes: Any) -> dict[str, Any]:
    """The parameters of a request for one call."""
    return {"scope": None, "authorization_details": details(flow, **changes)}


def claims_of(tokens: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(tokens["access_token"], options={"verify_signature": False})
    return found


def approvals(flow: Flow) -> list[Approval]:
    with in_tenant(flow.house.tenant.id):
        return list(Approval.objects.filter(tenant=flow.house.tenant).order_by("id"))


def events(flow: Flow, action: str) -> list[Any]:
    return cast.events_of(flow.house.tenant.id, action)


def granted(flow: Flow, **modes: Any) -> Grant:
    with in_tenant(flow.house.tenant.id):
        return cast.matts_grant(flow.house, flow.agent, **modes)


# -- asking (§2, §3, §5)


@pytest.mark.parametrize("case", HOSTILE, ids=lambda case: case["why"])
def test_what_is_not_understood_is_refused_at_every_door(flow: Flow, case: dict[str, str]) -> None:
    """§5: the server MUST refuse unknown types, unknown or malformed fields, and values that it does not allow."""
    text = case["text"].replace("@office", flow.resource)
    answer = answer_in(flow.authorize(scope=None, authorization_details=text))
    assert (answer["error"], answer["iss"]) == ("invalid_authorization_details", flow.issuer)
    pushed = flow.post("par", flow.request(scope=None, authorization_details=text) | flow.proof())
    refreshed = flow.refresh(flow.tokens()["refresh_token"], authorization_details=text)
    for refused in (pushed, refreshed):
        assert (refused.status_code, refused.json()["error"]) == (400, "invalid_authorization_details"), refused.content
        assert flow.resource not in refused.json()["error_description"]
    assert len(events(flow, "authorization.refused")) == 2
    assert len(events(flow, "token.refused")) == 1


def test_what_the_agent_may_never_be_granted_is_refused(flow: Flow) -> None:
    from agentauth.resources.ceilings import set_ceiling

    with in_tenant(flow.house.tenant.id):
        set_ceiling(flow.agent, [flow.house.scope("rooms:read")], by=flow.house.owner)
    assert answer_in(flow.authorize(**asking(flow)))["error"] == "invalid_authorization_details"
    assert events(flow, "authorization.refused")[-1].reasons == ["above_ceiling"]


@pytest.mark.parametrize("change", [{"scope": None}, {"changed_at": now()}], ids=["unmapped", "held for review"])
def test_an_operation_that_nobody_may_call_cannot_be_asked_for(flow: Flow, change: dict[str, Any]) -> None:
    with in_tenant(flow.house.tenant.id):
        Operation.objects.filter(tenant=flow.house.tenant, key=BOOK).update(**change)
    assert answer_in(flow.authorize(**asking(flow)))["error"] == "invalid_authorization_details"
    assert events(flow, "authorization.refused")[-1].reasons == ["unknown_operation"]


def test_scope_beside_the_details_can_only_be_the_one_that_the_call_takes(flow: Flow) -> None:
    """§3.1: both are processed together; a token for one call is good for nothing else."""
    assert flow.authorize(**asking(flow) | {"scope": "rooms:book"}).status_code == 200
    answer = answer_in(flow.authorize(**asking(flow) | {"scope": "rooms:book rooms:read"}))
    assert answer["error"] == "invalid_scope"
    assert events(flow, "authorization.refused")[-1].reasons == ["two_asks"]


def test_resource_and_location_are_the_same_place(flow: Flow) -> None:
    assert flow.authorize(**asking(flow) | {"resource": None}).status_code == 200
    with in_tenant(flow.house.tenant.id):
        cast.office(flow.house, slug="annex")
    elsewhere = flow.resource.replace("office", "annex")
    assert answer_in(flow.authorize(**asking(flow) | {"resource": elsewhere}))["error"] == "invalid_target"


def test_what_is_too_long_is_refused_not_dropped(flow: Flow) -> None:
    many = {"path": {"room": "blue"}, "body": "x" * 8200}
    assert answer_in(flow.authorize(**asking(flow, arguments=many)))["error"] == "invalid_request"


# -- the question


def test_the_page_shows_this_one_call_and_its_values_as_text(flow: Flow) -> None:
    hostile = {"path": {"room": "<b>blue</b>"}, "body": {"</td><script>": "\u202etxt.exe", "note": "x" * 700}}
    hostile["body"]["to"] = "Ada\u3164"
    page = flow.authorize(**asking(flow, arguments=hostile))
    html = page.content.decode()
    assert "Matt&#x27;s assistant asks to make one call at&nbsp;Office" in html
    assert "Book a room" in html and BOOK in html
    assert "&lt;b&gt;blue&lt;/b&gt;" in html and "<b>blue</b>" not in html and "<script>" not in html
    assert "<bdi>‹U+202E›txt.exe</bdi>" in html and "\u202e" not in html
    assert "Ada‹U+3164›" in html and "\u3164" not in html  # a letter, and nothing to look at
    assert html.index("path.room") < html.index("body.note")
    assert "… (700 characters)" in html
    assert 'name="scope"' not in html and 'name="until"' not in html
    assert "Once, within 15 minutes" in html


def test_a_call_without_values_says_so(flow: Flow) -> None:
    page = flow.authorize(**asking(flow, actions=["GET /rooms"], arguments={}))
    assert "The call has no values." in page.content.decode()


def test_no_leaves_nothing_behind(flow: Flow) -> None:
    page = flow.authorize(**asking(flow))
    assert answer_in(flow.answer(page, "deny"))["error"] == "access_denied"
    assert approvals(flow) == []
    assert len(events(flow, "grant.refused")) == 1


# -- the yes


def test_yes_allows_exactly_this_call_once_and_nothing_else(flow: Flow) -> None:
    tokens = flow.tokens(**asking(flow))
    [approval] = approvals(flow)
    assert (approval.state, approval.operation, approval.args) == ("given", BOOK, ARGUMENTS)
    assert approval.args_hash == hash_of(ARGUMENTS)
    with in_tenant(flow.house.tenant.id):
        grant = Grant.objects.get(tenant=flow.house.tenant, ended_at=None)
        assert dict(grant.permissions.values_list("scope__name", "mode")) == {"rooms:book": "ask"}
    assert abs((grant.expires_at - approval.expires_at).total_seconds()) < 5  # no longer than the call itself
    assert tokens["scope"] == "rooms:book"
    assert [event.args_hash for event in events(flow, "approval.given")] == [approval.args_hash]
    assert len(events(flow, "grant.given")) == 1


def test_the_details_are_in_the_answer_the_token_the_introspection_and_the_record(flow: Flow) -> None:
    """§7: MUST return them as granted; §9.1 in the JWT; §9.2 at introspection."""
    expected = [detail(flow)]
    tokens = flow.tokens(**asking(flow))
    assert tokens["authorization_details"] == expected
    assert claims_of(tokens)["authorization_details"] == expected
    seen = flow.post("introspect", {"token": tokens["access_token"]} | flow.proof()).json()
    assert seen["active"] is True and seen["authorization_details"] == expected
    [event] = events(flow, "token.issued")
    assert (event.operation, event.args_hash) == (BOOK, hash_of(ARGUMENTS))
    assert "blue" not in json.dumps(event.details)  # values are kept with the approval, not in the record


def test_a_token_without_details_says_nothing_of_them(flow: Flow) -> None:
    tokens = flow.tokens()
    assert "authorization_details" not in tokens and "authorization_details" not in claims_of(tokens)


@pytest.mark.parametrize(
    "value", [1.5, 1e15, 1e-9, 9007199254740993, -1, True, None, "é🦆", [], {}, [1, [2, {"a": 3}]]]
)
def test_values_come_out_as_they_went_in(flow: Flow, value: Any) -> None:
    """The hash that binds the call is of what the person saw, through form, database and token."""
    arguments = {"path": {"room": "blue"}, "body": value}
    tokens = flow.tokens(**asking(flow, arguments=arguments))
    [approval] = approvals(flow)
    assert hash_of(claims_of(tokens)["authorization_details"][0]["arguments"]) == approval.args_hash
    assert approval.args_hash == hash_of(arguments)


def test_it_may_be_pushed_ahead(flow: Flow) -> None:
    """§3, RFC 9126 §2."""
    answer = flow.post("par", flow.request(**asking(flow)) | flow.proof())
    assert answer.status_code == 201
    asked = {"client_id": flow.agent.client_id, "request_uri": answer.json()["request_uri"]}
    page = flow.browser.get(flow.path("authorize"), asked)
    code = answer_in(flow.answer(page))["code"]
    assert flow.redeem(code).json()["authorization_details"] == [detail(flow)]


def test_what_was_allowed_before_stays_as_it_was(flow: Flow) -> None:
    before = granted(flow)  # rooms:book on asking
    tokens = flow.tokens(**asking(flow))
    with in_tenant(flow.house.tenant.id):
        assert Grant.objects.get(tenant=flow.house.tenant, ended_at=None) == before
    assert claims_of(tokens)["grant_id"] == str(before.id)
    assert [one.grant_id for one in approvals(flow)] == [before.id]


def test_a_grant_that_lacks_it_is_replaced_by_one_that_asks_and_keeps_its_limits(flow: Flow) -> None:
    before = granted(flow)
    with in_tenant(flow.house.tenant.id):
        limits = {"ip": ["0.0.0.0/0", "::/0"]}
        Grant.objects.filter(pk=before.pk).update(constraints=limits)
        before.permissions.filter(scope__name="rooms:book").delete()
    flow.tokens(**asking(flow))
    with in_tenant(flow.house.tenant.id):
        after = Grant.objects.get(tenant=flow.house.tenant, ended_at=None)
        modes = dict(after.permissions.values_list("scope__name", "mode"))
    assert after != before and after.constraints == limits and after.expires_at == before.expires_at
    assert modes == {
        "rooms:read": "always",
        "meeting:enter": "always",
        "finance:enter": "never",
        "rooms:book": "ask",
    }


def test_yes_to_one_call_is_no_yes_to_who_the_agent_has_become(flow: Flow) -> None:
    """Its redirect or keys changed: what was allowed before was allowed to another, until the person is asked."""
    before = granted(flow)
    with in_tenant(flow.house.tenant.id):
        before.permissions.filter(scope__name="rooms:book").delete()
        flow.agent.client_metadata = {"identity_changed_at": now().isoformat()}
        flow.agent.save(update_fields=["client_metadata"])
    flow.tokens(**asking(flow))
    with in_tenant(flow.house.tenant.id):
        after = Grant.objects.get(tenant=flow.house.tenant, ended_at=None)
        assert after != before and not after.permissions.filter(mode="always").exists()


def test_who_said_never_is_reminded_and_may_allow_this_call_all_the_same(flow: Flow) -> None:
    granted(flow)
    asked = asking(flow, actions=["POST /rooms/finance/enter"], arguments={})
    page = flow.authorize(**asked)
    assert "You have said never to this." in page.content.decode()
    flow.answer(page)
    with in_tenant(flow.house.tenant.id):
        after = Grant.objects.get(tenant=flow.house.tenant, ended_at=None)
        assert after.permissions.get(scope__name="finance:enter").mode == "ask"


def test_the_same_call_asked_for_again_is_asked_about_again(flow: Flow) -> None:
    flow.tokens(**asking(flow))
    assert flow.authorize(**asking(flow)).status_code == 200
    assert answer_in(flow.authorize(**asking(flow) | {"prompt": "none"}))["error"] == "consent_required"


def test_where_such_calls_always_go_through_there_is_nothing_to_ask(flow: Flow) -> None:
    granted(flow, rooms__book="always")
    tokens = flow.tokens(**asking(flow) | {"prompt": "none"})
    assert tokens["authorization_details"] == [detail(flow)] and tokens["scope"] == "rooms:book"
    assert approvals(flow) == []


def test_a_question_that_waits_in_the_inbox_is_answered_by_it(flow: Flow) -> None:
    from agentauth.grants.approvals import ask

    grant = granted(flow)
    with in_tenant(flow.house.tenant.id):
        waiting = ask(grant, operation=BOOK, args=ARGUMENTS, args_hash=hash_of(ARGUMENTS))
    flow.tokens(**asking(flow))
    [approval] = approvals(flow)
    assert (approval.id, approval.state) == (waiting.id, "given")


def test_an_operation_that_changed_between_question_and_answer_is_not_allowed(flow: Flow) -> None:
    page = flow.authorize(**asking(flow))
    with in_tenant(flow.house.tenant.id):
        Operation.objects.filter(tenant=flow.house.tenant, key=BOOK).update(changed_at=now())
    assert flow.answer(page).status_code == 400
    assert events(flow, "authorization.refused")[-1].reasons == ["operation_changed"]
    assert approvals(flow) == []


def test_an_operation_moved_to_another_scope_is_not_allowed_under_the_old_question(flow: Flow) -> None:
    page = flow.authorize(**asking(flow))
    with in_tenant(flow.house.tenant.id):
        Operation.objects.filter(tenant=flow.house.tenant, key=BOOK).update(scope=flow.house.scope("finance:enter"))
    assert flow.answer(page).status_code == 400
    assert events(flow, "authorization.refused")[-1].reasons == ["operation_changed"]


def test_the_answer_cannot_be_for_other_values(flow: Flow) -> None:
    page = flow.authorize(**asking(flow))
    form = form_of(page) | {"answer": "allow"}
    assert flow.browser.post(flow.path("consent"), form | {"authorization_details": details(flow, arguments={})})
    [approval] = approvals(flow)
    assert approval.args_hash == hash_of(ARGUMENTS)
    again = flow.browser.post(flow.path("consent"), form)
    assert again.status_code == 400 and len(approvals(flow)) == 1


# -- the token endpoint (§6): the same or less


def test_a_refreshed_token_keeps_the_details(flow: Flow) -> None:
    tokens = flow.tokens(**asking(flow))
    for _ in range(2):
        answer = flow.refresh(tokens["refresh_token"])
        tokens = answer.json()
        assert tokens["authorization_details"] == [detail(flow)], answer.content
        assert claims_of(tokens)["authorization_details"] == [detail(flow)]
    same = flow.refresh(tokens["refresh_token"], authorization_details=details(flow)).json()
    assert same["authorization_details"] == [detail(flow)]


@pytest.mark.parametrize(
    "change", [{"arguments": {"path": {"room": "red"}}}, {"actions": ["GET /rooms"], "arguments": {}}]
)
def test_other_details_than_were_granted_are_refused(flow: Flow, change: dict[str, Any]) -> None:
    """§6: MUST NOT exceed what was granted."""
    refresh = flow.tokens(**asking(flow))["refresh_token"]
    answer = flow.refresh(refresh, authorization_details=details(flow, **change))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_authorization_details")
    assert events(flow, "token.refused")[-1].reasons == ["details_grow"]
    assert flow.refresh(refresh).status_code == 200  # nothing was used up


def test_a_wider_token_may_be_narrowed_to_one_call(flow: Flow) -> None:
    refresh = flow.tokens(scope="rooms:read rooms:book")["refresh_token"]
    narrow = flow.refresh(refresh, authorization_details=details(flow)).json()
    assert (narrow["scope"], narrow["authorization_details"]) == ("rooms:book", [detail(flow)])
    wide = flow.refresh(narrow["refresh_token"]).json()  # RFC 6749 §6: only that one token was narrowed
    assert "authorization_details" not in wide and wide["scope"] == "rooms:book rooms:read"
    assert approvals(flow) == []  # the agent narrowed itself: nobody said yes to a call


def test_a_token_is_not_narrowed_to_a_call_that_it_does_not_cover(flow: Flow) -> None:
    refresh = flow.tokens(scope="rooms:read")["refresh_token"]
    answer = flow.refresh(refresh, authorization_details=details(flow))
    assert answer.status_code == 400 and answer.json()["error"] == "invalid_grant"


def test_an_agent_for_itself_may_ask_for_a_token_for_one_call(flow: Flow) -> None:
    from datetime import timedelta

    from agentauth.agents.models import Agent
    from agentauth.agents.registering import add_secret
    from agentauth.grants.granting import give

    house = flow.house
    with in_tenant(house.tenant.id):
        porter = cast.assistant(house, name="Porter", kind=Agent.Kind.AUTONOMOUS, redirect_uris=[])
        _, secret = add_secret(porter, by=house.owner)
        scopes = {house.scope("rooms:book"): "always", house.scope("rooms:read"): "always"}
        give(
            agent=porter,
            resource=house.office,
            member=None,
            by=house.owner,
            permissions=scopes,
            expires_at=now() + timedelta(days=1),
        )
    own = replace(flow, agent=porter, secret=secret)
    form = {"grant_type": "client_credentials", "resource": flow.resource} | own.proof()
    answer = own.post("token", form | {"authorization_details": details(flow)}).json()
    assert answer["authorization_details"] == [detail(flow)] and answer["scope"] == "rooms:book"
    plain = own.post("token", form).json()
    assert "authorization_details" not in plain and set(plain["scope"].split()) == {"rooms:book", "rooms:read"}


def test_the_kept_rows_hold_the_details_and_the_refresh_token_those_of_its_family(flow: Flow) -> None:
    flow.tokens(**asking(flow))
    with in_tenant(flow.house.tenant.id):
        assert AuthorizationCode.objects.get(tenant=flow.house.tenant).authorization_details == [detail(flow)]
        assert RefreshToken.objects.get(tenant=flow.house.tenant).authorization_details == [detail(flow)]


# -- discovery (§10)


def test_the_type_is_announced(flow: Flow) -> None:
    found = flow.browser.get(f"/t/{flow.house.tenant.slug}/.well-known/openid-configuration").json()
    assert found["authorization_details_types_supported"] == ["operation"]
