"""The server in front of Django: HTTP/1.1 as clients really speak it, slow ones and hostile ones among them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any
from unittest import mock

import pytest
import uvicorn
from django.urls import resolve

from agentauth.web import protocol, threads
from agentauth.web.protocol import Patience
from agentauth.web.short import Short
from agentauth.web.threads import Environ, Threads

Wsgi = Callable[[Environ, Callable[..., Any]], Any]


class Whole(list[bytes]):
    """As Django gives an answer that is no stream."""

    streaming = False


def echo(environ: Environ, start: Callable[..., Any]) -> Any:
    """Says what it got."""
    body = environ["wsgi.input"].read()
    names = (
        "REQUEST_METHOD",
        "PATH_INFO",
        "QUERY_STRING",
        "CONTENT_LENGTH",
        "HTTP_COOKIE",
        "HTTP_X_ONE",
        "REMOTE_ADDR",
    )
    lines = [f"{name}={environ.get(name, '-')}" for name in names] + [f"length={len(body)}", f"sum={sum(body)}"]
    said = "\n".join(lines).encode("latin-1")
    start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(said)))])
    return Whole([said])


class Application:
    """Threads, and a short way that takes every POST of a few bytes and knows what to say to none."""

    def __init__(self, behind: Threads) -> None:
        self._behind = behind
        self.asked: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._behind(scope, receive, send)

    def takes(self, method: bytes, target: bytes, headers: Any) -> bool:
        length = dict(headers).get(b"content-length", b"")
        return method == b"POST" and length.isdigit() and int(length) <= 65536

    def at_once(self, target: bytes, headers: Any, body: bytes, ip: str) -> Any:
        self.asked.append(target)


@contextmanager
def serving(
    application: Wsgi, count: int = 2, http: type[Patience] = Patience, front: Callable[[Threads], Any] = Application
) -> Iterator[int]:
    """A port behind which `application` answers."""
    behind = Threads(application, count)
    config = uvicorn.Config(
        front(behind), http=http, ws="none", loop="uvloop", lifespan="off", log_config=None, proxy_headers=False
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=lambda: server.run([listening]), daemon=True)
        with mock.patch.object(server, "capture_signals", mock.MagicMock()):
            thread.start()
            yield listening.getsockname()[1]
            server.should_exit = server.force_exit = True
            thread.join(10)
    behind.stop()
    assert not thread.is_alive()


@pytest.fixture(params=[Patience, Short])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    with serving(echo, http=request.param) as port:
        yield port


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 10)


def say(port: int, *pieces: bytes, pause: float = 0.0) -> bytes:
    """All that comes back on one connection until it is closed."""
    with connect(port) as one:
        for piece in pieces:
            one.sendall(piece)
            time.sleep(pause)
        found = b""
        while piece := one.recv(65536):
            found += piece
        return found


CLOSE = b"Host: a\r\nConnection: close\r\n"


def test_a_request_comes_through_with_its_names_as_wsgi_wants_them(port: int) -> None:
    said = say(port, b"PUT /a%20b/%ff?x=%20 HTTP/1.1\r\nX-One: 1\r\nX_One: 2\r\nX-One: 3\r\n" + CLOSE + b"\r\n")
    assert b"\nPATH_INFO=/a b/\xff\nQUERY_STRING=x=%20\nCONTENT_LENGTH=-\n" in said
    assert b"\nHTTP_X_ONE=1,3\n" in said  # what has an underscore does not pass for what has a hyphen
    assert b"\nREMOTE_ADDR=127.0.0.1\n" in said


def test_cookies_in_two_headers_are_one(port: int) -> None:
    said = say(port, b"GET / HTTP/1.1\r\nCookie: a=1\r\nCookie: b=2\r\n" + CLOSE + b"\r\n")
    assert b"\nHTTP_COOKIE=a=1; b=2\n" in said


def test_a_body_in_chunks_has_the_length_that_it_has(port: int) -> None:
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + CLOSE + b"\r\n"
    said = say(port, head, b"3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n", pause=0.02)
    assert b"\nCONTENT_LENGTH=5\n" in said and b"\nlength=5\nsum=495" in said


def test_requests_sent_at_once_are_answered_in_their_order(port: int) -> None:
    one, two = (b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n" % number for number in (1, 2))
    said = say(port, one + b"\r\nab" + two + b"Connection: close\r\n\r\ncd")
    assert said.count(b"HTTP/1.1 200 OK") == 2
    assert said.index(b"PATH_INFO=/1") < said.index(b"sum=195") < said.index(b"PATH_INFO=/2") < said.index(b"sum=199")


def test_who_expects_100_hears_it_before_the_body_is_sent(port: int) -> None:
    """RFC 9110 §10.1.1."""
    with connect(port) as one:
        one.sendall(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n" + CLOSE + b"\r\n")
        assert one.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        one.sendall(b"a")
        assert b"sum=97" in one.recv(65536)


def test_head_is_answered_without_a_body(port: int) -> None:
    """RFC 9110 §9.3.2."""
    said = say(port, b"HEAD / HTTP/1.1\r\n" + CLOSE + b"\r\n")
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK") and b"content-length: 1" in head and not body


@pytest.mark.parametrize("name", [b"h2c", b"websocket"])
@pytest.mark.parametrize("pause", [0.0, 0.02])
def test_who_offers_another_protocol_is_answered_in_this_one(port: int, name: bytes, pause: float) -> None:
    """RFC 9110 §7.8: Java's client sends this with every request to an http URL."""
    head = b"POST /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: " + name + b"\r\n"
    first = head + b"Content-Length: 3\r\n\r\n"
    last = b"GET /last HTTP/1.1\r\n" + CLOSE + b"\r\n"
    said = say(port, first, b"abc" + last, pause=pause)
    assert b"\nPATH_INFO=/x\n" in said and b"\nlength=3\nsum=294" in said and b"\nPATH_INFO=/last\n" in said


