"""Two workers of the real gateway, each a process, in front of an upstream of ours; Acme's office is behind them."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

import pytest
from django.conf import settings
from django.db import transaction

from agentauth.agents.models import Agent
from agentauth.embedded.lifeline import die_with_parent
from agentauth.grants.models import Grant
from agentauth.keys.addresses import resource_url
from agentauth.keys.signing import sign
from agentauth.resources.models import Operation, Resource, Scope
from audit.models import Event
from tenants.issuer import issuer_at
from tenants.rls import in_tenant
from tests import cast
from tests.database import CHECKOUT
from tests.gateway.upstream import Upstream
from tests.stack import _free_ports

T = TypeVar("T")


@dataclass
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name: str) -> str:
        return next(iter(self.all(name)), "")

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def codes(self) -> list[str]:
        """The reasons of a refusal, in either protocol."""
        said = self.json()
        said = said["error"]["data"] if "error" in said else said
        return [reason["code"] for reason in said["reasons"]]


class Door:
    """One worker, on a port of its own."""

    def __init__(self, environ: dict[str, str]) -> None:
        (self.port,) = _free_ports(1)
        self._environ = environ
        self.log = Path(environ["AGENTAUTH_HOME"]) / f"door-{self.port}.log"
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        parent = os.getpid()
        command = [sys.executable, "-m", "agentauth.embedded.gateway", "--port", str(self.port)]
        with open(self.log, "ab") as log:
            return subprocess.Popen(
                command,
                cwd=CHECKOUT,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=lambda: die_with_parent(parent, signal.SIGKILL),  # noqa: PLW1509  # one thread
            )

    def await_ready(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            try:
                if self.call("GET", "/readyz").status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)

    def restart(self) -> None:
        self.stop()
        self.process = self._start()
        self.await_ready()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()

    def connection(self, timeout: float = 20) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def open(
        self,
        method: str,
        target: str,
        headers: list[tuple[str, str]] | None = None,
        body: bytes | None = None,
        *,
        timeout: float = 20,
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """Send a request exactly as given; the answer's body is still to be read."""
        connection = self.connection(timeout)
        connection.putrequest(method, target, skip_accept_encoding=True)
        names = {name.lower() for name, _ in headers or []}
        for name, value in headers or []:
            connection.putheader(name, value)
        if body is not None and not names & {"content-length", "transfer-encoding"}:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        return connection, connection.getresponse()

    def call(
        self, method: str, target: str, headers: list[tuple[str, str]] | None = None, body: bytes | None = None
    ) -> Answer:
        connection, response = self.open(method, target, headers, body)
        try:
            return Answer(response.status, response.getheaders(), response.read())
        finally:
            connection.close()


@dataclass
class Stage:
    """Acme with its office behind the gateway, and Matt's assistant with Matt's grant."""

    house: cast.House
    agent: Agent
    grant: Grant
    door: Door
    upstream: Upstream
    tools: Resource = field(init=False, repr=False)
    tools_grant: Grant = field(init=False, repr=False)

    @property
    def slug(self) -> str:
        return self.house.tenant.slug

    @property
    def id(self) -> UUID:
        return self.house.tenant.id

    def path(self, tail: str = "", resource: str = "office") -> str:
        return f"/{self.slug}/{resource}{tail}"

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": issuer_at(self.slug, ""),
            "sub": str(self.house.members["matt"].id),
            "aud": resource_url(self.slug, "office"),
            "client_id": self.agent.client_id,
            "scope": "rooms:read rooms:book meeting:enter finance:enter",
            "exp": now + 300,
            "iat": now - 2,
            "jti": uuid4().hex,
            "grant_id": str(self.grant.id),
            "act": {"sub": str(self.agent.id)},
        }
        claims |= changes
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, typ: str = "at+jwt", **changes: Any) -> str:
        with in_tenant(self.id):
            return sign(self.id, self.claims(**changes), typ)

    def bearer(self, **changes: Any) -> list[tuple[str, str]]:
        return [("Authorization", f"Bearer {self.token(**changes)}")]

    def call(
        self,
        method: str,
        tail: str,
        *more: tuple[str, str],
        body: bytes | None = None,
        token: str | None = None,
        **changes: Any,
    ) -> Answer:
        """As Matt's assistant, at the office."""
        bearer = [("Authorization", f"Bearer {token}")] if token else self.bearer(**changes)
        return self.door.call(method, self.path(tail), [*bearer, *more], body)

    def events(self, action: str) -> list[Event]:
        return cast.events_of(self.id, action)

    def house_events(self) -> list[Event]:
        with in_tenant(self.id):
            return list(Event.objects.filter(tenant_id=self.id))

    def finished(self, count: int = 1) -> list[Event]:
        """The outcomes, once there are so many: nobody waits for them but tests."""
        return eventually(lambda: found if len(found := self.events("call.finished")) >= count else None)


