"""Whatever a tenant writes as an address: nothing inside is reached, by the fetcher or by the gateway's connector."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from agentauth import settings
from agentauth.outbound.addresses import FetchRefused, check, is_allowed, read_url
from agentauth.outbound.connector import check_url, open_session
from agentauth.outbound.fetch import fetch, resolve_checked

CORPUS: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "corpora" / "ssrf.json").read_text())
PUBLIC = "93.184.216.34"


class Sink:
    """Listens on both loopbacks under one port and counts who connects; nobody should."""

    def __init__(self) -> None:
        self.visits = 0
        self._listeners = [socket.create_server(("127.0.0.1", 0))]
        self.port = int(self._listeners[0].getsockname()[1])
        if socket.has_ipv6:
            try:
                self._listeners.append(socket.create_server(("::1", self.port), family=socket.AF_INET6))
            except OSError:
                pass  # a machine without IPv6
        for listener in self._listeners:
            threading.Thread(target=self._count, args=(listener,), daemon=True).start()

    def _count(self, listener: socket.socket) -> None:
        while True:
            try:
                visitor, _ = listener.accept()
            except OSError:
                return
            self.visits += 1
            visitor.close()

    def close(self) -> None:
        for listener in self._listeners:
            listener.close()


@pytest.fixture
def sink() -> Iterator[Sink]:
    found = Sink()
    yield found
    found.close()


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Names resolve as the corpus says; public.example is public; numbers as the system reads them."""
    known = {"public.example": [PUBLIC]}
    genuine = socket.getaddrinfo

    def resolve(host: Any, port: Any, *args: Any, **kwargs: Any) -> list[Any]:
        name = host.decode() if isinstance(host, bytes) else str(host)
        addresses = known.get(name.lower().rstrip("."))
        if addresses is None:
            return genuine(host, port, *args, **kwargs)
        return [_row(address, int(port or 0)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return known


def _row(address: str, port: int) -> Any:
    ip = address.partition("%")[0]
    if ":" in address:
        return (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (ip, port, 0, 2 if "%" in address else 0))
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port))


def test_the_corpus_is_large_enough():
    assert len(CORPUS) >= 100


@pytest.mark.parametrize("entry", CORPUS, ids=[f"{entry['kind']}-{at}" for at, entry in enumerate(CORPUS)])
async def test_no_address_of_the_corpus_is_connected_to(
    entry: dict[str, Any], sink: Sink, names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
):
    url = entry["url"].replace("{port}", str(sink.port))
    if "resolves" in entry:
        host = url.split("/")[2].rsplit(":", 1)[0].lower().rstrip(".")
        names[host] = entry["resolves"]
    attempts: list[Any] = []
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: attempts.append(address))

    with pytest.raises(FetchRefused) as refused:
        fetch(url, timeout=2)
    assert refused.value.reason.endswith(".") and "\n" not in refused.value.reason

    # The gateway's way: even if the URL were not looked at first, the connector connects to nothing inside.
    async with open_session(timeout=aiohttp.ClientTimeout(total=2)) as session:
        try:
            async with session.get(url, allow_redirects=False) as answer:
                pytest.fail(f"answered {answer.status}")
        except (FetchRefused, aiohttp.ClientError, ValueError, TimeoutError, AssertionError):
            pass
    inside = [address for address in attempts if address[0] != PUBLIC]
    assert (inside, sink.visits) == ([], 0)


def test_a_name_that_changes_its_mind_is_connected_where_it_was_checked(sink: Sink, monkeypatch: pytest.MonkeyPatch):
    answers = iter([PUBLIC, "127.0.0.1", "127.0.0.1", "127.0.0.1"])
    connected: list[Any] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [_row(next(answers), sink.port)])

    def connect(_: socket.socket, address: Any) -> None:
        connected.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", connect)
    with pytest.raises(Exception, match="cannot be reached"):
        fetch(f"http://rebind.example:{sink.port}/", timeout=2)
    assert connected == [(PUBLIC, sink.port)]


async def test_the_connector_looks_at_the_address_that_it_connects_to(sink: Sink):
    """Past the resolver: an address written as a number never asks it."""
    async with open_session() as session:
        with pytest.raises(FetchRefused):
            await session.get(f"http://127.0.0.1:{sink.port}/")
    assert sink.visits == 0


def test_of_several_addresses_only_the_public_ones_are_used(names: dict[str, list[str]]):
    names["mixed.example"] = ["10.0.0.1", PUBLIC, "fe80::1"]
    assert resolve_checked("http://mixed.example/") == [PUBLIC]


def test_public_addresses_pass():
    for url in (
        "http://public.example/",
        "https://public.example:8443/a?b=c",
        "http://8.8.8.8/",
        "http://[2606:4700::1]/",
    ):
        assert resolve_checked(url)


def test_what_the_operator_allows_is_allowed_with_its_port_only(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(settings.KNOBS, "allowed_hosts_outbound", ["inner.example:8443", "whole.example", "[::1]:81"])
    for host, port, expected in (
        ("inner.example", 8443, True),
        ("inner.example", 443, False),
        ("whole.example", 1, True),
        ("sub.whole.example", 443, False),
        ("::1", 81, True),
        ("::1", 80, False),
    ):
        assert is_allowed(host, port, settings.KNOBS.allowed_hosts_outbound) is expected
    check("inner.example", "10.0.0.1", port=8443, allowed=settings.KNOBS.allowed_hosts_outbound)
    with pytest.raises(FetchRefused, match="Only the operator"):
        check("inner.example", "10.0.0.1", port=443, allowed=settings.KNOBS.allowed_hosts_outbound)


def test_the_demos_office_is_allowed_in_the_demo_only(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(settings.KNOBS, "office_url", "http://localhost:8002")
    assert resolve_checked("http://localhost:8002/rooms")
    with pytest.raises(FetchRefused):
        resolve_checked("http://localhost:8003/rooms")
    monkeypatch.setattr(settings.KNOBS, "mode", "production")
    with pytest.raises(FetchRefused):
        resolve_checked("https://localhost:8002/rooms")


def test_production_speaks_https_only(monkeypatch: pytest.MonkeyPatch):
    assert check_url("http://public.example/").scheme == "http"
    monkeypatch.setattr(settings.KNOBS, "mode", "production")
    with pytest.raises(FetchRefused, match="https"):
        check_url("http://public.example/")
    monkeypatch.setattr(settings.KNOBS, "allowed_hosts_outbound", ["public.example"])
    assert check_url("http://public.example/").scheme == "http"


def test_a_destination_tells_origin_and_target():
    destination = read_url("https://Public.Example.:8443/a/b?c=d")
    assert (destination.host, destination.origin) == ("public.example", "https://public.example:8443")
    assert destination.target == "/a/b?c=d"
    assert read_url("https://public.example").origin == "https://public.example"
    assert read_url("http://[2606:4700::1]:80/").origin == "http://[2606:4700::1]"