TAKES_DOCUMENTS = (b"/t/acme/resources/new/api/", b"/operator/catalogue/new/", b"/api/v1/tenants/acme/resources")


@pytest.mark.parametrize(
    ("path", "most"),
    [
        *((path, threads.LARGEST_DOCUMENT) for path in TAKES_DOCUMENTS),
        *((path, threads.LARGEST_BODY) for path in (b"/", b"/t/acme/agents/", b"/api/v1/tenants/acme/agents")),
    ],
)
def test_a_large_body_arrives_whole_and_a_larger_one_is_not_even_awaited(port: int, path: bytes, most: int) -> None:
    body = (bytes(range(256)) * (most // 256 + 1))[:most]
    head = b"POST " + path + b" HTTP/1.1\r\n" + CLOSE
    assert b"\nlength=%d\nsum=%d" % (most, sum(body)) in say(port, head + b"Content-Length: %d\r\n\r\n" % most + body)
    assert say(port, head + b"Content-Length: %d\r\n\r\n" % (most + 1)).startswith(b"HTTP/1.1 413 ")
    with connect(port) as one:  # who does not say it is heard until it is too much
        one.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n" + b"%x\r\n" % (most + 2) + body + b"x")
        assert one.recv(1000).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("path", [b"/t/acme/oauth/token", b"/oauth/par"])
def test_an_endpoint_that_refuses_by_length_is_told_how_long_it_was_and_reads_nothing(port: int, path: bytes) -> None:
    most = threads.LARGEST_BODY
    head = b"POST " + path + b" HTTP/1.1\r\nHost: a\r\n"
    for framed in (
        b"Content-Length: %d\r\n\r\n" % (most + 1),
        b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % (most + 2) + b"x" * (most + 1),
    ):
        said = say(port, head + framed)  # it ends the connection: nobody waits for the rest
        assert b"CONTENT_LENGTH=%d\n" % (most + 1) in said and b"\nlength=0\n" in said
        assert b"\r\nconnection: close\r\n" in said


def test_those_who_take_documents_are_the_real_ones() -> None:
    for path in TAKES_DOCUMENTS:
        assert resolve(path.decode())


def test_who_sends_slowly_holds_no_thread() -> None:
    with serving(echo, 1) as port, connect(port) as slow:
        slow.sendall(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n" + CLOSE + b"\r\na")
        assert b"sum=97" in say(port, b"POST / HTTP/1.1\r\nContent-Length: 1\r\n" + CLOSE + b"\r\na")
        slow.sendall(b"b")
        assert b"sum=195" in slow.recv(65536)


def test_who_reads_a_file_slowly_holds_no_thread_and_it_is_closed_at_the_end() -> None:
    size = 30_000_000
    files: list[BytesIO] = []

    def application(environ: Environ, start: Callable[..., Any]) -> Any:
        if environ["PATH_INFO"] != "/file":
            return echo(environ, start)
        start("200 OK", [("Content-Length", str(size))])
        files.append(BytesIO(bytes(size)))
        return environ["wsgi.file_wrapper"](files[-1], 4096)

    with serving(application, 1) as port, connect(port) as slow, connect(port) as leaves:
        for one in (slow, leaves):
            one.sendall(b"GET /file HTTP/1.1\r\n" + CLOSE + b"\r\n")
        assert b"sum=0" in say(port, b"GET / HTTP/1.1\r\n" + CLOSE + b"\r\n")
        found = 0
        while piece := slow.recv(1 << 20):
            found += len(piece)
        assert size < found < size + 500
        leaves.close()
        await_true(lambda: len(files) == 2 and all(file.closed for file in files))


def test_a_small_file_is_sent_and_closed() -> None:
    files: list[BytesIO] = []

    def application(environ: Environ, start: Callable[..., Any]) -> Any:
        size = int(environ["PATH_INFO"][1:])
        start("200 OK", [("Content-Length", str(size))])
        files.append(BytesIO(b"x" * size))
        return environ["wsgi.file_wrapper"](files[-1], 4096)

    with serving(application) as port:
        for size in (0, 1, threads._PIECE - 1, threads._PIECE, threads._PIECE + 1):
            said = say(port, b"GET /%d HTTP/1.1\r\n" % size + CLOSE + b"\r\n")
            assert said.partition(b"\r\n\r\n")[2] == b"x" * size
            await_true(lambda: files[-1].closed)


def test_a_stream_goes_out_as_it_is_made_and_ends_when_nobody_reads() -> None:
    goes_on, ended = threading.Event(), threading.Event()

    class Stream:
        streaming = True

        def __iter__(self) -> Iterator[bytes]:
            yield b"one"
            goes_on.wait(10)
            while True:
                yield b"more" * 1000

        def close(self) -> None:
            ended.set()

    def application(environ: Environ, start: Callable[..., Any]) -> Any:
        start("200 OK", [("Content-Type", "text/plain")])
        return Stream()

    with serving(application) as port:
        with connect(port) as one:
            one.sendall(b"GET / HTTP/1.1\r\n" + CLOSE + b"\r\n")
            found = b""
            while b"one" not in found:
                found += one.recv(1000)
        goes_on.set()
        assert ended.wait(10)


def test_who_does_not_say_what_they_want_is_not_waited_for(port: int) -> None:
    """RFC 9110 §15.5.9."""
    with mock.patch.object(protocol, "HEAD_SECONDS", 0.2), mock.patch.object(protocol, "REQUEST_SECONDS", 0.2):
        told = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        for sent in (b"", b"GET / HTTP/1.1\r\nHost:", b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET"):
            assert say(port, sent).endswith(told)
        begun = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na"
        assert say(port, begun) == told


@pytest.mark.parametrize(
    "hosts",
    [
        b"",
        b"Host:\r\n",
        b"Host: a\r\nhost: a\r\n",
        b"Host: a b\r\n",
        b"Host: a/b\r\n",
        b"Host: u@a\r\n",
        b"Host: a:b\r\n",
        b"Host: [a\r\n",
    ],
    ids=repr,
)
@pytest.mark.parametrize("more", [b"", b"Upgrade: h2c\r\nConnection: Upgrade\r\n"], ids=["plain", "h2c"])
def test_without_one_good_host_nothing_is_answered(port: int, hosts: bytes, more: bytes) -> None:
    """RFC 9112 §3.2."""
    said = say(port, b"GET / HTTP/1.1\r\n" + hosts + more + b"\r\n")
    assert said == b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


@pytest.mark.parametrize("host", [b"a", b"a_b.example:8000", b"127.0.0.1", b"[::1]:8000", b"a:"])
def test_a_good_host_is_answered(port: int, host: bytes) -> None:
    said = say(port, b"GET / HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 200 ")


def test_the_old_http_may_go_without_a_host_but_not_with_two(port: int) -> None:
    assert say(port, b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    assert say(port, b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_a_head_without_end_is_refused(port: int) -> None:
    """RFC 6585 §5."""
    with connect(port) as one:
        one.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 40_000)
        time.sleep(0.05)
        one.sendall(b"x" * 30_000)
        assert one.recv(1000).startswith(b"HTTP/1.1 431 ")


def test_what_is_not_http_is_refused(port: int) -> None:
    assert say(port, b"\x16\x03\x01\x02\x00").startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "framed",
    [
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
        b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    ],
    ids=repr,
)
def test_a_body_that_cannot_be_framed_is_refused(port: int, framed: bytes) -> None:
    """RFC 9112 §7.1, §6.3."""
    assert say(port, b"POST / HTTP/1.1\r\nHost: a\r\n" + framed).startswith(b"HTTP/1.1 400 ")


def test_what_is_wrong_after_a_request_is_not_its_answer(port: int) -> None:
    said = say(port, b"GET /first HTTP/1.1\r\nHost: a\r\n\r\nnonsense\r\n\r\n")
    assert said == b"" or said.startswith(b"HTTP/1.1 200 ")


def test_a_failure_is_a_500_that_says_nothing_and_the_next_request_is_well(caplog: pytest.LogCaptureFixture) -> None:
    def application(environ: Environ, start: Callable[..., Any]) -> Any:
        if environ["PATH_INFO"] == "/fails":
            raise ValueError("what was secret")
        return echo(environ, start)

    with serving(application) as port:
        said = say(port, b"GET /fails HTTP/1.1\r\n" + CLOSE + b"\r\n")
        assert said.startswith(b"HTTP/1.1 500 ") and b"secret" not in said
        assert b"200 OK" in say(port, b"GET / HTTP/1.1\r\n" + CLOSE + b"\r\n")
    assert any(record.levelname == "ERROR" for record in caplog.records)


def test_who_would_wait_too_long_for_a_thread_is_told_to_come_again() -> None:
    go_on = threading.Event()

    def application(environ: Environ, start: Callable[..., Any]) -> Any:
        go_on.wait(10)
        return echo(environ, start)

    asked = b"GET / HTTP/1.1\r\n" + CLOSE + b"\r\n"
    with mock.patch.object(threads, "LONGEST_WAIT", 0.2), serving(application, 1) as port, connect(port) as first:
        first.sendall(asked)
        said = say(port, asked)
        assert said.startswith(b"HTTP/1.1 503 ") and b"\r\nretry-after: 1\r\n" in said
        go_on.set()
        assert first.recv(65536).startswith(b"HTTP/1.1 200 ")


def await_true(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
