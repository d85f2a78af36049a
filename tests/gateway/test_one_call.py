"""A token for one call (RFC 9396) at the gateway, and what a refused agent is told to ask for."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from agentauth.grants.approvals import give_at_once
from agentauth.grants.arguments import hash_of
from agentauth.grants.models import Permission
from agentauth.keys.addresses import resource_url
from tenants.rls import in_tenant
from tests.gateway.conftest import Answer, Stage

BOOK = "POST /rooms/{room}/book"
BODY = {"from": "10:00"}
ARGUMENTS: dict[str, Any] = {"path": {"room": "blue"}, "body": BODY}
JSON = ("Content-Type", "application/json")


def detail(stage: Stage, **changes: Any) -> dict[str, Any]:
    where = resource_url(stage.slug, "office")
    return {"type": "operation", "locations": [where], "actions": [BOOK], "arguments": ARGUMENTS} | changes


def book(stage: Stage, room: str = "blue", body: Any = BODY, **claims: Any) -> Answer:
    return stage.call("POST", f"/rooms/{room}/book", JSON, body=json.dumps(body).encode(), **claims)


def said_yes(stage: Stage) -> None:
    with in_tenant(stage.id):
        give_at_once(
            stage.grant,
            operation=BOOK,
            args=ARGUMENTS,
            args_hash=hash_of(ARGUMENTS),
            by=stage.house.members["matt"],
        )


def test_the_call_that_was_allowed_passes_once_without_another_question(stage: Stage) -> None:
    said_yes(stage)
    claims: dict[str, Any] = {"scope": "rooms:book", "authorization_details": [detail(stage)]}
    assert book(stage, **claims).status == 200
    [allowed] = stage.events("call.allowed")
    assert allowed.args_hash == hash_of(ARGUMENTS)
    again = book(stage, **claims)
    assert again.codes == ["needs_approval"]
    assert len(stage.upstream.seen) == 1


def test_a_json_body_that_looks_like_the_hash_of_another_is_another_call(stage: Stage) -> None:
    raw = b"\x00 not JSON"
    arguments = {"path": {"room": "blue"}, "bytes": {"sha256": hashlib.sha256(raw).hexdigest()}}
    with in_tenant(stage.id):
        give_at_once(
            stage.grant, operation=BOOK, args=arguments, args_hash=hash_of(arguments), by=stage.house.members["matt"]
        )
    for body in (arguments["bytes"], {"bytes": arguments["bytes"]}):
        assert book(stage, body=body, scope="rooms:book").codes == ["needs_approval"]
    answer = stage.call("POST", "/rooms/blue/book", ("Content-Type", "application/pdf"), body=raw, scope="rooms:book")
    assert answer.status == 200 and len(stage.upstream.seen) == 1


@pytest.mark.parametrize(
    ("room", "body"), [("red", BODY), ("blue", {"from": "11:00"}), ("blue", {**BODY, "more": 1}), ("blue", [BODY])]
)
def test_another_value_is_another_call(stage: Stage, room: str, body: Any) -> None:
    """RFC 9396 §9: the resource server enforces what the token says."""
    said_yes(stage)
    answer = book(stage, room, body, scope="rooms:book", authorization_details=[detail(stage)])
    assert (answer.status, answer.codes) == (403, ["token_other_call"])
    assert 'error="insufficient_authorization_details"' in answer.header("www-authenticate")
    [wanted] = answer.json()["authorization_details"]  # ready to be asked for
    assert wanted == detail(stage, arguments={"path": {"room": room}, "body": body})
    [event] = stage.events("call.refused")
    assert event.reasons == ["token_other_call"]
    assert stage.upstream.seen == []


def test_another_operation_of_the_same_scope_is_refused_however_it_is_granted(stage: Stage) -> None:
    answer = stage.call(
        "POST",
        "/rooms/meeting/enter",
        scope="rooms:book meeting:enter",
        authorization_details=[detail(stage)],
    )
    assert answer.codes == ["token_other_call"] and stage.upstream.seen == []
    answer = stage.call("GET", "/rooms", scope="rooms:book", authorization_details=[detail(stage)])
    assert answer.codes == ["scope_missing", "token_other_call"]
    assert 'error="insufficient_authorization_details"' in answer.header("www-authenticate")


def test_a_body_that_nobody_has_read_is_not_the_call(stage: Stage) -> None:
    said_yes(stage)
    claims: dict[str, Any] = {"scope": "rooms:book", "authorization_details": [detail(stage)]}
    twice = b'{"from": "10:00", "from": "12:00"}'
    assert stage.call("POST", "/rooms/blue/book", JSON, body=twice, **claims).status == 400
    assert stage.call("POST", "/rooms/blue/book", JSON, body=b" " * 200_000, **claims).status == 413
    assert stage.upstream.seen == []


DAMAGED: dict[str, Any] = {
    "another type": [{"type": "payment"}],
    "no object": ["operation"],
    "no array": {"type": "operation"},
    "another place": [{"locations": ["http://localhost:8001/acme/annex"]}],
    "two actions": [{"actions": [BOOK, "GET /rooms"]}],
    "a field more": [{"datatypes": ["rooms"]}],
}


@pytest.mark.parametrize("why", DAMAGED)
def test_details_that_we_would_not_have_written_make_no_token(stage: Stage, why: str) -> None:
    said = DAMAGED[why]
    if isinstance(said, list) and isinstance(said[0], dict):
        said = [detail(stage, **said[0])]
    answer = book(stage, scope="rooms:book", authorization_details=said)
    assert (answer.status, answer.codes) == (401, ["token_malformed"]), answer.body


def test_details_of_nothing_allow_nothing(stage: Stage) -> None:
    assert book(stage, scope="rooms:book", authorization_details=[]).codes == ["token_other_call"]


# -- what to ask for


def test_who_must_wait_for_an_answer_learns_what_could_be_asked_for(stage: Stage) -> None:
    answer = book(stage)
    assert answer.codes == ["needs_approval"]
    assert answer.json()["authorization_details"] == [detail(stage)]


def test_who_lacks_the_scope_learns_it_too(stage: Stage) -> None:
    answer = book(stage, scope="rooms:read")
    assert answer.codes == ["scope_missing"]
    assert answer.json()["authorization_details"] == [detail(stage)]


def test_where_asking_would_not_help_nothing_is_offered(stage: Stage) -> None:
    never = stage.call("POST", "/rooms/finance/enter")
    assert never.codes == ["grant_says_never"] and "authorization_details" not in never.json()


def test_an_agent_for_itself_has_nobody_to_ask(stage: Stage) -> None:
    answer = book(stage, scope="rooms:read", sub=str(stage.agent.id), act=None)
    assert "authorization_details" not in answer.json()


def test_what_is_too_long_to_be_asked_for_is_not_offered(stage: Stage) -> None:
    answer = book(stage, body={"note": "x" * 9000})
    assert answer.codes == ["needs_approval"] and "authorization_details" not in answer.json()


# -- MCP


def rpc(stage: Stage, method: str, params: dict[str, Any], **claims: Any) -> Answer:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    claims = {
        "aud": resource_url(stage.slug, "office-mcp"),
        "grant_id": str(stage.tools_grant.id),
        "scope": "rooms:read rooms:book meeting:enter",
    } | claims
    headers = [*stage.bearer(**claims), JSON, ("Accept", "application/json, text/event-stream")]
    return stage.door.call("POST", stage.path("", "office-mcp"), headers, body)


def test_a_tool_call_that_waits_names_its_details_too(tools: Stage) -> None:
    answer = rpc(tools, "tools/call", {"name": "book_room", "arguments": {"room": "blue"}})
    [wanted] = answer.json()["error"]["data"]["authorization_details"]
    assert wanted == {
        "type": "operation",
        "locations": [resource_url(tools.slug, "office-mcp")],
        "actions": ["book_room"],
        "arguments": {"room": "blue"},
    }


def test_a_token_for_one_tool_call_calls_no_other(tools: Stage) -> None:
    with in_tenant(tools.id):
        Permission.objects.filter(grant=tools.tools_grant, scope__name="rooms:book").update(mode="always")
    only = {
        "type": "operation",
        "locations": [resource_url(tools.slug, "office-mcp")],
        "actions": ["book_room"],
        "arguments": {"room": "blue"},
    }
    other = rpc(tools, "tools/call", {"name": "see_rooms", "arguments": {}}, authorization_details=[only])
    assert [one["code"] for one in other.json()["error"]["data"]["reasons"]] == ["token_other_call"]
    other = rpc(tools, "tools/call", {"name": "book_room", "arguments": {"room": "red"}}, authorization_details=[only])
    assert [one["code"] for one in other.json()["error"]["data"]["reasons"]] == ["token_other_call"]
    assert tools.upstream.seen == []


def test_the_type_is_announced_with_the_resource(stage: Stage) -> None:
    """RFC 9728 §2."""
    found = stage.door.call("GET", f"/.well-known/oauth-protected-resource/{stage.slug}/office").json()
    assert found["authorization_details_types_supported"] == ["operation"]
