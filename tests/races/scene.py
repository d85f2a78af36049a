"""The installation in which all races are run: a live stack, the processes that race, its people and its agents."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import psycopg

from agentauth.embedded.lifeline import die_with_parent
from tests.database import CHECKOUT
from tests.flows.admin import scopes_of
from tests.flows.person import Person
from tests.races.callers import Address
from tests.stack import Stack

_START_LIMIT = 90.0
_ONE_LINE = re.compile(r"^(?=\d{4}-\d\d-\d\d )", re.MULTILINE)  # of a log, with what belongs to it
_TOO_BUSY = "OperationalError: the database does not answer in time"


class Scene:
    """Two web processes and two gateways that race over one database; the stack's own prepare the races.

    Use as a context manager.
    """

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.http = httpx2.Client(timeout=60)
        self.host = urlsplit(stack.base_url).netloc
        self.gateway_host = urlsplit(stack.gateway_url).netloc
        self.racing = {what: Beside(stack, what) for what in ("web", "gateway")}
        self._database = psycopg.connect(stack.database_dsn, autocommit=True)
        self._people: dict[str, Person] = {}

    def __enter__(self) -> Scene:
        self._said_before = {name: len(text) for name, text in self._logs().items()}
        return self

    def __exit__(self, *_: object) -> None:
        for processes in self.racing.values():
            processes.stop()
        self._database.close()

    @property
    def issuer(self) -> str:
        return f"{self.stack.base_url}/t/acme"

    @property
    def office(self) -> str:
        return f"{self.stack.gateway_url}/acme/office"

    def person(self, name: str) -> Person:
        if name not in self._people:
            fresh = Person(self.stack.base_url)
            self._people[name] = fresh.sign_in(f"{name}@acme.example", self.stack.demo_password)
        return self._people[name]

    def office_scopes(self, risk: str | None = None) -> list[str]:
        return scopes_of(self.stack, "office", risk)

    def sql(self, query: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """As `Stack.sql`, on a connection that is kept."""
        cursor = self._database.execute(query, arguments)
        return cursor.fetchall() if cursor.description else []

    def clock(self) -> str:
        [(now,)] = self.sql("SELECT clock_timestamp()::text")
        return str(now)

    def copy(self, table: str, row_id: str, changes: Sequence[dict[str, Any]], *, key: str = "id") -> None:
        """More rows like one that was made in the ordinary way, each with another secret and id."""
        self.sql(
            f"INSERT INTO {table} SELECT (jsonb_populate_record(NULL::{table}, to_jsonb(one) || change)).* "
            f"FROM {table} one, unnest(%s::jsonb[]) change WHERE one.{key} = %s",
            ([json.dumps(change) for change in changes], row_id),
        )

    def issued(self, client_id: str, since: str) -> list[str]:
        """The `jti` of each token that the record knows of."""
        rows = self.sql(
            "SELECT e.details->>'jti' FROM audit_event e JOIN agents_agent a ON a.id = e.agent_id "
            "WHERE a.client_id = %s AND e.action = 'token.issued' AND e.at >= %s::timestamptz",
            (client_id, since),
        )
        return [jti for (jti,) in rows]

    def tracebacks(self) -> list[str]:
        """What the processes have said since we began that went wrong by mistake.

        Who waits too long for a busy database is told so (503), which is no mistake and counted as an answer.
        """
        found = []
        for name, text in self._logs().items():
            ours = text[self._said_before.get(name, 0) :]
            wrong = [one.strip() for one in _ONE_LINE.split(ours) if "Traceback (most recent" in one]
            found += [f"{name}: {one[-3000:]}" for one in wrong if not one.endswith(_TOO_BUSY)]
        return found

    def _logs(self) -> dict[str, str]:
        texts = {name: self.stack.log(name) for name in ("web", "gateway-1", "gateway-2")}
        return texts | {f"racing {what}": processes.said() for what, processes in self.racing.items()}


class Beside:
    """Two more processes of a kind over the same database, sound until the second is told to be a mutant."""

    def __init__(self, stack: Stack, what: str) -> None:
        self._stack, self._what = stack, what
        self._log = Path(stack.home) / f"racing-{what}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._doors: list[Address] = []
        self._pids: dict[Address, int] = {}

    @property
    def doors(self) -> list[Address]:
        """Where callers go, each to one of the processes. Started when first asked for."""
        if self._process is None:
            self._start()
        return self._doors

    def _start(self) -> None:
        sockets = [socket.create_server(("127.0.0.1", 0), backlog=1024) for _ in range(2)]
        self._doors = [("127.0.0.1", one.getsockname()[1]) for one in sockets]
        descriptors = [one.fileno() for one in sockets]
        environ = self._stack.environ | {
            "AGENTAUTH_BASE_URL": self._stack.base_url,
            "AGENTAUTH_GATEWAY_URL": self._stack.gateway_url,
            "DJANGO_SETTINGS_MODULE": "agentauth.settings",
            "PYTHONUNBUFFERED": "1",
        }
        parent = os.getpid()
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.races.beside", self._what, *map(str, descriptors)],
                cwd=CHECKOUT,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=descriptors,
                preexec_fn=lambda: die_with_parent(parent, signal.SIGTERM),  # noqa: PLW1509  # one thread
            )
        for one in sockets:
            one.close()
        for door in self._doors:
            self.revive(door)

    def kill(self, door: Address) -> None:
        """kill -9 for who answers at this door."""
        os.kill(self._pids[door], signal.SIGKILL)

    def revive(self, door: Address) -> None:
        """Wait for the one in its place."""
        deadline, killed = time.monotonic() + _START_LIMIT, self._pids.get(door)
        while True:
            with suppress(OSError, HTTPException):
                _say(door, "/readyz")
                self._pids[door] = int(_say(door, "/-pid/"))
                if self._pids[door] != killed:
                    return
            assert self._process is not None and self._process.poll() is None, self.said()
            assert time.monotonic() < deadline, f"{door} does not come up: {self.said()}"
            time.sleep(0.01)

    def become(self, mutant: str) -> None:
        """The second, from now on without this lock; "" for sound again."""
        _say(self.doors[1], f"/-mutant/{mutant}")

    def silence(self, door: Address) -> None:
        """All is done there and nobody told, until it is killed."""
        _say(door, "/-silent/")

    def stop(self) -> None:
        """All of them: they die with who has started them."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def said(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""


def _say(door: Address, path: str) -> bytes:
    with urllib.request.urlopen(f"http://{door[0]}:{door[1]}{path}", timeout=10) as answer:
        said: bytes = answer.read()
        return said
