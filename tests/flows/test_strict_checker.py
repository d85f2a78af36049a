"""What only a raw connection can send, against real processes: refused, and nothing is told of another host."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import pytest

from tests.flows.installation import Installation

BODY = b"grant_type=x&client_id=y"
FORM = b"Content-Type: application/x-www-form-urlencoded\r\n"
POST = b"POST /t/acme/oauth/token HTTP/1.1\r\nHost: @\r\n" + FORM
SENT = {
    "two lengths": POST + b"Content-Length: 5\r\nContent-Length: 24\r\n\r\n" + BODY,
    "a length and chunks": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a negative length": POST + b"Content-Length: -5\r\n\r\n",
    "a length that is text": POST + b"Content-Length: abc\r\n\r\n",
    "a packed body": POST + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    "two hosts": b"GET /t/acme/oauth/jwks.json HTTP/1.1\r\nHost: @\r\nHost: evil.example\r\n\r\n",
    "a host with a user": b"GET /t/acme/oauth/jwks.json HTTP/1.1\r\nHost: @@evil.example\r\n\r\n",
    "an empty host": b"GET /t/acme/oauth/jwks.json HTTP/1.1\r\nHost: \r\n\r\n",
    "bytes that are no text": b"GET /t/acme/oauth/authorize?client_id=\xff\xfe HTTP/1.1\r\nHost: @\r\n\r\n",
    "a slash that is escaped": b"GET /t/acme%2foauth/authorize HTTP/1.1\r\nHost: @\r\n\r\n",
    "an endless address": b"GET /t/acme/oauth/authorize?x=" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: @\r\n\r\n",
    "a method that is none": b"FOO /t/acme/oauth/authorize HTTP/1.1\r\nHost: @\r\n\r\n",
    "a trace": b"TRACE /t/acme/oauth/authorize HTTP/1.1\r\nHost: @\r\nCookie: secret-of-mine\r\n\r\n",
}


def answer_to(sent: bytes, here: Installation) -> bytes:
    where = urlsplit(here.stack.base_url)
    assert where.hostname and where.port
    with socket.create_connection((where.hostname, where.port), timeout=20) as line:
        line.sendall(sent.replace(b"@", where.netloc.encode(), 1))
        return line.recv(65536)


@pytest.mark.parametrize("why", SENT)
def test_what_no_proper_client_sends_is_refused(here: Installation, why: str) -> None:
    """RFC 9112 §3.2 and §6.3, RFC 9110 §9.3.8 (TRACE says nothing back)."""
    answer = answer_to(SENT[why], here)
    status = int(answer.split(b" ", 2)[1])
    assert 400 <= status < 500, answer[:300]
    assert b"evil.example" not in answer and b"secret-of-mine" not in answer


def test_the_checker_itself_speaks_http(here: Installation) -> None:
    """What is proper is answered on the same connection."""
    answer = answer_to(b"GET /t/acme/oauth/jwks.json HTTP/1.1\r\nHost: @\r\nConnection: close\r\n\r\n", here)
    assert answer.startswith(b"HTTP/1.1 200")
