"""A server that answers slowly holds up few of us, whoever named it."""

from __future__ import annotations

import threading

import pytest

from agentauth.oauth import client_keys
from agentauth.oauth.errors import TemporarilyUnavailable
from agentauth.oauth.kept import Kept, Unreadable
from agentauth.outbound.crowd import OUTSIDE, WAITING, place_outside
from agentauth.outbound.fetch import Fetched, FetchFailed
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
