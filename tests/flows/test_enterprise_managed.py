"""The official MCP clients where the organisation's sign-in provider decides (ID-JAG): nobody is sent to a browser."""

from __future__ import annotations

from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from mcp.client.auth.extensions.identity_assertion import IdentityAssertionOAuthProvider

from tests.flows.admin import register_agent, scopes_of
from tests.flows.identity_provider import IdentityProvider
from tests.flows.installation import Installation
from tests.flows.mcp_client import CALLBACK, Memory, connected
from tests.flows.node_program import Problem, node_program

pytestmark = [pytest.mark.flow, pytest.mark.timeout(120)]

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
READ_AND_CHANGE = {"rooms:read", "rooms:book", "meeting:enter"}


@pytest.fixture(scope="module")
def provider(here: Installation) -> IdentityProvider:
    """Acme's, trusted for its own people up to what changes things."""
    it = IdentityProvider(here.web, "/acme-sso")
    here.ada.open("/t/acme/settings/trusted/new/")
    here.ada.press(
        "Look at it and trust it",
        kind="enterprise",
        name="Acme SSO",
        issuer=it.issuer,
        keys_from="discovery",
        email_domains="acme.example",
        ceiling_risk="change",
        grant_days="30",
        act_order="",
    )
    assert "Acme SSO is trusted from now on" in here.ada.words
    return it


def registered(here: Installation, name: str) -> tuple[str, str]:
    return register_agent(here.stack, here.ada, name, scopes_of(here.stack, "office-mcp"), redirect=CALLBACK)


def nobody(url: str) -> str:
    raise AssertionError(f"nobody is to be asked, but {url} was opened")


def told(here: Installation, provider: IdentityProvider, client_id: str, secret: str) -> dict[str, Any]:
    """What the program in Node is started with."""
    id_token = provider.id_token(client_id, "matt@acme.example")
    letter = {"client_id": client_id, "secret": secret, "issuer": here.issuer}
    return {
        "sdk": "@modelcontextprotocol/client",
        "mode": "auto",
        "url": here.office_mcp,
        "letter": letter | {"provider": provider.issuer, "id_token": id_token},
    }


def test_a_client_in_typescript_gets_in_by_the_providers_letter_alone(
    here: Installation, provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks for all that the challenge names, and gets what the organisation lets its provider allow."""
    monkeypatch.setenv("NODE_EXTRA_CA_CERTS", str(here.web.certificate))
    client_id, secret = registered(here, "Vouched for, in TypeScript")
    with node_program(here.node, "mcp_client.mjs", nobody, **told(here, provider, client_id, secret)) as program:
        program.ask("connect")
        assert set(program.ask("held")["scope"].split()) == READ_AND_CHANGE
        assert "enter_finance" not in program.ask("tools")
        assert "meeting" in str(program.ask("call", name="list_rooms"))
    assert "finance:enter" in provider.letters[-1]["scope"]
    is_on_record(here, client_id, provider)


def test_a_client_in_python_gets_in_by_the_providers_letter_alone(
    here: Installation, provider: IdentityProvider
) -> None:
    client_id, secret = registered(here, "Vouched for, in Python")
    memory, id_token = Memory(), provider.id_token(client_id, "matt@acme.example")

    async def letter(audience: str, resource: str) -> str:
        return provider.letter(client_id, id_token, audience=audience, resource=resource, scope="rooms:read")

    auth = IdentityAssertionOAuthProvider(here.office_mcp, memory, client_id, secret, here.issuer, letter)

    async def visit() -> str:
        async with connected(here.office_mcp, auth, "auto") as client:
            return str((await client.call_tool("list_rooms", {})).content)

    with start_blocking_portal() as portal:
        assert "meeting" in portal.call(visit)
    assert memory.tokens is not None and memory.tokens.scope == "rooms:read" and not memory.tokens.refresh_token
    is_on_record(here, client_id, provider)


def test_what_its_person_ended_the_provider_does_not_open_again(
    here: Installation, provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NODE_EXTRA_CA_CERTS", str(here.web.certificate))
    client_id, secret = registered(here, "No longer vouched for")
    with node_program(here.node, "mcp_client.mjs", nobody, **told(here, provider, client_id, secret)) as program:
        program.ask("connect")
    [given] = here.events("grant.given", client_id)
    assert "Allowed by Acme SSO" in here.matt.open("/t/acme/my/agents/").text
    end = f"/t/acme/my/agents/{given['grant']}/revoke/"
    [form] = [form for form in here.matt.forms() if form.action == end]
    here.matt.send(form, {})
    assert here.matt.page.status_code == 200, here.matt.words
    with (
        node_program(here.node, "mcp_client.mjs", nobody, **told(here, provider, client_id, secret)) as program,
        pytest.raises(Problem, match="ended here"),
    ):
        program.ask("connect")
    assert here.events("token.refused", client_id)[-1]["reasons"] == ["grant_revoked"]


def is_on_record(here: Installation, client_id: str, provider: IdentityProvider) -> None:
    """The token says whose word stood behind it; the call is the person's, by this agent."""
    [issued] = here.events("token.issued", client_id)
    assert issued["details"]["grant_type"] == JWT_BEARER
    assert issued["details"]["vouched_by"] == {"issuer": provider.issuer, "jti": provider.letters[-1]["jti"]}
    [called] = [event for event in here.events("call.allowed", client_id) if event["operation"] == "list_rooms"]
    assert called["member"] and called["grant"] == issued["grant"]
