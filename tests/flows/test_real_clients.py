"""The official MCP clients, which know nothing but the address of a server: both languages, both eras of the protocol,
registered by document, by themselves and beforehand. Every one gets in, is told no, asks for more, and goes on when its
token has run out.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from tests.database import TestServer
from tests.flows.admin import register_agent, scopes_of
from tests.flows.document_host import DocumentHost, document_host
from tests.flows.hosts import KINDS, Host, Kind, Refused, Registered, host
from tests.flows.mcp_client import CALLBACK
from tests.flows.person import Person
from tests.stack import Stack

pytestmark = [pytest.mark.flow, pytest.mark.timeout(300)]

TOKEN_LIFE = 30  # seconds, the shortest there is: what begins with the first test has run out at the last one
READ = {"list_rooms", "watch_rooms"}


@dataclass
class Scene:
    """One installation for all clients, its people, and the web server of those who make clients."""

    stack: Stack
    ada: Person
    matt: Person
    web: DocumentHost
    node: str

    @property
    def url(self) -> str:
        return f"{self.stack.gateway_url}/acme/office-mcp"

    def events(self, action: str, client_id: str) -> list[dict[str, Any]]:
        rows = self.stack.sql(
            "SELECT e.body FROM audit_event e JOIN agents_agent a ON a.id = e.agent_id "
            "WHERE e.action = %s AND a.client_id = %s ORDER BY e.id",
            (action, client_id),
        )
        return [json.loads(body) for (body,) in rows]

    def registration(self, client_id: str) -> tuple[str, str]:
        """How it came to be known, and its state."""
        [(how, name)] = self.stack.sql("SELECT registration, name FROM agents_agent WHERE client_id = %s", (client_id,))
        return how, name

    def by_document(self, name: str) -> Registered:
        path = f"/clients/{name.replace(' ', '-')}.json"
        return Registered(name, document=self.web.publish_client(path, name, CALLBACK))

    def beforehand(self, name: str) -> Registered:
        scopes = scopes_of(self.stack, "office-mcp", "read") + scopes_of(self.stack, "office-mcp", "change")
        client_id, secret = register_agent(self.stack, self.ada, name, scopes, redirect=CALLBACK)
        return Registered(name, client_id=client_id, secret=secret)


@pytest.fixture(scope="module")
def scene(
    postgres_server: TestServer, migrated_database: str, node: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    def already(_name: str) -> None:
        raise AssertionError("migrated_database has made the template")

    certificate = tmp_path_factory.mktemp("web") / "localhost.pem"
    with document_host(certificate) as web:
        environ = {"AGENTAUTH_ACCESS_TOKEN_SECONDS": str(TOKEN_LIFE), "SSL_CERT_FILE": str(certificate)}
        stack = Stack(postgres_server, postgres_server.new_database(already), environ=environ)
        try:
            stack.start()
            ada, matt = (
                Person(stack.base_url).sign_in(f"{name}@acme.example", stack.demo_password) for name in ("ada", "matt")
            )
            yield Scene(stack, ada, matt, web, node)
        finally:
            stack.stop()


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@dataclass
class Lasting:
    """A host that stays connected from the first test to the last."""

    host: Host
    since: float
    asked: list[str]


@pytest.fixture(scope="module")
def lasting(scene: Scene) -> Iterator[dict[str, Lasting]]:
    """Every kind of client, registered by itself, with Matt's consent to read."""
    with ExitStack() as running:
        found = {}
        for kind in KINDS:
            asked: list[str] = []

            def browse(url: str, asked: list[str] = asked) -> str:
                asked.append(url)
                return scene.matt.answer(url, scope=["rooms:read"])

            it = running.enter_context(host(kind, scene.url, Registered(f"Newcomer {kind.name}"), browse, scene.node))
            found[kind.name] = Lasting(it, time.monotonic(), asked)
        yield found


def is_in(scene: Scene, kind: Kind, it: Host) -> None:
    """It lists and calls under Matt's consent, and that is on record."""
    assert it.version() == kind.version
    assert it.scope() == "rooms:read"
    assert set(it.tools()) == READ
    assert "meeting" in it.call("list_rooms")
    assert len(scene.events("grant.given", it.client_id())) == 1
    [issued] = scene.events("token.issued", it.client_id())
    assert issued["details"]["grant_type"] == "authorization_code"
    [called] = [event for event in scene.events("call.allowed", it.client_id()) if event["operation"] == "list_rooms"]
    assert called["member"] and called["details"]["protocol"] == "mcp"


