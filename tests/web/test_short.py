"""The short way through the server: what the application can say at once, and everything that goes another way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from agentauth.web.proxied import Proxied
from agentauth.web.short import Short
from tests.web.test_server import CLOSE, Application, connect, echo, say, serving


@dataclass
class Said:
    content: bytes
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ((b"content-type", b"text/plain"), (b"cache-control", b"no-store"))


class Due:
    def __init__(self) -> None:
        self.tell: Callable[[Any], None]


class Knowing(Application):
    """Says at once what is asked of /now, soon what is asked of /soon, and of /not-after-all that it cannot."""

    due: list[tuple[Due, bytes]]

    def __init__(self, behind: Any) -> None:
        super().__init__(behind)
        Knowing.due = self.due = []
        Knowing.last = self

    def at_once(self, target: bytes, headers: Any, body: bytes, ip: str) -> Any:
        self.asked.append(target)
        if target == b"/now":
            return Said(b"now " + body + b" " + ip.encode())
        if target == b"/fails":
            raise RuntimeError("a defect")
        if target not in (b"/soon", b"/not-after-all", b"/late"):
            return None
        later = Due()
        loop = asyncio.get_running_loop()
        if target == b"/late":
            self.due.append((later, body))
        else:
            said = Said(b"soon " + body) if target == b"/soon" else None
            loop.call_later(0.02, lambda: later.tell(said))
        return later

    last: Knowing


@pytest.fixture
def port() -> Iterator[int]:
    with serving(echo, http=Short, front=Knowing) as port:
        yield port


def post(path: bytes, body: bytes, more: bytes = b"Host: a\r\n") -> bytes:
    return b"POST %b HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b" % (path, more, len(body), body)


GOODBYE = b"GET /goodbye HTTP/1.1\r\n" + CLOSE + b"\r\n"


def parts(found: bytes) -> list[bytes]:
    """What was said, answer by answer."""
    heads = found.split(b"HTTP/1.1 ")[1:]
    assert all(head.startswith(b"200") for head in heads), found
    return [head.partition(b"\r\n\r\n")[2] for head in heads]


def test_an_answer_at_once_is_a_whole_answer(port: int) -> None:
    found = say(port, post(b"/now", b"one") + GOODBYE)
    head, _, rest = found.partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 200 OK", b"content-type: text/plain", b"cache-control: no-store", b"content-length: 17"
    ]  # fmt: skip
    assert rest.startswith(b"now one 127.0.0.1HTTP/1.1 200") and b"PATH_INFO=/goodbye" in rest


@pytest.mark.parametrize("path", [b"/now", b"/soon"])
def test_a_body_in_pieces_is_put_together(port: int, path: bytes) -> None:
    whole = post(path, b"abcdef")
    found = say(port, whole[:20], whole[20:-3], whole[-3:] + GOODBYE, pause=0.02)
    assert parts(found)[0].startswith(path[1:] + b" abcdef")


def test_who_sends_all_at_once_is_answered_in_order(port: int) -> None:
    """Also while an answer is due: nobody overtakes it."""
    sent = [b"/soon", b"/now", b"/not-after-all", b"/now", b"/other", b"/soon", b"/soon"]
    bodies = parts(say(port, b"".join(post(path, b"%d" % n) for n, path in enumerate(sent)) + GOODBYE))
    assert len(bodies) == len(sent) + 1
    for n, (path, body) in enumerate(zip(sent, bodies, strict=False)):
        assert b"PATH_INFO=%b" % path in body or body.startswith(b"%b %d" % (path[1:], n)), body
    assert b"PATH_INFO=/goodbye" in bodies[-1] and b"PATH_INFO=/not-after-all" in bodies[2]


def test_what_cannot_be_said_after_all_is_asked_the_ordinary_way_with_its_body(port: int) -> None:
    bodies = parts(say(port, post(b"/not-after-all", b"0123456789") + GOODBYE))
    assert b"PATH_INFO=/not-after-all" in bodies[0] and b"length=10\nsum=525" in bodies[0]


def test_a_defect_in_the_short_way_costs_nobody_an_answer(port: int, caplog: pytest.LogCaptureFixture) -> None:
    bodies = parts(say(port, post(b"/fails", b"x") + GOODBYE))
    assert b"PATH_INFO=/fails" in bodies[0] and "a defect" in caplog.text


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (post(b"/now", b"x", CLOSE), "it closes afterwards"),
        (b"POST /now HTTP/1.0\r\nContent-Length: 1\r\n\r\nx", "an older HTTP"),
        (post(b"/now", b"x", CLOSE + b"Expect: 100-continue\r\n"), "it waits to be told to go on"),
        (post(b"/now", b"x", CLOSE + b"Upgrade: h2c\r\n"), "it would rather speak something else"),
        (b"GET /now HTTP/1.1\r\n" + CLOSE + b"\r\n", "it is not taken"),
    ],
)  # fmt: skip
def test_what_is_not_plain_goes_the_ordinary_way(port: int, request_: bytes, why: str) -> None:
    assert b"PATH_INFO=/now" in say(port, request_), why
    assert Knowing.last.asked == [], why


def test_without_a_good_host_nothing_is_asked(port: int) -> None:
    assert say(port, post(b"/now", b"x", b"")).startswith(b"HTTP/1.1 400")
    assert Knowing.last.asked == []


@pytest.mark.parametrize(
    ("forwarded", "ip"),
    [
        (b"", b"127.0.0.1"),
        (b"X-Forwarded-For: 203.0.113.9, 198.51.100.7\r\n", b"198.51.100.7"),
        (b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-For: 198.51.100.7, 127.0.0.1\r\n", b"198.51.100.7"),
    ],
)
def test_a_proxy_that_the_operator_named_says_who_called(forwarded: bytes, ip: bytes) -> None:
    with serving(echo, http=Short, front=lambda behind: Proxied(Knowing(behind), ["127.0.0.1"])) as port:
        asks = b"Host: a\r\n" + forwarded
        bodies = parts(say(port, post(b"/now", b"x", asks) + post(b"/other", b"x", asks) + GOODBYE))
        assert bodies[0] == b"now x " + ip and b"REMOTE_ADDR=" + ip in bodies[1]


def test_nobody_else_says_who_called(port: int) -> None:
    forwarded = b"Host: a\r\nX-Forwarded-For: 203.0.113.9\r\n"
    assert parts(say(port, post(b"/now", b"x", forwarded) + GOODBYE))[0] == b"now x 127.0.0.1"


def test_who_goes_away_before_the_answer_leaves_nothing_behind(port: int) -> None:
    with connect(port) as one:
        one.sendall(post(b"/late", b"x"))
        while not Knowing.due:
            assert b"PATH_INFO" in say(port, GOODBYE)  # the loop goes on
    assert parts(say(port, post(b"/now", b"y") + GOODBYE))[0].startswith(b"now y")
    later, _ = Knowing.due[0]
    later.tell(Said(b"too late"))
    later.tell(None)
    assert parts(say(port, post(b"/now", b"z") + GOODBYE))[0].startswith(b"now z")


def test_many_at_once_get_each_their_own(port: int) -> None:
    found: dict[int, list[bytes]] = {}

    def one(n: int) -> None:
        with connect(port) as here:
            for k in range(5):
                here.sendall(post(b"/soon", b"%d-%d" % (n, k)))
                found.setdefault(n, []).append(here.recv(65536))

    threads = [threading.Thread(target=one, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    for n, said in found.items():
        assert parts(b"".join(said)) == [b"soon %d-%d" % (n, k) for k in range(5)]
    assert len(found) == 16
