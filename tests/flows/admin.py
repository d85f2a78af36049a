"""What an admin does in the console before an agent can begin."""

from __future__ import annotations

from typing import Any

from tests.flows.person import Person
from tests.stack import Stack


def scopes_of(stack: Stack, slug: str, risk: str | None = None) -> list[str]:
    """The ids by which a form of Acme's names the scopes of a resource."""
    rows = stack.sql(
        "SELECT s.id::text FROM resources_scope s JOIN resources_resource r ON r.id = s.resource_id "
        "WHERE r.slug = %s AND (%s::text IS NULL OR s.risk = %s) AND r.tenant_id = "
        "(SELECT id FROM tenants_tenant WHERE slug = 'acme')",
        (slug, risk, risk),
    )
    return [scope for (scope,) in rows]


def register_agent(stack: Stack, admin: Person, name: str, scopes: list[str], *, redirect: str = "") -> tuple[str, str]:
    """An agent with a secret, as shown once: for people when there is a redirect address, else for itself."""
    client_id = _register(stack, admin, name, scopes, redirect, {"proof": "secret"})
    page = admin.page.text
    assert "aas_" in page, admin.words
    secret = "aas_" + page.partition("aas_")[2][:43]
    again = admin.open(str(admin.page.url))
    assert secret not in again.text, "a secret is shown exactly once"
    return client_id, secret


def register_agent_with_key(
    stack: Stack, admin: Person, name: str, scopes: list[str], key: str, *, redirect: str = "", assured: bool = False
) -> str:
    """An agent that proves itself with a key of its own; `key` is the public part as a JWK."""
    proof = {"proof": "paste", "key": key} | ({"high_assurance": "on"} if assured else {})
    return _register(stack, admin, name, scopes, redirect, proof)


def _register(stack: Stack, admin: Person, name: str, scopes: list[str], redirect: str, proof: dict[str, Any]) -> str:
    admin.open("/t/acme/agents/new/")
    admin.press(
        "Register",
        kind="delegated" if redirect else "autonomous",
        name=name,
        purpose="Keeps lists in order",
        scopes=scopes,
        redirect_uris=redirect,
        **proof,
    )
    found = stack.sql("SELECT client_id FROM agents_agent WHERE name = %s", (name,))
    assert len(found) == 1, admin.words
    client_id: str = found[0][0]
    return client_id
