"""Attacks on the path and the headers: what is matched is what is sent, and nobody lends the agent another identity."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from aiohttp import web

from agentauth.gateway.headers import inbound, outbound
from agentauth.gateway.paths import BadPath, Routes, read_path, write_path
from agentauth.gateway.snapshot import Operation
from agentauth.policy.facts import OperationFacts
from tests.gateway.conftest import Stage

CORPUS = json.loads((Path(__file__).parent.parent / "corpora" / "gateway" / "paths.json").read_text())


@pytest.mark.parametrize("path", CORPUS["refused"])
def test_a_path_with_two_readings_is_refused(path: str) -> None:
    with pytest.raises(BadPath):
        read_path(path.encode())


@pytest.mark.parametrize("path", CORPUS["sent"])
def test_a_path_with_one_reading_is_sent_in_one_spelling(path: str) -> None:
    assert write_path(read_path(path.encode())) == CORPUS["sent"][path]


def routes() -> Routes:
    found = Routes()
    for key in ("POST /rooms/{room}/enter", "POST /rooms/finance/enter", "GET /files/{name}.pdf", "GET /files/{name}"):
        method, path = key.split(" ")
        found.add(method, path, Operation(OperationFacts(key, "s")))
    return found


MATCHES = {
    "/rooms/finance/enter": "POST /rooms/finance/enter",
    "/rooms/blue/enter": "POST /rooms/{room}/enter",
    "/rooms/fin%61nce/enter": "POST /rooms/finance/enter",
    "/rooms/Finance/enter": None,
    "/rooms/FINANCE/enter": None,
    "/rooms/finance./enter": None,
    "/rooms/finance%20/enter": None,
    "/rooms/%EF%BD%86inance/enter": None,
    "/rooms/finance/enter/": None,
    "/rooms//enter": "refused",
    "/Rooms/blue/enter": None,
    "/rooms/blue/Enter": None,
    "/rooms/blue": None,
}


@pytest.mark.parametrize("path", MATCHES)
def test_a_placeholder_never_stands_for_a_literal_in_disguise(path: str) -> None:
    if MATCHES[path] == "refused":
        with pytest.raises(BadPath):
            read_path(path.encode())
        return
    match = routes().match("POST", read_path(path.encode()))
    assert (match.operation.facts.key if match else None) == MATCHES[path]


def test_the_more_exact_pattern_wins() -> None:
    match = routes().match("GET", ["files", "a.pdf"])
    assert match is not None and (match.operation.facts.key, match.values) == ("GET /files/{name}.pdf", {"name": "a"})


def test_no_attack_on_the_path_reaches_the_upstream(stage: Stage) -> None:
    token = stage.token()
    for path in CORPUS["refused"]:
        if not path.startswith("/") or set(path) & set(" \t?"):
            continue  # no request line, or a path that ends there
        answer = stage.call("GET", path, token=token)
        assert answer.status in (400, 404), path
    assert stage.upstream.seen == []
    assert all(event.reasons == ["operation_unknown"] for event in stage.events("call.refused"))


DISGUISES = [
    "Cookie",
    "X-Forwarded-For",
    "X-Forwarded-User",
    "X_Forwarded_User",
    "X-Forwarded_User",
    "x-forwarded-host",
    "Forwarded",
    "X-Real-IP",
    "True-Client-IP",
    "CF-Connecting-IP",
    "X-Auth-Request-User",
    "X-Auth-Request-Email",
    "X-Remote-User",
    "Remote-User",
    "REMOTE_USER",
    "X-User",
    "X-User-Id",
    "X-Email",
    "X-Webauth-User",
    "X-Authenticated-Userid",
    "X-Consumer-Username",
    "X-Upstream-Authorization",
    "Proxy-Authorization",
    "X-Api-Key",
    "Api-Key",
    "X-Amz-Security-Token",
    "X-Goog-Iap-Jwt-Assertion",
    "X-MS-Client-Principal",
    "X-CSRF-Token",
    "X-HTTP-Method-Override",
    "X-HTTP-Method",
    "X-Method-Override",
    "X-Original-URL",
    "X-Rewrite-URL",
    "X-Original-Method",
    "X-Accel-Redirect",
    "AgentAuth-Assertion",
    "AgentAuth_Assertion",
    "AgentAuth-Call",
    "Txn-Token",
    "X-Tenant-Id",
    "X-Role",
    "X-Groups",
    "X-Scope",
    "X-Session-Id",
    "DPoP",
    "Upgrade",
    "Keep-Alive",
    "TE",
    "Via",
]


def test_no_borrowed_identity_reaches_the_upstream(stage: Stage) -> None:
    more = [(name, "evil-value") for name in DISGUISES if name not in ("TE", "Upgrade")]
    answer = stage.call("GET", "/rooms", *more, ("X-Harmless", "kept"), ("User-Agent", "an agent"))
    assert answer.status == 200
    (seen,) = stage.upstream.seen
    assert not [pair for pair in seen.headers if "evil-value" in pair[1]]
    assert seen.all("x-harmless") == ["kept"] and seen.all("user-agent") == ["an agent"]
    assert len(seen.all("agentauth-assertion")) == 1


@pytest.mark.parametrize("name", DISGUISES)
def test_headers_in_disguise_are_dropped(name: str) -> None:
    for spelling in (name, name.lower(), name.upper()):
        assert inbound([(spelling.encode(), b"evil")]) == []


def test_what_connection_names_goes_no_further_but_never_ours(stage: Stage) -> None:
    named = ("Connection", "X-Harmless, AgentAuth-Assertion, Authorization, close")
    assert stage.call("GET", "/rooms", named, ("X-Harmless", "x")).status == 200
    (seen,) = stage.upstream.seen
    assert not seen.all("x-harmless")
    assert len(seen.all("agentauth-assertion")) == 1


def test_the_header_that_carries_our_credential_cannot_be_sent_by_an_agent() -> None:
    assert inbound([(b"x-custom", b"evil"), (b"x-other", b"fine")], own=["X-Custom"]) == [("x-other", "fine")]


def test_what_an_upstream_may_not_say_to_our_clients_is_dropped(stage: Stage) -> None:
    async def reply(request: web.Request, body: bytes) -> web.StreamResponse:
        headers = {
            "Set-Cookie": "a=b",
            "WWW-Authenticate": "Basic",
            "Access-Control-Allow-Origin": "*",
            "Content-Security-Policy": "default-src *",
            "X-Accel-Redirect": "/secret",
            "AgentAuth-Call": "forged",
            "Strict-Transport-Security": "max-age=1",
            "Clear-Site-Data": "*",
            "X-Kept": "yes",
        }
        return web.Response(text="<script>", content_type="text/html", headers=headers)

    stage.upstream.reply = reply
    answer = stage.call("GET", "/rooms")
    assert answer.header("x-kept") == "yes"
    assert answer.all("content-security-policy") == ["default-src 'none'; sandbox"]
    assert answer.all("x-content-type-options") == ["nosniff"]
    assert len(answer.all("agentauth-call")) == 1 and answer.header("agentauth-call") != "forged"
    for name in (
        "set-cookie",
        "www-authenticate",
        "access-control-allow-origin",
        "x-accel-redirect",
        "clear-site-data",
    ):
        assert answer.all(name) == [], name


def test_a_header_cannot_be_split() -> None:
    assert outbound([(b"x-a", b"one\r\nset-cookie: b")]) == []


REDIRECTS = {
    "http://evil.example/": 502,
    "//evil.example/": 502,
    "http://169.254.169.254/latest": 502,
    "https:///": 502,
}


@pytest.mark.parametrize("location", REDIRECTS)
def test_a_redirect_to_elsewhere_is_refused(stage: Stage, location: str) -> None:
    async def reply(request: web.Request, body: bytes) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": location})

    stage.upstream.reply = reply
    answer = stage.call("GET", "/rooms")
    assert answer.status == 502 and answer.all("location") == []
    (finished,) = stage.finished()
    assert finished.outcome == "upstream_error"


def test_a_redirect_within_the_upstream_is_told_in_our_address(stage: Stage) -> None:
    async def reply(request: web.Request, body: bytes) -> web.StreamResponse:
        return web.Response(status=303, headers={"Location": "/rooms/blue?x=1"})

    stage.upstream.reply = reply
    answer = stage.call("GET", "/rooms")
    assert answer.status == 303
    assert answer.header("location") == f"http://localhost:8001/{stage.slug}/office/rooms/blue?x=1"
    assert len(stage.upstream.seen) == 1


def test_a_body_that_is_too_long_is_refused(stage: Stage) -> None:
    answer = stage.call("POST", "/rooms/meeting/enter", body=b"x" * 1_000_001)
    assert answer.status == 413 and stage.upstream.seen == []


def test_a_preflight_is_answered_here(stage: Stage) -> None:
    asks = [("Access-Control-Request-Method", "POST")]
    headers = [("Origin", "http://localhost:3000"), *asks]
    answer = stage.door.call("OPTIONS", stage.path("/rooms"), headers)
    assert answer.status == 204 and "Authorization" in answer.header("access-control-allow-headers")
    assert stage.door.call("OPTIONS", stage.path("/rooms"), [("Origin", "https://evil.example"), *asks]).status == 403
    assert stage.upstream.seen == []
