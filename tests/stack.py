"""The real thing for flows and browsers: `manage.py up` as a process of its own, on a database clone of its own."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from agentauth.embedded import paths
from agentauth.embedded.lifeline import die_with_parent, is_alive
from tests.database import CHECKOUT, TestServer

_START_LIMIT = 120.0


@dataclass(frozen=True)
class Process:
    """One process of the stack, as it was when asked for."""

    name: str
    pid: int

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        deadline = time.monotonic() + 10
        while is_alive(self.pid):
            assert time.monotonic() < deadline, f"{self.name} ({self.pid}) does not die"
            time.sleep(0.01)

    def signal(self, number: signal.Signals) -> None:
        """Any other signal: SIGSTOP and SIGCONT make it hang and go on."""
        os.kill(self.pid, number)


class Stack:
    """Console, gateway, sequencer, worker, clock and the demo's office, with the demo's people signed up."""

    def __init__(self, server: TestServer, database: str, *, environ: dict[str, str] | None = None) -> None:
        self.demo_password = secrets.token_urlsafe(12)
        self.home = Path(tempfile.mkdtemp(prefix="agentauth-stack-"))
        self.home.chmod(0o711 if os.geteuid() == 0 else 0o700)
        self.database_dsn = server.cluster.dsn(database)
        web, gateway, office = _free_ports(3)
        host = server.cluster.socket_dir
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AGENTAUTH_")},
            "AGENTAUTH_HOME": str(self.home),
            "AGENTAUTH_DEMO_PASSWORD": self.demo_password,
            # Upstreams that a test starts itself live on loopback.
            "AGENTAUTH_ALLOWED_HOSTS_OUTBOUND": "127.0.0.1,localhost",
            "DATABASE_URL": f"postgresql://{paths.OWNER_ROLE}@/{database}?host={host}",
            "AGENTAUTH_DATABASE_APP_URL": f"postgresql://{paths.APP_ROLE}@/{database}?host={host}",
            "AGENTAUTH_DATABASE_SEQUENCER_URL": f"postgresql://{paths.SEQUENCER_ROLE}@/{database}?host={host}",
            "PORT": str(web),
            "GATEWAY_PORT": str(gateway),
            "OFFICE_PORT": str(office),
            **(environ or {}),
        }
        self.base_url = self.gateway_url = ""
        self._output = self.home / "up.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it is ready."""
        parent = os.getpid()
        with open(self._output, "wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, str(CHECKOUT / "manage.py"), "up"],
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(parent, signal.SIGTERM),  # noqa: PLW1509  # one thread
            )
        deadline = time.monotonic() + _START_LIMIT
        while "AgentAuth runs" not in self.output():
            assert self._process.poll() is None, f"manage.py up ended:\n{self.output()}"
            assert time.monotonic() < deadline, f"manage.py up is not ready:\n{self.output()}"
            time.sleep(0.05)
        state = self._state()
        self.base_url, self.gateway_url = state["base_url"], state["gateway_url"]

    def stop(self) -> None:
        """Ask it to stop, and wait until all of it is down."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self.home, ignore_errors=True)

    def process(self, name: str) -> Process:
        """`web`, `gateway-1`, `gateway-2`, `sequencer`, `worker`, `beat` or `office`."""
        return Process(name, self._state()["programs"][name])

    def await_restart(self, dead: Process, timeout: float = 20.0) -> Process:
        """The process that the supervisor has started in the place of `dead`."""
        deadline = time.monotonic() + timeout
        while True:
            now = self._state()["programs"].get(dead.name)
            if now not in (None, dead.pid):
                return Process(dead.name, now)
            assert time.monotonic() < deadline, f"{dead.name} was not started again:\n{self.output()}"
            time.sleep(0.05)

    def sql(self, query: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """What the database says, seen by a superuser: past all row-level security."""
        with psycopg.connect(self.database_dsn, autocommit=True) as connection:
            cursor = connection.execute(query, arguments)
            return cursor.fetchall() if cursor.description else []

    def output(self) -> str:
        """What `manage.py up` has printed so far."""
        return self._output.read_text(errors="replace") if self._output.exists() else ""

    def log(self, name: str) -> str:
        """The log of one process."""
        return (self.home / "logs" / f"{name}.log").read_text(errors="replace")

    def get(self, url: str) -> tuple[int, bytes]:
        """A plain GET, for readiness and the like; `url` may be a path of the console."""
        full = url if "://" in url else self.base_url + url
        with urllib.request.urlopen(full, timeout=10) as answer:
            return answer.status, answer.read()

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads((self.home / "up.json").read_text())
        return state


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now; `up` takes the next one if somebody is faster."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports
