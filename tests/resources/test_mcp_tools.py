"""Reading tools from MCP servers: the official server in both eras, and servers that misbehave."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp_types import ToolAnnotations

from agentauth import settings
from agentauth.outbound.fetch import FetchFailed, FetchRefused
from agentauth.resources import mcp_tools
from agentauth.resources.drafts import Unreadable


@pytest.fixture(scope="module", params=["answers in JSON", "answers in a stream", "stateless"])
def official(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server made with the official SDK, with its own idea of answering."""
    server = MCPServer("notes")

    @server.tool(description="All notes.", annotations=ToolAnnotations(read_only_hint=True))
    def list_notes() -> str:
        return "none"

    @server.tool(description="Away with it.")
    def delete_note(number: int) -> str:
        return "gone"

    app = server.streamable_http_app(
        json_response=request.param == "answers in JSON", stateless_http=request.param == "stateless"
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    running = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}/mcp"
    running.should_exit = True
    thread.join(5)


def _allow(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings.KNOBS, "allowed_hosts_outbound", [url.split("/")[2]])


@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_the_official_server_is_read_in_both_eras(official: str, era: str, monkeypatch: pytest.MonkeyPatch):
    _allow(official, monkeypatch)
    if era == "legacy":

        def not_spoken(_: Any) -> None:
            raise mcp_tools._NotSpoken("asked in the old way")

        monkeypatch.setattr(mcp_tools, "_read_modern", not_spoken)
    draft = mcp_tools.read(official)
    assert draft.name == "notes"
    found = {operation.key: operation for operation in draft.operations}
    assert set(found) == {"list_notes", "delete_note"}
    assert (found["list_notes"].says_read_only, found["list_notes"].summary) == (True, "All notes.")
    assert all(len(operation.digest) == 64 for operation in draft.operations)


Script = Callable[[dict[str, Any], dict[str, str]], tuple[int, dict[str, str], bytes]]


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Script], tuple[str, list[str]]]]:
    servers: list[ThreadingHTTPServer] = []

    def start(script: Script) -> tuple[str, list[str]]:
        asked: list[str] = []

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                asked.append(message["method"])
                status, headers, body = script(message, {k.lower(): v for k, v in self.headers.items()})
                self.send_response(status)
                for name, value in (
                    {"Content-Type": "application/json", "Content-Length": str(len(body))} | headers
                ).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def do_DELETE(self) -> None:
                asked.append("DELETE " + self.headers.get("Mcp-Session-Id", ""))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/mcp"
        _allow(url, monkeypatch)
        return url, asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def _result(message: dict[str, Any], result: object) -> tuple[int, dict[str, str], bytes]:
    return 200, {}, json.dumps({"jsonrpc": "2.0", "id": message.get("id"), "result": result}).encode()


def _tools(*tools: object) -> Script:
    return lambda message, _: _result(message, {"tools": list(tools)})


