"""MCP through the gateway, in both eras: what is listed, what is called, what is refused, whose session it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from aiohttp import web

from agentauth.grants.models import Approval
from agentauth.keys.addresses import resource_url
from agentauth.resources.mcp_tools import digest_of
from agentauth.resources.models import Operation
from tenants.notice import announce
from tenants.rls import in_tenant
from tests.gateway.conftest import Answer, Stage, eventually

META = "io.modelcontextprotocol/"
ENVELOPE = {f"{META}protocolVersion": "2026-07-28", f"{META}clientCapabilities": {}}
TOOLS = [
    {"name": name, "description": name, "inputSchema": {"type": "object"}}
    for name in ("see_rooms", "book_room", "enter_meeting", "enter_finance", "unmapped", "new_tool")
]
SEEN_BY_MATTS_ASSISTANT = ["see_rooms", "book_room", "enter_meeting"]


def result_of(message: dict[str, Any]) -> dict[str, Any]:
    if message["method"] == "tools/list":
        return {"tools": TOOLS, "nextCursor": "2"}
    if message["method"] in ("initialize", "server/discover"):
        offered: dict[str, Any] = {"tools": {}, "resources": {}, "prompts": {}, "completions": {}, "logging": {}}
        return {"protocolVersion": "2025-11-25", "capabilities": offered}
    return {"content": [{"type": "text", "text": json.dumps(message.get("params", {}).get("arguments"))}]}


async def office(request: web.Request, body: bytes) -> web.StreamResponse:
    message = json.loads(body)
    headers = {"Mcp-Session-Id": "upstream-session"} if message["method"] == "initialize" else None
    if "id" not in message:
        return web.Response(status=202)
    return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": result_of(message)}, headers=headers)


def streaming(events: list[bytes]) -> Any:
    async def reply(request: web.Request, body: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in events:
            await response.write(event)
        return response

    return reply


@pytest.fixture
def mcp(tools: Stage) -> Stage:
    tools.upstream.reply = office
    return tools


def bearer(stage: Stage, **changes: Any) -> list[tuple[str, str]]:
    aud = resource_url(stage.slug, "office-mcp")
    return stage.bearer(**({"aud": aud, "grant_id": str(stage.tools_grant.id)} | changes))


def post(
    stage: Stage, message: Any, *more: tuple[str, str], auth: list[tuple[str, str]] | None = None, door: Any = None
) -> Answer:
    headers = [*(auth if auth is not None else bearer(stage)), ("Content-Type", "application/json"), *more]
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    return (door or stage.door).call("POST", stage.path("", "office-mcp"), headers, body)


def rpc(method: str, params: dict[str, Any] | None = None, message_id: Any = 1) -> dict[str, Any]:
    message = {"jsonrpc": "2.0", "id": message_id, "method": method}
    return message | ({"params": params} if params is not None else {})


def called(tool: str, message_id: Any = 1, **arguments: Any) -> dict[str, Any]:
    return rpc("tools/call", {"name": tool, "arguments": arguments}, message_id)


def modern(method: str, params: dict[str, Any] | None = None) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    params = (params or {}) | {"_meta": ENVELOPE}
    headers = [("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", method)]
    if "name" in params:
        headers.append(("Mcp-Name", params["name"]))
    return rpc(method, params), headers


def test_a_granted_tool_is_called_and_on_record(mcp: Stage) -> None:
    answer = post(mcp, called("enter_meeting", 7, room="blue"))
    assert answer.status == 200
    assert answer.json()["id"] == 7
    assert answer.json()["result"]["content"][0]["text"] == '{"room": "blue"}'
    (allowed,) = mcp.events("call.allowed")
    assert (allowed.operation, allowed.resource_id) == ("enter_meeting", mcp.tools.id)
    assert allowed.details["protocol"] == "mcp" and allowed.details["tool"] == "enter_meeting"
    assert "blue" not in allowed.body and len(allowed.args_hash) == 64
    (finished,) = mcp.finished()
    assert (finished.outcome, finished.status) == ("ok", 200)
    (seen,) = mcp.upstream.seen
    assert seen.target == "/mcp" and not seen.all("authorization") and seen.all("agentauth-assertion")


REFUSED = {
    "enter_finance": "grant_says_never",
    "unmapped": "operation_unmapped",
    "new_tool": "operation_unknown",
    "ENTER_MEETING": "operation_unknown",
    "enter_meeting ": "operation_unknown",
}


@pytest.mark.parametrize("tool", REFUSED)
def test_a_tool_that_was_not_granted_is_refused(mcp: Stage, tool: str) -> None:
    answer = post(mcp, called(tool, "my-id"))
    assert (answer.status, answer.codes) == (403, [REFUSED[tool]])
    assert answer.json()["id"] == "my-id" and answer.json()["error"]["code"] == -32001
    assert mcp.upstream.seen == []
    (event,) = mcp.events("call.refused")
    assert (event.reasons, event.status) == ([REFUSED[tool]], 403)


def test_a_scope_that_the_token_lacks_is_a_challenge(mcp: Stage) -> None:
    """MCP 2026-07-28, Step-Up Authorization Flow: what this call needs; the client joins it to what it has."""
    message, headers = modern("tools/call", {"name": "enter_meeting", "arguments": {}})
    answer = post(mcp, message, *headers, auth=bearer(mcp, scope="rooms:read"))
    assert answer.status == 403
    assert 'error="insufficient_scope", error_description' in answer.header("www-authenticate")
    assert 'scope="meeting:enter"' in answer.header("www-authenticate")


def test_a_client_of_2025_is_told_all_that_it_has_to_ask_for(mcp: Stage) -> None:
    """MCP 2025-11-25, Runtime Insufficient Scope Errors: with what it has, lest it lose that by asking for the rest."""
    answer = post(mcp, called("enter_meeting"), auth=bearer(mcp, scope="rooms:read"))
    assert answer.status == 403
    assert 'scope="meeting:enter rooms:read"' in answer.header("www-authenticate")
    (event,) = mcp.events("call.refused")
    assert "scope_missing" in event.reasons


def test_without_a_token_the_challenge_names_what_can_be_asked_for(mcp: Stage) -> None:
    answer = post(mcp, rpc("initialize", {}), auth=[])
    assert answer.status == 401
    assert 'scope="finance:enter meeting:enter rooms:book rooms:read"' in answer.header("www-authenticate")


@pytest.mark.parametrize("era", ["modern", "legacy"])
@pytest.mark.parametrize("shape", ["json", "events"])
def test_only_tools_that_this_agent_may_call_are_listed(mcp: Stage, era: str, shape: str) -> None:
    message, headers = modern("tools/list") if era == "modern" else (rpc("tools/list"), [])
    if shape == "events":
        full = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"tools": TOOLS, "cacheScope": "public"}})
        note = b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{}}\r\n\r\n'
        others = full.replace('"id": 1', '"id": 2')
        stolen = f"data: {others}\n\n".encode()
        split = f"event: message\nid: 5\ndata: {full[:18]}\ndata: {full[18:]}\n\n".encode()
        mcp.upstream.reply = streaming([note[:10], note[10:], stolen, split])
    answer = post(mcp, message, *headers)
    if shape == "json":
        result = answer.json()["result"]
        assert result["nextCursor"] == "2"
    else:
        assert answer.header("x-accel-buffering") == "no"
        events = [event for event in answer.body.split(b"\n\n") if event]
        assert len(events) == 2 and b"notifications/message" in events[0]
        assert b"id: 5" in events[1]
        result = json.loads(events[1].split(b"data: ")[1])["result"]
    assert [tool["name"] for tool in result["tools"]] == SEEN_BY_MATTS_ASSISTANT
    assert result.get("cacheScope") == ("private" if era == "modern" else "public" if shape == "events" else None)


def test_a_tool_whose_definition_changed_is_not_listed(mcp: Stage) -> None:
    with in_tenant(mcp.id):
        for tool in TOOLS[:2]:
            Operation.objects.filter(resource=mcp.tools, key=tool["name"]).update(digest=digest_of(tool))
        Operation.objects.filter(resource=mcp.tools, key="enter_meeting").update(digest="0" * 64)
        announce(mcp.id, "config", f"resources:{mcp.tools.id}")

    def names() -> bool:
        listed = post(mcp, rpc("tools/list")).json()["result"]["tools"]
        return [tool["name"] for tool in listed] == ["see_rooms", "book_room"]

    assert eventually(names, timeout=1)


def test_what_is_refused_is_not_offered(mcp: Stage) -> None:
    for message, headers in ((rpc("initialize", {}), []), modern("server/discover")):
        assert post(mcp, message, *headers).json()["result"]["capabilities"] == {"tools": {}, "logging": {}}


@pytest.mark.parametrize(
    "method", ["resources/read", "resources/list", "prompts/get", "completion/complete", "tasks/get", "made/up"]
)
def test_what_is_not_mapped_is_refused(mcp: Stage, method: str) -> None:
    answer = post(mcp, rpc(method, {"uri": "file:///etc/passwd", "name": "x"}))
    assert (answer.status, answer.codes) == (403, ["operation_unmapped"])
    assert mcp.upstream.seen == []


def test_nothing_at_all_passes_without_a_live_grant(mcp: Stage) -> None:
    with in_tenant(mcp.id):
        mcp.tools_grant.revoke(by=mcp.house.members["matt"])
    for message in (rpc("initialize", {}), rpc("ping"), rpc("tools/list"), called("see_rooms")):
        answer = post(mcp, message)
        assert answer.status == 401, message
        assert "token_revoked" in answer.codes
    assert mcp.upstream.seen == []


BAD_BODIES = {
    "not json": (b"{", -32700),
    "utf-16": ('{"jsonrpc":"2.0","id":1,"method":"ping"}'.encode("utf-16"), -32700),
    "a key twice": (b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}', -32700),
    "a key twice inside": (
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"see_rooms","name":"enter_finance"}}',
        -32700,
    ),
    "a batch": (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', -32600),
    "another case": (b'{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call"}', -32600),
    "another case inside": (
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"see_rooms","Name":"enter_finance"}}',
        -32602,
    ),
    "no version": (b'{"id":1,"method":"ping"}', -32600),
    "null id": (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600),
    "params in a list": (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":["see_rooms"]}', -32602),
    "arguments in a list": (
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"see_rooms","arguments":[]}}',
        -32602,
    ),
    "nan": (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":NaN}}', -32700),
    "deep": (
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}",
        -32700,
    ),
}


@pytest.mark.parametrize("case", BAD_BODIES)
def test_a_body_that_can_be_read_in_two_ways_is_refused(mcp: Stage, case: str) -> None:
    body, code = BAD_BODIES[case]
    answer = post(mcp, body)
    assert (answer.status, answer.json()["error"]["code"]) == (400, code)
    assert mcp.upstream.seen == []


MISMATCHES: dict[str, tuple[list[tuple[str, str]], int]] = {
    "version": (
        [("MCP-Protocol-Version", "2025-11-25"), ("Mcp-Method", "tools/call"), ("Mcp-Name", "see_rooms")],
        -32020,
    ),
    "method": ([("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", "ping"), ("Mcp-Name", "see_rooms")], -32020),
    "name": ([("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", "tools/call"), ("Mcp-Name", "x")], -32020),
    "no name": ([("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", "tools/call")], -32020),
    "no headers": ([], -32020),
}


@pytest.mark.parametrize("case", MISMATCHES)
def test_headers_must_repeat_the_body(mcp: Stage, case: str) -> None:
    headers, code = MISMATCHES[case]
    message, _ = modern("tools/call", {"name": "see_rooms", "arguments": {}})
    answer = post(mcp, message, *headers)
    assert (answer.status, answer.json()["error"]["code"]) == (400, code)
    assert mcp.upstream.seen == []


def test_an_encoded_name_is_compared_decoded(mcp: Stage) -> None:
    message, headers = modern("tools/call", {"name": "see_rooms", "arguments": {}})
    encoded = [(k, "=?base64?c2VlX3Jvb21z?=" if k == "Mcp-Name" else v) for k, v in headers]
    assert post(mcp, message, *encoded).status == 200


def test_an_unknown_version_is_told_which_are_known(mcp: Stage) -> None:
    message = rpc("ping", {"_meta": ENVELOPE | {f"{META}protocolVersion": "2099-01-01"}})
    answer = post(mcp, message, ("MCP-Protocol-Version", "2099-01-01"), ("Mcp-Method", "ping"))
    assert (answer.status, answer.json()["error"]["code"]) == (400, -32022)
    assert answer.json()["error"]["data"] == {"supported": ["2026-07-28"], "requested": "2099-01-01"}


def test_a_header_of_the_modern_era_cannot_lie_in_the_legacy_one(mcp: Stage) -> None:
    answer = post(mcp, called("see_rooms"), ("Mcp-Name", "enter_finance"), ("Mcp-Method", "tools/call"))
    assert answer.json()["error"]["code"] == -32020


def test_a_session_belongs_to_who_opened_it(mcp: Stage) -> None:
    session = post(mcp, rpc("initialize", {})).header("mcp-session-id")
    assert session and session != "upstream-session"
    assert post(mcp, rpc("ping"), ("Mcp-Session-Id", session)).status == 200
    assert mcp.upstream.seen[-1].all("mcp-session-id") == ["upstream-session"]

    with in_tenant(mcp.id):
        from tests import cast

        other = cast.assistant(mcp.house, name="Another assistant")
        mcp.house.office, office = mcp.tools, mcp.house.office
        from agentauth.resources.ceilings import set_ceiling
        from agentauth.resources.models import Scope

        set_ceiling(other, list(Scope.objects.filter(resource=mcp.tools)), by=mcp.house.owner)
        others_grant = cast.matts_grant(mcp.house, other)
        mcp.house.office = office
    others = bearer(mcp, client_id=other.client_id, act={"sub": str(other.id)}, grant_id=str(others_grant.id))
    seen = len(mcp.upstream.seen)
    for held in (session, "upstream-session", "x." + session.partition(".")[2], session[:-1]):
        auth = others if held == session else bearer(mcp)
        answer = post(mcp, rpc("ping"), ("Mcp-Session-Id", held), auth=auth)
        assert answer.status == 404, held
    assert len(mcp.upstream.seen) == seen
    assert post(mcp, rpc("ping"), auth=others).status == 200


def test_the_standing_stream_is_filtered_too(mcp: Stage) -> None:
    full = json.dumps({"jsonrpc": "2.0", "id": 9, "result": {"tools": TOOLS}})
    mcp.upstream.reply = streaming([f"data: {full}\n\n".encode()])
    headers = [*bearer(mcp), ("Accept", "text/event-stream")]
    answer = mcp.door.call("GET", mcp.path("", "office-mcp"), headers)
    assert answer.status == 200
    listed = json.loads(answer.body.partition(b"data: ")[2])["result"]["tools"]
    assert [tool["name"] for tool in listed] == SEEN_BY_MATTS_ASSISTANT


def test_a_call_that_a_person_is_asked_about_waits_for_the_answer(mcp: Stage) -> None:
    first = post(mcp, called("book_room", room="blue"))
    assert (first.status, first.codes) == (403, ["needs_approval"])
    again = post(mcp, called("book_room", room="blue"))
    asked = first.json()["error"]["data"]["approval"]
    assert again.json()["error"]["data"]["approval"] == asked
    assert first.json()["error"]["data"]["ask_at"].endswith(f"/t/{mcp.slug}/my/inbox/{asked}/")
    assert len(mcp.events("call.asked")) == 2 and len(mcp.events("approval.asked")) == 1
    with in_tenant(mcp.id):
        approval = Approval.objects.get(pk=asked)
        assert approval.args == {"room": "blue"} and approval.operation == "book_room"
        approval.give(by=mcp.house.members["matt"])
    other = post(mcp, called("book_room", room="red"))
    assert other.codes == ["needs_approval"] and mcp.upstream.seen == []
    assert post(mcp, called("book_room", room="blue")).status == 200
    assert post(mcp, called("book_room", room="blue")).codes == ["needs_approval"]
    assert len(mcp.upstream.seen) == 1
    (allowed,) = mcp.events("call.allowed")
    assert allowed.details["approval"] == asked


def test_one_yes_is_good_for_one_call_however_many_race(mcp: Stage, doors: list) -> None:
    asked = post(mcp, called("book_room", room="blue")).json()["error"]["data"]["approval"]
    with in_tenant(mcp.id):
        Approval.objects.get(pk=asked).give(by=mcp.house.members["matt"])
    auth = bearer(mcp)
    with ThreadPoolExecutor(12) as pool:
        answers = list(
            pool.map(lambda i: post(mcp, called("book_room", room="blue"), auth=auth, door=doors[i % 2]), range(24))
        )
    assert sorted(answer.status for answer in answers) == [200] + [403] * 23
    assert len(mcp.upstream.seen) == 1


def test_a_no_is_not_asked_again(mcp: Stage) -> None:
    asked = post(mcp, called("book_room", room="blue")).json()["error"]["data"]["approval"]
    with in_tenant(mcp.id):
        Approval.objects.get(pk=asked).refuse(by=mcp.house.members["matt"])
    assert post(mcp, called("book_room", room="blue")).codes == ["approval_refused"]


RUBBISH: dict[str, Callable[[], web.Response]] = {
    "not json": lambda: web.Response(body=b"<html>", content_type="application/json"),
    "not mcp": lambda: web.Response(text="hello"),
    "another question's answer": lambda: web.json_response({"jsonrpc": "2.0", "id": 99, "result": {}}),
    "a list": lambda: web.json_response([]),
    "a redirect": lambda: web.Response(status=307, headers={"Location": "http://127.0.0.1:1/"}),
    "encoded": lambda: web.Response(body=b"xx", content_type="application/json", headers={"Content-Encoding": "gzip"}),
    "our credential refused": lambda: web.Response(status=401),
}


@pytest.mark.parametrize("case", RUBBISH)
def test_what_the_upstream_says_must_be_mcp(mcp: Stage, case: str) -> None:
    async def reply(request: web.Request, body: bytes) -> web.StreamResponse:
        return RUBBISH[case]()

    mcp.upstream.reply = reply
    answer = post(mcp, called("see_rooms"))
    assert answer.status == 502
    assert answer.json()["id"] == 1 and "error" in answer.json()
    (finished,) = mcp.finished()
    assert (finished.outcome, finished.status) == ("upstream_error", 502)


def test_no_answer_reaches_another_client_however_ids_collide(mcp: Stage, doors: list) -> None:
    async def slow_echo(request: web.Request, body: bytes) -> web.StreamResponse:
        import asyncio
        import random

        await asyncio.sleep(random.random() / 50)
        return await office(request, body)

    mcp.upstream.reply = slow_echo
    auth = bearer(mcp)

    def client(number: int) -> int:
        swapped = 0
        for turn in range(20):
            canary = f"client-{number}-{turn}"
            answer = post(mcp, called("enter_meeting", turn % 3, who=canary), auth=auth, door=doors[number % 2])
            text = answer.json()["result"]["content"][0]["text"]
            swapped += answer.json()["id"] != turn % 3 or json.loads(text) != {"who": canary}
        return swapped

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(client, range(16))) == 0


def test_pages_of_other_origins_may_not_call(mcp: Stage) -> None:
    for origin in ("https://evil.example", "null", "http://localhost.evil.example"):
        assert post(mcp, rpc("ping"), ("Origin", origin)).status == 403, origin
    answer = post(mcp, rpc("ping"), ("Origin", "http://localhost:6274"))
    assert (answer.status, answer.header("access-control-allow-origin")) == (200, "http://localhost:6274")
    assert len(mcp.upstream.seen) == 1
