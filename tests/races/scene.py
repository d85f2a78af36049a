"""The installation in which all races are run: a live stack, a second web process, its people and its agents."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

from agentauth.embedded.lifeline import die_with_parent
from tests.database import CHECKOUT
from tests.flows.admin import scopes_of
from tests.flows.person import Person
from tests.races.callers import Address
from tests.stack import Stack

_START_LIMIT = 90.0


class Scene:
    """Two web processes and two gateways over one database. Use as a context manager."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.http = httpx2.Client(timeout=60)
        self.host = urlsplit(stack.base_url).netloc
        self.gateway_host = urlsplit(stack.gateway_url).netloc
        self.second_web = Beside(stack, "web")
        self.second_gateway = Beside(stack, "gateway")
        self._people: dict[str, Person] = {}

    def __enter__(self) -> Scene:
        self._said_before = {name: len(text) for name, text in self._logs().items()}
        self.second_web.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.second_web.stop()
        self.second_gateway.stop()

    @property
    def issuer(self) -> str:
        return f"{self.stack.base_url}/t/acme"

    @property
    def office(self) -> str:
        return f"{self.stack.gateway_url}/acme/office"

    def doors(self, door: str) -> list[Address]:
        """Where callers go. The gateways share one port, and the system deals their connections out."""
        if door == "gateway":
            return [_address(self.gateway_host)]
        return [_address(self.host), self.second_web.address]

    def person(self, name: str) -> Person:
        if name not in self._people:
            fresh = Person(self.stack.base_url)
            self._people[name] = fresh.sign_in(f"{name}@acme.example", self.stack.demo_password)
        return self._people[name]

    def office_scopes(self, risk: str | None = None) -> list[str]:
        return scopes_of(self.stack, "office", risk)

    def clock(self) -> str:
        [(now,)] = self.stack.sql("SELECT clock_timestamp()::text")
        return str(now)

    def copy(self, table: str, row_id: str, changes: Sequence[dict[str, Any]], *, key: str = "id") -> None:
        """More rows like one that was made in the ordinary way, each with another secret and id."""
        self.stack.sql(
            f"INSERT INTO {table} SELECT (jsonb_populate_record(NULL::{table}, to_jsonb(one) || change)).* "
            f"FROM {table} one, unnest(%s::jsonb[]) change WHERE one.{key} = %s",
            ([json.dumps(change) for change in changes], row_id),
        )

    def issued(self, client_id: str, since: str) -> list[str]:
        """The `jti` of each token that the record knows of."""
        rows = self.stack.sql(
            "SELECT e.details->>'jti' FROM audit_event e JOIN agents_agent a ON a.id = e.agent_id "
            "WHERE a.client_id = %s AND e.action = 'token.issued' AND e.at >= %s::timestamptz",
            (client_id, since),
        )
        return [jti for (jti,) in rows]

    def kill(self, door: str, dice: random.Random) -> Callable[[], None]:
        """kill -9 for a process behind this door; what is returned waits for the one in its place."""
        victim = self.stack.process("web" if door == "web" else f"gateway-{dice.randrange(1, 3)}")
        victim.kill()

        def revive() -> None:
            self.stack.await_restart(victim, 60)
            _await(self.host if door == "web" else self.gateway_host, lambda: None)

        return revive

    def tracebacks(self) -> list[str]:
        """What the processes have said since we began that went wrong by mistake."""
        found = []
        for name, text in self._logs().items():
            ours = text[self._said_before.get(name, 0) :]
            found += [f"{name}: {one.strip()[:1500]}" for one in re.split(r"(?=Traceback \(most recent)", ours)[1:]]
        return found

    def _logs(self) -> dict[str, str]:
        texts = {name: self.stack.log(name) for name in ("web", "gateway-1", "gateway-2")}
        return texts | {"second web": self.second_web.said(), "second gateway": self.second_gateway.said()}


class Beside:
    """One more process of a kind over the same database, sound until it is told to be a mutant (`mutants.py`)."""

    def __init__(self, stack: Stack, what: str) -> None:
        self._stack, self._what = stack, what
        self._log = Path(stack.home) / f"second-{what}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.address: Address = ("127.0.0.1", 0)

    def start(self) -> None:
        if self._process is not None:
            return
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = ("127.0.0.1", free.getsockname()[1])
        environ = self._stack.environ | {
            "AGENTAUTH_BASE_URL": self._stack.base_url,
            "AGENTAUTH_GATEWAY_URL": self._stack.gateway_url,
            "DJANGO_SETTINGS_MODULE": "agentauth.settings",
            "PYTHONUNBUFFERED": "1",
        }
        parent = os.getpid()
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.races.beside", self._what, str(self.address[1])],
                cwd=CHECKOUT,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=lambda: die_with_parent(parent, signal.SIGTERM),  # noqa: PLW1509  # one thread
            )
        _await(f"{self.address[0]}:{self.address[1]}", self._require_alive)

    def become(self, mutant: str) -> None:
        """From now on without this lock; "" for sound again."""
        self.start()
        url = f"http://{self.address[0]}:{self.address[1]}/-mutant/{mutant}"
        with urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=30) as answer:
            assert answer.status == 204

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def said(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def _require_alive(self) -> None:
        assert self._process is not None and self._process.poll() is None, self.said()


def _address(host: str) -> Address:
    name, _, port = host.rpartition(":")
    return socket.gethostbyname(name), int(port)


def _await(host: str, require_alive: Callable[[], None]) -> None:
    deadline = time.monotonic() + _START_LIMIT
    while True:
        with suppress(OSError), urllib.request.urlopen(f"http://{host}/readyz", timeout=10) as answer:
            if answer.status == 200:
                return
        require_alive()
        assert time.monotonic() < deadline, f"{host} does not come up"
        time.sleep(0.05)
