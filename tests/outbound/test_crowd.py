"""A server that answers slowly holds up few of us, whoever named it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from agentauth.oauth import client_keys
from agentauth.oauth.errors import TemporarilyUnavailable
from agentauth.oauth.kept import Kept, Unreadable
from agentauth.oauth.trust import keys
from agentauth.outbound import fetch
from agentauth.outbound.crowd import OUTSIDE, WAITING, place_outside
from agentauth.outbound.fetch import Fetched, FetchFailed
from agentauth.resources import importing, mcp_tools
from agentauth.web.threads import THREADS

SLOW = "https://slow.example/jwks"


def test_most_threads_stay_at_home() -> None:
    assert OUTSIDE + WAITING < THREADS


def test_who_finds_no_place_is_sent_away_soon_and_places_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that registered itself names where its keys are, and anybody may then ask for a token as that client."""
    went, over = threading.Semaphore(0), threading.Event()

    def never(*_: object, **__: object) -> Fetched:
        went.release()
        over.wait(30)
        raise FetchFailed("it took too long")

    monkeypatch.setattr(client_keys, "fetch", never)
    refused: list[str] = []

    def ask() -> None:
        try:
            client_keys.keys_at(SLOW, wanted=None)
        except Exception as why:
            refused.append(type(why).__name__)

    out = [threading.Thread(target=ask) for _ in range(OUTSIDE)]
    for one in out:
        one.start()
    assert all(went.acquire(timeout=10) for _ in out)
    with pytest.raises(TemporarilyUnavailable):  # 503: the client may be all right
        client_keys.keys_at(SLOW, wanted=None)
    with pytest.raises(Unreadable):
        Kept(lambda _, document: document).get("https://issuer.example/keys")
    over.set()
    for one in out:
        one.join(10)
    assert refused == ["InvalidClient"] * OUTSIDE
    with place_outside() as placed:
        assert placed


@pytest.fixture
def full() -> Iterator[None]:
    """Others are out already."""
    with ExitStack() as out:
        for _ in range(OUTSIDE):
            assert out.enter_context(place_outside())
        yield


ADMINS_ASK: dict[str, Callable[[], object]] = {
    "a document": lambda: importing.fetch_openapi(SLOW),
    "an MCP server": lambda: mcp_tools.read(SLOW),
    "an issuer": lambda: keys.published("https://slow.example"),
    "a key set": lambda: keys.published_at(SLOW),
}


@pytest.mark.parametrize("what", ADMINS_ASK)
def test_an_admin_finds_no_place_either_and_is_told(full: None, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_connect", lambda *_: pytest.fail("went out"))
    with pytest.raises((FetchFailed, Unreadable), match="Too many others"):
        ADMINS_ASK[what]()
