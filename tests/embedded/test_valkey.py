"""The embedded Valkey: a socket for us only, no TCP, and back after kill -9."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from agentauth.embedded import valkey
from agentauth.embedded.lifeline import ServerUnavailable, is_alive
from agentauth.embedded.valkey import Server


@pytest.fixture
def server(reachable_folder: Path) -> Iterator[Server]:
    made = Server(reachable_folder / "valkey")
    yield made
    made.stop()


def test_it_listens_on_a_socket_for_us_only(server: Server) -> None:
    server.ensure()
    with redis.Redis(unix_socket_path=str(server.socket_path)) as client:
        assert client.config_get("port") == {"port": "0"} or client.config_get("port") == {b"port": b"0"}
    assert stat.S_IMODE(server.socket_path.stat().st_mode) == 0o700


def test_it_comes_back_after_kill_9(server: Server) -> None:
    server.ensure()
    killed = server.pid()
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    server.ensure()
    assert server.pid() not in (None, killed)


def test_stopping_stops_and_stopping_again_is_fine(server: Server) -> None:
    server.ensure()
    pid = server.pid()
    assert pid is not None
    server.stop()
    assert not is_alive(pid)
    server.stop()


def test_without_any_valkey_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setattr("shutil.which", lambda _name: None)
    with pytest.raises(ServerUnavailable, match="set REDIS_URL"):
        valkey.find_binary()
