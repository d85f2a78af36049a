"""The official MCP clients, which know nothing but the address of a server: both languages, both eras of the protocol,
registered by document, by themselves and beforehand. Every one gets in, is told no, asks for more, and goes on when its
token has run out.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jwt.algorithms import ECAlgorithm

from tests.flows.admin import register_agent, register_agent_with_key, scopes_of
from tests.flows.hosts import KINDS, Host, Kind, Refused, Registered, host
from tests.flows.installation import TOKEN_LIFE, Installation
from tests.flows.mcp_client import CALLBACK

pytestmark = [pytest.mark.flow, pytest.mark.timeout(300)]

READ = {"list_rooms", "watch_rooms"}


def by_document(here: Installation, name: str) -> Registered:
    path = f"/clients/{name.replace(' ', '-')}.json"
    return Registered(name, document=here.web.publish_client(path, name, CALLBACK))


def beforehand(here: Installation, name: str) -> Registered:
    scopes = [scope for risk in ("read", "change") for scope in scopes_of(here.stack, "office-mcp", risk)]
    client_id, secret = register_agent(here.stack, here.ada, name, scopes, redirect=CALLBACK)
    return Registered(name, client_id=client_id, secret=secret)


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
def lasting(here: Installation) -> Iterator[dict[str, Lasting]]:
    """Every kind of client, registered by itself, with Matt's consent to read."""
    with ExitStack() as running:
        found = {}
        for kind in KINDS:
            asked: list[str] = []

            def browse(url: str, asked: list[str] = asked) -> str:
                asked.append(url)
                return here.matt.answer(url, scope=["rooms:read"])

            it = running.enter_context(
                host(kind, here.office_mcp, Registered(f"Newcomer {kind.name}"), browse, here.node)
            )
            found[kind.name] = Lasting(it, time.monotonic(), asked)
        yield found


def is_in(here: Installation, kind: Kind, it: Host) -> None:
    """It lists and calls under Matt's consent, and that is on record."""
    assert it.version() == kind.version
    assert it.scope() == "rooms:read"
    assert set(it.tools()) == READ
    assert "meeting" in it.call("list_rooms")
    assert len(here.events("grant.given", it.client_id())) == 1
    issued = here.events("token.issued", it.client_id())[0]
    assert issued["details"]["grant_type"] == "authorization_code"
    [called] = [event for event in here.events("call.allowed", it.client_id()) if event["operation"] == "list_rooms"]
    assert called["member"] and called["details"]["protocol"] == "mcp"


def test_a_client_that_nobody_knows_registers_itself_and_gets_in(
    here: Installation, kind: Kind, lasting: dict[str, Lasting]
) -> None:
    it = lasting[kind.name].host
    is_in(here, kind, it)
    assert here.registration(it.client_id()) == ("dynamic", f"Newcomer {kind.name}")
    assert f"Newcomer {kind.name}" in here.ada.open("/t/acme/agents/?tab=seen").text


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.version > "2025-06-18"], ids=lambda kind: kind.name)
def test_a_client_with_a_document_is_known_by_it(here: Installation, kind: Kind) -> None:
    registered = by_document(here, f"Documented {kind.name}")
    with host(kind, here.office_mcp, registered, here.matt.answer, here.node) as it:
        is_in(here, kind, it)
        assert it.client_id() == registered.document
    assert here.registration(registered.document) == ("document", registered.name)
    assert here.web.fetched.count(registered.document.removeprefix(here.web.base)) == 1, "kept as long as it is fresh"


def test_a_client_that_an_admin_registered_uses_its_id_and_secret(here: Installation, kind: Kind) -> None:
    registered = beforehand(here, f"Expected {kind.name}")
    with host(
        kind,
        here.office_mcp,
        registered,
        lambda url: here.matt.answer(url, scope=["rooms:read"]),
        here.node,
    ) as it:
        is_in(here, kind, it)
        assert it.client_id() == registered.client_id
    assert here.registration(registered.client_id)[0] == "admin"


def test_a_client_whose_person_says_no_hears_access_denied(here: Installation, kind: Kind) -> None:
    registered = beforehand(here, f"Unwanted {kind.name}")
    with (
        pytest.raises(Refused, match="access_denied"),
        host(
            kind,
            here.office_mcp,
            registered,
            lambda url: here.matt.answer(url, "Deny"),
            here.node,
        ),
    ):
        pass
    assert len(here.events("grant.refused", registered.client_id)) == 1
    assert not here.events("token.issued", registered.client_id)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.steps_up != "never"], ids=lambda kind: kind.name)
