"""The office as the gateway meets it: a process behind its key, which believes only verified assertions."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import aiohttp
import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from agentauth.resources import mcp_tools, openapi
from agentauth.resources.drafts import Unreadable

KEY = "the office's own key"
PERSON, AGENT, GRANT = (str(uuid.uuid4()) for _ in range(3))


class Tenants:
    """Publishes the keys of `acme` as the console would; a second key is published by nobody."""

    def __init__(self) -> None:
        self.private = ec.generate_private_key(ec.SECP256R1())
        self.unpublished = ec.generate_private_key(ec.SECP256R1())
        jwk = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self.private.public_key())) | {"kid": "acme-1"}
        self.asked: list[str] = []
        asked = self.asked

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                known = self.path == "/t/acme/oauth/jwks.json"
                body = json.dumps({"keys": [jwk]}).encode() if known else b"{}"
                self.send_response(200 if known else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@dataclass
class Running:
    url: str
    tenants: Tenants

    def assertion(self, **changes: Any) -> str:
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": f"{self.tenants.url}/t/acme",
            "sub": PERSON,
            "aud": self.url,
            "iat": now,
            "exp": now + 30,
            "jti": str(uuid.uuid4()),
            "tenant": "acme",
            "grant_id": GRANT,
            "act": {"sub": AGENT},
            "operation": "POST /rooms/meeting/enter",
        }
        key = changes.pop("key", self.tenants.private)
        head = {"typ": "txntoken+jwt", "kid": "acme-1"} | changes.pop("head", {})
        return jwt.encode({**claims, **changes}, key, algorithm="ES256", headers=head)

    def headers(self, **changes: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {KEY}", "AgentAuth-Assertion": self.assertion(**changes)}


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    home, tenants = tmp_path_factory.mktemp("home"), Tenants()
    (home / "secrets").mkdir(mode=0o700)
    (home / "secrets" / "office.key").write_text(KEY)
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    environ = os.environ | {
        "AGENTAUTH_HOME": str(home),
        "AGENTAUTH_BASE_URL": tenants.url,
        "AGENTAUTH_OFFICE_URL": url,
    }
    command = [sys.executable, "-m", "agentauth.embedded.office", "--port", str(port)]
    process = subprocess.Popen(command, env=environ, cwd=Path(__file__).parents[2])
    try:
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(httpx2.TransportError):
                httpx2.get(f"{url}/openapi.json")
                break
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        yield Running(url, tenants)
    finally:
        process.kill()
        process.wait()
        tenants.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_its_document_is_open_and_readable(office: Running):
    answer = httpx2.get(f"{office.url}/openapi.json")
    draft = openapi.read(answer.content, address=f"{office.url}/openapi.json")
    assert draft.upstream_url == office.url
    assert "POST /rooms/meeting/enter" in [operation.key for operation in draft.operations]


def test_entering_is_noted_for_person_and_agent(office: Running):
    headers = office.headers()
    entered = httpx2.post(f"{office.url}/rooms/meeting/enter", headers=headers)
    assert entered.status_code == 200
    assert entered.json() | {"at": ""} == {"entered": "Meeting room", "for": PERSON, "by": AGENT, "at": ""}
    newest = httpx2.get(f"{office.url}/journal", headers=office.headers()).json()["journal"][0]
    assert (newest["did"], newest["for"], newest["by"], newest["grant"]) == (
        "entered the meeting room",
        PERSON,
        AGENT,
        GRANT,
    )


def test_a_room_is_booked_only_once_at_a_time(office: Running):
    wish = {"start": "2030-01-01T10:00:00Z", "minutes": 30, "title": "Talk"}
    url = f"{office.url}/rooms/library/book"
    assert httpx2.post(url, json=wish, headers=office.headers()).status_code == 201
    clash = httpx2.post(url, json=wish | {"start": "2030-01-01T10:29:00Z"}, headers=office.headers())
    assert (clash.status_code, "taken" in clash.json()["error"]) == (409, True)


@pytest.mark.parametrize(
    "wish",
    [{"minutes": 1}, {"minutes": "30"}, {"minutes": True}, {"start": "tomorrow"}, {"start": 5}, {"title": ""}, []],
)
def test_a_wish_that_makes_no_sense_is_refused(office: Running, wish: Any):
    answer = httpx2.post(f"{office.url}/rooms/studio/book", json=wish, headers=office.headers())
    assert answer.status_code == 422


def test_what_is_not_there_is_404(office: Running):
    for path in ("/rooms/cellar", "/nothing", "/rooms/library/enter"):
        assert httpx2.get(f"{office.url}{path}", headers=office.headers()).status_code == 404


def test_without_its_key_nobody_comes_in(office: Running):
    for given in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {KEY}"}):
        headers = {"AgentAuth-Assertion": office.assertion()} | given
        assert httpx2.get(f"{office.url}/rooms", headers=headers).status_code == 401
        assert httpx2.post(f"{office.url}/mcp", json={}, headers=headers).status_code == 401


def test_an_assertion_that_does_not_hold_is_refused(office: Running):
    now = int(time.time())
    stranger = f"http://127.0.0.1:{_free_port()}"
    bad: list[dict[str, Any]] = [
        {"key": office.tenants.unpublished},
        {"head": {"kid": "acme-2"}},
        {"head": {"typ": "JWT"}},
        {"head": {"typ": "at+jwt"}},
        {"aud": "https://another.example"},
        {"aud": [office.url, "https://another.example"]},
        {"exp": now - 10, "iat": now - 40},
        {"iss": f"{stranger}/t/acme"},
        {"iss": f"{office.tenants.url}.evil.example/t/acme"},
        {"iss": f"{office.tenants.url}/t/acme/../globex"},
        {"iss": f"{office.tenants.url}@evil.example/t/acme"},
        {"tenant": "globex"},
    ]
    for changes in bad:
        answer = httpx2.get(f"{office.url}/rooms", headers=office.headers(**changes))
        assert answer.status_code == 401, (changes, answer.text)
    assert set(office.tenants.asked) == {"/t/acme/oauth/jwks.json"}
    plain = {"Authorization": f"Bearer {KEY}"}
    assert httpx2.get(f"{office.url}/rooms", headers=plain).status_code == 401
    for token in ("", "x", "a.b.c", jwt.encode({"iss": f"{office.tenants.url}/t/acme"}, "", algorithm="none")):
        headers = plain | {"AgentAuth-Assertion": token}
        assert httpx2.get(f"{office.url}/rooms", headers=headers).status_code == 401


def test_a_tenant_whose_keys_cannot_be_read_is_503(office: Running):
    answer = httpx2.get(
        f"{office.url}/rooms", headers=office.headers(iss=f"{office.tenants.url}/t/globex", tenant="globex")
    )
    assert answer.status_code == 503
    office.tenants.asked.remove("/t/globex/oauth/jwks.json")


async def test_the_stream_ticks_until_the_listener_goes(office: Running):
    async with aiohttp.ClientSession() as session:
        headers = office.headers() | {"Accept": "application/x-ndjson"}
        async with session.get(f"{office.url}/stream", headers=headers) as answer:
            ticks = [json.loads(await answer.content.readline())["tick"] for _ in range(3)]
    assert ticks == [1, 2, 3]


@pytest.mark.parametrize("era", ["2026-07-28", "legacy"])
async def test_the_official_client_uses_the_tools_in_both_eras(office: Running, era: str):
    async with httpx2.AsyncClient(headers=office.headers()) as http:
        transport = streamable_http_client(f"{office.url}/mcp", http_client=http)
        async with Client(transport, mode=era) as client:
            tools = await client.list_tools()
            assert {"list_rooms", "book_room", "enter_meeting_room", "enter_finance", "watch_rooms"} == {
                tool.name for tool in tools.tools
            }
            entered = await client.call_tool("enter_meeting_room", {})
            assert not entered.is_error and entered.structured_content
            assert entered.structured_content["for"] == PERSON
            seen: list[float] = []

            async def note(progress: float, total: float | None, message: str | None) -> None:
                seen.append(progress)

            watched = await client.call_tool("watch_rooms", {"seconds": 1}, progress_callback=note)
            assert not watched.is_error and seen == [1, 2]
            booked = await client.call_tool("book_room", {"room": "studio", "minutes": 1})
            assert booked.is_error


def test_acting_through_mcp_needs_an_assertion_but_listing_does_not(office: Running, monkeypatch: pytest.MonkeyPatch):
    _allow(office, monkeypatch)
    draft = mcp_tools.read(f"{office.url}/mcp", {"Authorization": f"Bearer {KEY}"})
    assert (draft.name, len(draft.operations)) == ("Office", 5)
    answer = _modern(office, "tools/call", {"name": "enter_finance", "arguments": {}}, assertion="")
    assert answer.status_code == 401


def test_reading_tools_without_the_key_says_so(office: Running, monkeypatch: pytest.MonkeyPatch):
    _allow(office, monkeypatch)
    with pytest.raises(Unreadable, match="wants a credential"):
        mcp_tools.read(f"{office.url}/mcp")


def test_headers_that_say_other_than_the_body_are_refused(office: Running):
    call = {"name": "list_rooms", "arguments": {}}
    assert _modern(office, "tools/call", call).status_code == 200
    for headers in (
        {"MCP-Protocol-Version": "2025-11-25"},
        {"Mcp-Method": "tools/list"},
        {"Mcp-Name": "enter_finance"},
        {"Mcp-Name": "=?base64?!!?="},
    ):
        answer = _modern(office, "tools/call", call, **headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32020)


def test_unknown_versions_methods_tools_and_sessions_are_refused(office: Running):
    unknown = _modern(office, "tools/list", {}, version="2031-01-01")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (400, -32022)
    assert "2026-07-28" in unknown.json()["error"]["data"]["supported"]
    assert _modern(office, "resources/list", {}).status_code == 404
    assert _modern(office, "tools/call", {"name": "open_safe", "arguments": {}}).status_code == 400
    assert _modern(office, "tools/call", {"name": "list_rooms", "arguments": {"x": 1}}).status_code == 400
    plain = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    url, headers = f"{office.url}/mcp", office.headers()
    assert httpx2.post(url, json=plain, headers=headers).status_code == 400
    assert httpx2.post(url, json=plain, headers=headers | {"Mcp-Session-Id": "x"}).status_code == 404
    for body in ("", "[]", "{}", '{"jsonrpc": "2.0", "id": 1, "method": 5}'):
        assert httpx2.post(url, content=body, headers=headers).status_code == 400
    assert httpx2.get(url, headers=headers).status_code == 405


def _modern(
    office: Running,
    method: str,
    params: dict[str, Any],
    *,
    version: str = "2026-07-28",
    assertion: str | None = None,
    **headers: str,
) -> httpx2.Response:
    meta = {
        "io.modelcontextprotocol/protocolVersion": version,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    sent = office.headers() | {
        "MCP-Protocol-Version": version,
        "Mcp-Method": method,
        "Mcp-Name": params.get("name", ""),
    }
    if assertion is not None:
        sent["AgentAuth-Assertion"] = assertion
    body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params | {"_meta": meta}}
    return httpx2.post(f"{office.url}/mcp", json=body, headers=sent | headers)


def _allow(office: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    from agentauth import settings

    monkeypatch.setattr(settings.KNOBS, "office_url", office.url)