def test_a_client_that_nobody_knows_registers_itself_and_gets_in(
    scene: Scene, kind: Kind, lasting: dict[str, Lasting]
) -> None:
    it = lasting[kind.name].host
    is_in(scene, kind, it)
    assert scene.registration(it.client_id()) == ("dynamic", f"Newcomer {kind.name}")
    assert f"Newcomer {kind.name}" in scene.ada.open("/t/acme/agents/?tab=seen").text


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.version > "2025-06-18"], ids=lambda kind: kind.name)
def test_a_client_with_a_document_is_known_by_it(scene: Scene, kind: Kind) -> None:
    registered = scene.by_document(f"Documented {kind.name}")
    with host(kind, scene.url, registered, scene.matt.answer, scene.node) as it:
        is_in(scene, kind, it)
        assert it.client_id() == registered.document
    assert scene.registration(registered.document) == ("document", registered.name)
    assert scene.web.fetched.count(registered.document.removeprefix(scene.web.base)) == 1, "kept as long as it is fresh"


def test_a_client_that_an_admin_registered_uses_its_id_and_secret(scene: Scene, kind: Kind) -> None:
    registered = scene.beforehand(f"Expected {kind.name}")
    with host(kind, scene.url, registered, lambda url: scene.matt.answer(url, scope=["rooms:read"]), scene.node) as it:
        is_in(scene, kind, it)
        assert it.client_id() == registered.client_id
    assert scene.registration(registered.client_id)[0] == "admin"


def test_a_client_whose_person_says_no_hears_access_denied(scene: Scene, kind: Kind) -> None:
    registered = scene.beforehand(f"Unwanted {kind.name}")
    with (
        pytest.raises(Refused, match="access_denied"),
        host(kind, scene.url, registered, lambda url: scene.matt.answer(url, "Deny"), scene.node),
    ):
        pass
    assert len(scene.events("grant.refused", registered.client_id)) == 1
    assert not scene.events("token.issued", registered.client_id)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.steps_up != "never"], ids=lambda kind: kind.name)
def test_a_client_that_needs_more_asks_for_it_and_keeps_what_it_had(scene: Scene, kind: Kind) -> None:
    """MCP 2026-07-28, Step-Up Authorization Flow: 403 insufficient_scope leads to consent for more, and to the call."""
    answers: list[dict[str, Any]] = [
        {"scope": ["rooms:read"]},
        {"scope": ["rooms:read", "meeting:enter"], "change-how": "always"},
    ]
    registered = scene.beforehand(f"Growing {kind.name}")
    with host(kind, scene.url, registered, lambda url: scene.matt.answer(url, **answers.pop(0)), scene.node) as it:
        assert "meeting" in it.call("list_rooms")
        if kind.steps_up == "forgotten":
            with pytest.raises(Refused, match="403"):
                it.call("enter_meeting_room")
            it.forget()
        assert "meeting" in it.call("enter_meeting_room").lower()
        assert set(it.scope().split()) == {"rooms:read", "meeting:enter"}
        assert "meeting" in it.call("list_rooms")
        assert not answers
    entered_after_a_refusal(scene, registered.client_id)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.steps_up == "never"], ids=lambda kind: kind.name)
def test_a_client_that_cannot_ask_for_more_says_where_its_person_can_give_it(scene: Scene, kind: Kind) -> None:
    registered = scene.beforehand(f"Growing {kind.name}")
    with host(kind, scene.url, registered, lambda url: scene.matt.answer(url, scope=["rooms:read"]), scene.node) as it:
        with pytest.raises(Refused, match="403") as refusal:
            it.call("enter_meeting_room")
        scene.matt.open(str(refusal.value).partition('"ask_at":"')[2].partition('"')[0])
        scopes = [*scopes_of(scene.stack, "office-mcp", "read"), *scopes_of(scene.stack, "office-mcp", "change")]
        scene.matt.press("Let it act for me", scope=scopes, **{"change-how": "always"})
        assert scene.matt.page.status_code == 200, scene.matt.words
        it.forget()
        assert "meeting" in it.call("enter_meeting_room").lower()
    entered_after_a_refusal(scene, registered.client_id)


def entered_after_a_refusal(scene: Scene, client_id: str) -> None:
    refused = scene.events("call.refused", client_id)
    assert {tuple(event["reasons"]) for event in refused} == {("grant_lacks_scope", "scope_missing")}
    entered = [event for event in scene.events("call.allowed", client_id) if event["operation"] == "enter_meeting_room"]
    assert len(entered) == 1


def test_a_client_goes_on_when_its_token_has_run_out_without_asking_the_person(
    scene: Scene, kind: Kind, lasting: dict[str, Lasting]
) -> None:
    """OAuth 2.1 §4.3: the refresh token gives the next access token, and is itself replaced."""
    it, before = lasting[kind.name].host, lasting[kind.name].host.refresh_token()
    time.sleep(max(0.0, lasting[kind.name].since + TOKEN_LIFE + 1 - time.monotonic()))
    assert "meeting" in it.call("list_rooms")
    assert it.refresh_token() != before
    first, *later = [event["details"]["grant_type"] for event in scene.events("token.issued", it.client_id())]
    assert first == "authorization_code" and set(later) == {"refresh_token"}
    assert len(lasting[kind.name].asked) == 1
