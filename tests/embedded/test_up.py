"""`manage.py up` as a whole, on real embedded servers: first start, crash, recovery, and a stop that leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from agentauth.embedded.lifeline import is_alive
from agentauth.embedded.paths import APP_ROLE, DATABASE, OWNER_ROLE
from tests.database import CHECKOUT, TestServer
from tests.stack import Stack

pytestmark = [pytest.mark.flow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def machine(postgres_server: TestServer) -> Iterator[Stack]:
    """Everything with the embedded servers, from an empty home."""
    made = Stack(postgres_server, "unused")
    for name in ("DATABASE_URL", "AGENTAUTH_DATABASE_APP_URL", "AGENTAUTH_DATABASE_SEQUENCER_URL"):
        del made.environ[name]
    made.database_dsn = f"host='{made.home}/run/pg' dbname={DATABASE} user=postgres"
    made.start()
    yield made
    made.stop()


def test_the_first_start_ends_with_addresses_cast_and_sign_in_links(machine: Stack) -> None:
    said = machine.output()
    for promised in (machine.base_url, machine.gateway_url, "Ada", "Matt", "Cora", "/sign-in/", "Ctrl-C stops"):
        assert promised in said
    assert machine.get("/readyz")[0] == 200
    assert machine.get(f"{machine.gateway_url}/readyz")[0] == 200


def test_requests_are_served_by_a_role_that_owns_nothing(machine: Stack) -> None:
    with psycopg.connect(f"host='{machine.home}/run/pg' dbname={DATABASE} user={APP_ROLE}") as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("CREATE TABLE mine ()")
        connection.rollback()
        owners = connection.execute("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert owners == [(OWNER_ROLE,)]


def test_a_second_start_on_the_same_home_says_who_runs(machine: Stack) -> None:
    second = subprocess.run(
        [sys.executable, "manage.py", "up"],
        cwd=CHECKOUT,
        env=machine.environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert second.returncode == 1
    assert "already runs" in second.stderr
    assert machine.base_url in second.stderr
    assert "is busy" not in second.stdout


@pytest.mark.parametrize("name", ["gateway-1", "web", "worker", "sequencer", "beat"])
def test_what_is_killed_is_healed_while_the_rest_goes_on(machine: Stack, name: str) -> None:
    other = machine.process("gateway-2")
    dead = machine.process(name)
    dead.kill()
    machine.await_restart(dead)
    assert machine.process("gateway-2") == other
    _until(lambda: _answers(machine), 30)
    assert f"{name} was killed (SIGKILL)" in machine.output()


def test_a_killed_postgresql_comes_back_with_what_was_committed(machine: Stack) -> None:
    machine.sql("CREATE TABLE IF NOT EXISTS kept AS SELECT 7 AS value")
    os.kill(_postmaster(machine), signal.SIGKILL)
    _until(lambda: "PostgreSQL has died" in machine.output() and _answers(machine), 60)
    assert machine.sql("SELECT value FROM kept") == [(7,)]


def test_a_killed_supervisor_takes_all_with_it_and_the_next_start_recovers(machine: Stack) -> None:
    machine.sql("CREATE TABLE IF NOT EXISTS kept AS SELECT 7 AS value")
    everyone = [*_pids(machine), _postmaster(machine)]
    assert machine._process is not None
    machine._process.kill()
    machine._process.wait()
    _until(lambda: not any(map(is_alive, everyone)), 20)
    machine.start()
    assert _answers(machine)
    assert machine.sql("SELECT value FROM kept") == [(7,)]


def test_killing_everything_at_once_loses_nothing(machine: Stack) -> None:
    machine.sql("CREATE TABLE IF NOT EXISTS kept AS SELECT 7 AS value")
    assert machine._process is not None
    for pid in (machine._process.pid, *_pids(machine), _postmaster(machine)):
        os.kill(pid, signal.SIGKILL)
    machine._process.wait()
    machine.start()
    assert _answers(machine)
    assert machine.sql("SELECT value FROM kept") == [(7,)]


def test_stopping_leaves_no_process_behind(machine: Stack) -> None:
    everyone = [*_pids(machine), _postmaster(machine)]
    assert machine._process is not None
    machine._process.send_signal(signal.SIGTERM)
    assert machine._process.wait(60) == 0
    assert not any(map(is_alive, everyone))
    assert not (machine.home / "up.json").exists()
    assert "Stopped." in machine.output()


def _pids(machine: Stack) -> list[int]:
    return [pid for pid in machine._state()["programs"].values() if pid is not None]


def _postmaster(machine: Stack) -> int:
    pid_file: Path = machine.home / "postgres" / "data" / "postmaster.pid"
    return int(pid_file.read_text().splitlines()[0])


def _answers(machine: Stack) -> bool:
    try:
        machine.sql("SELECT 1")
        return all(machine.get(f"{origin}/readyz")[0] == 200 for origin in (machine.base_url, machine.gateway_url))
    except (OSError, psycopg.OperationalError):
        return False


def _until(is_so: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)