def test_a_server_of_the_old_era_gets_its_handshake_and_its_session_back(scripted: Any):
    def script(message: dict[str, Any], headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        if message["method"] == "initialize":
            status, _, body = _result(message, {"protocolVersion": "2025-06-18", "serverInfo": {"name": "old"}})
            return status, {"Mcp-Session-Id": "s-1"}, body
        if headers.get("mcp-session-id") != "s-1" or headers.get("mcp-protocol-version") != "2025-06-18":
            return 400, {}, b"Bad Request: no session"
        if message["method"] == "notifications/initialized":
            return 202, {}, b""
        return _result(message, {"tools": [{"name": "list_notes"}]})

    url, asked = scripted(script)
    assert mcp_tools.read(url).name == "old"
    assert asked == ["tools/list", "initialize", "notifications/initialized", "tools/list", "DELETE s-1"]


def test_all_pages_are_read(scripted: Any):
    def script(message: dict[str, Any], _: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        page = int(message["params"].get("cursor", "0"))
        following = {"nextCursor": str(page + 1)} if page < 3 else {}
        return _result(message, {"tools": [{"name": f"list_{page}"}]} | following)

    url, asked = scripted(script)
    assert [operation.key for operation in mcp_tools.read(url).operations] == ["list_0", "list_1", "list_2", "list_3"]
    assert len(asked) == 4


def test_the_credential_goes_with_every_request(scripted: Any):
    seen: list[str | None] = []

    def script(message: dict[str, Any], headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        seen.append(headers.get("authorization"))
        return _result(message, {"tools": [{"name": "list_notes"}]})

    url, _ = scripted(script)
    mcp_tools.read(url, {"Authorization": "Bearer s3cret"})
    assert seen == ["Bearer s3cret"]


@pytest.mark.parametrize("kept_open", [False, True])
def test_an_answer_in_a_stream_is_found_among_other_messages(scripted: Any, kept_open: bool):
    def script(message: dict[str, Any], _: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        noise = {"jsonrpc": "2.0", "method": "notifications/message", "params": {}}
        answer = {"jsonrpc": "2.0", "id": message["id"], "result": {"tools": [{"name": "list_notes"}]}}
        body = b": hello\r\n\r\n" + b"".join(
            b"event: message\r\ndata: " + json.dumps(part).encode() + b"\r\n\r\n" for part in (noise, answer)
        )
        length = len(body) + (1000 if kept_open else 0)
        return 200, {"Content-Type": "text/event-stream", "Content-Length": str(length)}, body

    url, _ = scripted(script)
    begun = time.monotonic()
    assert [operation.key for operation in mcp_tools.read(url).operations] == ["list_notes"]
    assert time.monotonic() - begun < 5


def _endless(message: dict[str, Any], _: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
    cursor = int(message["params"].get("cursor", "0"))
    return _result(message, {"tools": [], "nextCursor": str(cursor + 1)})


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (lambda m, _: (401, {}, b""), "wants a credential"),
        (lambda m, _: (403, {}, b""), "wants a credential"),
        (lambda m, _: (500, {}, b"oops"), "failed with status 500"),
        (lambda m, _: (404, {}, b"<html>"), "does not look like an MCP server"),
        (lambda m, _: (200, {"Content-Type": "text/html"}, b"<html>"), "does not look like an MCP server"),
        (lambda m, _: (200, {}, b'{"jsonrpc":"2.0","id":99,"result":{}}'), "does not look like an MCP server"),
        (lambda m, _: _result(m, "x"), "not in MCP"),
        (lambda m, _: _result(m, {"tools": {}}), "not a list"),
        (_tools(), "no tools"),
        (_tools({"name": ""}, {"name": "a" * 129}, {"name": "a\nb"}, {"name": "ä"}, {}, 5), "no tools"),
        (_tools({"name": "pay"}, {"name": "pay"}), "two tools named pay"),
        (_tools(*({"name": f"t{at}"} for at in range(2001))), "more than 2000"),
        (_endless, "more than 50 pages"),
    ],
)
def test_a_server_that_misbehaves_is_refused_with_the_reason(scripted: Any, script: Script, says: str):
    url, _ = scripted(script)
    with pytest.raises(Unreadable, match=says):
        mcp_tools.read(url)


def test_a_server_that_sends_elsewhere_is_not_followed(scripted: Any):
    url, asked = scripted(lambda m, _: (307, {"Location": "http://169.254.169.254/"}, b""))
    with pytest.raises(FetchFailed, match="sends elsewhere"):
        mcp_tools.read(url)
    assert asked == ["tools/list"]


def test_a_server_inside_is_not_asked():
    with pytest.raises(FetchRefused):
        mcp_tools.read("http://127.0.0.1:8000/mcp")


def test_a_tool_without_a_proper_name_is_left_out_and_said(scripted: Any):
    url, _ = scripted(_tools({"name": "list_notes"}, {"name": "bad\u202ename"}))
    draft = mcp_tools.read(url)
    assert [operation.key for operation in draft.operations] == ["list_notes"]
    assert draft.notes == ["A tool without a proper name is left out (badname)."]


@pytest.mark.parametrize(
    "change",
    [
        {"description": "Now it also mails them."},
        {"inputSchema": {"type": "object", "properties": {"to": {}}}},
        {"annotations": {"readOnlyHint": False}},
        {"title": "Other"},
        {"outputSchema": {}},
    ],
)
def test_whatever_a_tool_says_of_itself_is_in_its_digest(change: dict[str, Any]):
    tool = {"name": "list_notes", "description": "All notes.", "inputSchema": {"type": "object"}}
    assert mcp_tools.digest_of(tool) != mcp_tools.digest_of(tool | change)
    assert mcp_tools.digest_of(tool) == mcp_tools.digest_of(dict(reversed(tool.items())) | {"_meta": {"x": 1}})