def test_a_client_that_needs_more_asks_for_it_and_keeps_what_it_had(here: Installation, kind: Kind) -> None:
    """MCP 2026-07-28, Step-Up Authorization Flow: 403 insufficient_scope leads to consent for more, and to the call."""
    answers: list[dict[str, Any]] = [
        {"scope": ["rooms:read"]},
        {"scope": ["rooms:read", "meeting:enter"], "change-how": "always"},
    ]
    registered = beforehand(here, f"Growing {kind.name}")
    with host(
        kind,
        here.office_mcp,
        registered,
        lambda url: here.matt.answer(url, **answers.pop(0)),
        here.node,
    ) as it:
        assert "meeting" in it.call("list_rooms")
        if kind.steps_up == "forgotten":
            with pytest.raises(Refused, match="403"):
                it.call("enter_meeting_room")
            it.forget()
        assert "meeting" in it.call("enter_meeting_room").lower()
        assert set(it.scope().split()) == {"rooms:read", "meeting:enter"}
        assert "meeting" in it.call("list_rooms")
        assert not answers
    entered_after_a_refusal(here, registered.client_id)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.steps_up == "never"], ids=lambda kind: kind.name)
def test_a_client_that_cannot_ask_for_more_says_where_its_person_can_give_it(here: Installation, kind: Kind) -> None:
    registered = beforehand(here, f"Growing {kind.name}")
    with host(
        kind,
        here.office_mcp,
        registered,
        lambda url: here.matt.answer(url, scope=["rooms:read"]),
        here.node,
    ) as it:
        with pytest.raises(Refused, match="403") as refusal:
            it.call("enter_meeting_room")
        here.matt.open(str(refusal.value).partition('"ask_at":"')[2].partition('"')[0])
        scopes = [
            *scopes_of(here.stack, "office-mcp", "read"),
            *scopes_of(here.stack, "office-mcp", "change"),
        ]
        here.matt.press("Let it act for me", scope=scopes, **{"change-how": "always"})
        assert here.matt.page.status_code == 200, here.matt.words
        it.forget()
        assert "meeting" in it.call("enter_meeting_room").lower()
    entered_after_a_refusal(here, registered.client_id)


def entered_after_a_refusal(here: Installation, client_id: str) -> None:
    refused = here.events("call.refused", client_id)
    assert {tuple(event["reasons"]) for event in refused} == {("grant_lacks_scope", "scope_missing")}
    entered = [event for event in here.events("call.allowed", client_id) if event["operation"] == "enter_meeting_room"]
    assert len(entered) == 1


@pytest.mark.parametrize("proof", ["secret", "key"])
@pytest.mark.parametrize("kind", [KINDS[0], KINDS[2], KINDS[4]], ids=lambda kind: kind.name)
def test_a_client_without_a_person_gets_what_an_admin_granted_it(here: Installation, kind: Kind, proof: str) -> None:
    """MCP ext-auth, client credentials: it asks for every scope that the 401 names and is given those it has been."""
    name, scopes = f"Alone {kind.name} {proof}", scopes_of(here.stack, "office-mcp", "read")
    if proof == "secret":
        client_id, secret = register_agent(here.stack, here.ada, name, scopes)
        registered = Registered(name, client_id=client_id, secret=secret, itself_at=here.issuer)
    else:
        private, public = key_pair()
        client_id = register_agent_with_key(here.stack, here.ada, name, scopes, public)
        registered = Registered(name, client_id=client_id, key=private, itself_at=here.issuer)
    with host(kind, here.office_mcp, registered, never_asked, here.node) as it:
        assert it.scope() == "rooms:read"
        assert set(it.tools()) == READ
        assert "meeting" in it.call("list_rooms")
    assert here.events("token.issued", client_id)[0]["details"]["grant_type"] == "client_credentials"
    assert not [event for event in here.events("call.allowed", client_id) if event.get("member")]


def never_asked(url: str) -> str:
    raise AssertionError(f"nobody is to be asked, but {url} was opened")


def key_pair() -> tuple[str, str]:
    """A private key (PEM) and its public part (JWK)."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return pem, str(ECAlgorithm.to_jwk(key.public_key()))


def test_a_client_goes_on_when_its_token_has_run_out_without_asking_the_person(
    here: Installation, kind: Kind, lasting: dict[str, Lasting]
) -> None:
    """OAuth 2.1 §4.3: the refresh token gives the next access token, and is itself replaced."""
    it, before = lasting[kind.name].host, lasting[kind.name].host.refresh_token()
    time.sleep(max(0.0, lasting[kind.name].since + TOKEN_LIFE + 1 - time.monotonic()))
    assert "meeting" in it.call("list_rooms")
    assert it.refresh_token() != before
    first, *later = [event["details"]["grant_type"] for event in here.events("token.issued", it.client_id())]
    assert first == "authorization_code" and set(later) == {"refresh_token"}
    assert len(lasting[kind.name].asked) == 1
