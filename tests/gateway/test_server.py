"""The server in front of the gateway is the console's: what `tests/web/test_server.py` promises holds here too."""

from __future__ import annotations

import json
import socket

import pytest

from tests.gateway.conftest import Door, Stage, environ_for


def say(port: int, sent: bytes) -> bytes:
    """All that comes back on one connection until it is closed."""
    with socket.create_connection(("127.0.0.1", port), 10) as one:
        one.sendall(sent)
        found = b""
        while piece := one.recv(65536):
            found += piece
        return found


def test_who_offers_another_protocol_loses_no_body(stage: Stage) -> None:
    """RFC 9110 §7.8: Java's client sends this with every request to an http URL."""
    body = json.dumps({"minutes": 30}).encode()
    (name, value), *_ = stage.bearer()
    head = f"POST {stage.path('/rooms/meeting/enter')} HTTP/1.1\r\nHost: a\r\n{name}: {value}\r\n"
    head += "Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    said = say(stage.door.port, head.encode() + body)
    assert said.startswith(b"HTTP/1.1 200 "), said
    (seen,) = stage.upstream.seen
    assert seen.body == body and not seen.all("upgrade")
    assert len(stage.events("call.allowed")) == 1


@pytest.mark.parametrize(
    "hosts", [b"", b"Host:\r\n", b"Host: a\r\nHost: a\r\n", b"Host: a b\r\n", b"Host: a/b\r\n"], ids=repr
)
def test_without_one_good_host_nothing_is_answered(stage: Stage, hosts: bytes) -> None:
    """RFC 9112 §3.2."""
    said = say(stage.door.port, b"GET /livez HTTP/1.1\r\n" + hosts + b"Connection: close\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 400 ")
    assert say(stage.door.port, b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").startswith(
        b"HTTP/1.1 200 "
    )


def test_a_head_without_end_is_refused(stage: Stage) -> None:
    """RFC 6585 §5."""
    sent = b"GET /livez HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 70_000
    assert say(stage.door.port, sent).startswith(b"HTTP/1.1 431 ")


def test_only_a_proxy_that_the_operator_named_says_who_called(stage: Stage) -> None:
    forwarded = [*stage.bearer(), ("X-Forwarded-For", "203.0.113.9, 198.51.100.7")]
    assert stage.door.call("GET", stage.path("/rooms"), forwarded).status == 200
    trusting = Door(environ_for(stage.upstream) | {"AGENTAUTH_TRUSTED_PROXIES": "127.0.0.1, 10.0.0.0/8"})
    try:
        trusting.await_ready()
        assert trusting.call("GET", stage.path("/rooms"), forwarded).status == 200
        assert [one.ip for one in stage.events("call.allowed")] == ["127.0.0.1", "198.51.100.7"]  # not what came first
        stage.finished(2)
    finally:
        trusting.stop()
