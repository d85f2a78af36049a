"""A busy port gives way to the next free one, said aloud; what the operator has set wins."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from agentauth.embedded import ports


@pytest.fixture
def first(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Three ports in a row that are free, wanted for console, gateway and office."""
    monkeypatch.setattr(ports, "_claimed", None)
    for name in ("AGENTAUTH_BASE_URL", "AGENTAUTH_GATEWAY_URL", "AGENTAUTH_OFFICE_URL"):
        monkeypatch.setenv(name, "")  # so that it is put back afterwards
        monkeypatch.delenv(name)
    start = _free_row()
    for offset, name in enumerate(("PORT", "GATEWAY_PORT", "OFFICE_PORT")):
        monkeypatch.setenv(name, str(start + offset))
    yield start
    if ports._claimed is not None:
        ports._claimed.gateway_socket.close()


def test_free_ports_are_taken_as_wished_without_a_word(first: int) -> None:
    claimed = ports.claim()
    assert (claimed.web, claimed.gateway, claimed.office, claimed.notes) == (first, first + 1, first + 2, ())
    assert os.environ["AGENTAUTH_BASE_URL"] == f"http://localhost:{first}"
    assert os.environ["AGENTAUTH_GATEWAY_URL"] == f"http://localhost:{first + 1}"


def test_a_busy_port_gives_way_to_the_next_free_one_and_says_so(first: int) -> None:
    with socket.create_server(("127.0.0.1", first)):
        claimed = ports.claim()
    assert claimed.web > first + 2  # the two in between are wanted by gateway and office
    assert claimed.notes == (f"Port {first} is busy: the console takes {claimed.web}.",)
    assert os.environ["AGENTAUTH_BASE_URL"] == f"http://localhost:{claimed.web}"


def test_the_gateways_socket_is_open_from_the_start(first: int) -> None:
    claimed = ports.claim()
    with socket.create_connection(("127.0.0.1", claimed.gateway), timeout=2):
        pass  # queued until a worker takes it


def test_an_address_that_the_operator_set_wins(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTAUTH_BASE_URL", "https://auth.example.com")
    ports.claim()
    assert os.environ["AGENTAUTH_BASE_URL"] == "https://auth.example.com"


@pytest.mark.parametrize("text", ["http", "0", "70000", "-1", "80 81"])
def test_a_port_that_is_none_is_refused(first: int, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_PORT", text)
    with pytest.raises(ports.NoFreePort, match="GATEWAY_PORT"):
        ports.claim()


def test_an_address_that_is_not_ours_is_refused(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTAUTH_BIND", "192.0.2.1")
    with pytest.raises(ports.NoFreePort, match="AGENTAUTH_BIND"):
        ports.claim()


def _free_row() -> int:
    for start in range(21000 + os.getpid() % 5000 * 4, 60000, 4):
        try:
            for port in range(start, start + 3):
                socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return start
    raise AssertionError("no three free ports in a row")