def eventually(look: Callable[[], T | None], timeout: float = 5.0) -> T:
    """What `look` finds, as soon as it finds something."""
    deadline = time.monotonic() + timeout
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def upstream_server() -> Iterator[Upstream]:
    server = Upstream()
    yield server
    server.stop()


@pytest.fixture
def upstream(upstream_server: Upstream) -> Upstream:
    upstream_server.forget()
    return upstream_server


def environ_for(upstream: Upstream) -> dict[str, str]:
    database = settings.DATABASES["default"]
    return os.environ | {
        "AGENTAUTH_DATABASE_APP_URL": f"postgresql://{database['USER']}@/{database['NAME']}?host={database['HOST']}",
        "AGENTAUTH_SECRET_KEY": settings.SECRET_KEY,  # ours: nonces made here count there
        "AGENTAUTH_ALLOWED_HOSTS_OUTBOUND": "127.0.0.1",
        "AGENTAUTH_UPSTREAM_TIMEOUT_SECONDS": "2",
        "AGENTAUTH_MAX_BODY_BYTES": "1000000",
    }


@pytest.fixture(scope="session")
def doors(django_db_setup: object, upstream_server: Upstream) -> Iterator[list[Door]]:
    """Two workers that share nothing but the database."""
    found = [Door(environ_for(upstream_server)) for _ in range(2)]
    for door in found:
        door.await_ready()
    yield found
    for door in found:
        door.stop()


@pytest.fixture
def door(doors: list[Door]) -> Door:
    return doors[0]


@pytest.fixture
def stage(transactional_db: None, door: Door, upstream: Upstream) -> Iterator[Stage]:
    # A name of its own: workers outlive the test, and the database's cleaning announces nothing
    slug = f"acme-{secrets.token_hex(4)}"
    with transaction.atomic():
        house = cast.acme(slug)
        Resource.objects.filter(pk=house.office.pk).update(upstream_url=upstream.url)
        agent = cast.assistant(house)
        grant = cast.matts_grant(house, agent)
    stage = Stage(house, agent, grant, door, upstream)
    yield stage
    # Whatever was let in has an outcome; and nobody writes any more when the database is emptied
    eventually(lambda: len(stage.events("call.finished")) == len(stage.events("call.allowed")))


@pytest.fixture
def tools(stage: Stage) -> Stage:
    """The same, with the MCP server `office-mcp` and Matt's grant there."""
    house = stage.house
    with in_tenant(stage.id):
        office = house.office
        resource = cast.office(house, upstream_url=f"{stage.upstream.url}/mcp", slug="office-mcp")
        Resource.objects.filter(pk=resource.pk).update(kind="mcp")
        Operation.objects.filter(resource=resource).delete()
        names = {"see_rooms": "rooms:read", "book_room": "rooms:book", "enter_meeting": "meeting:enter"}
        for tool, scope in (names | {"enter_finance": "finance:enter"}).items():
            found = Scope.objects.get(resource=resource, name=scope)
            Operation.objects.create(tenant=house.tenant, resource=resource, key=tool, tool=tool, scope=found)
        Operation.objects.create(tenant=house.tenant, resource=resource, key="unmapped", tool="unmapped")
        from agentauth.resources.ceilings import set_ceiling

        set_ceiling(stage.agent, list(Scope.objects.filter(tenant=house.tenant)), by=house.owner)
        house.office = resource
        stage.tools, stage.tools_grant = resource, cast.matts_grant(house, stage.agent)
        house.office = office
    return stage
