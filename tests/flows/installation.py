"""One installation for all clients: a short token life, and a certificate of theirs that it trusts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.flows.document_host import DocumentHost
from tests.flows.person import Person
from tests.stack import Stack

TOKEN_LIFE = 30  # seconds, the shortest there is: what begins with the first test has run out at the last one


@dataclass
class Installation:
    """One installation for all clients, its people, and the web server of those who make clients."""

    stack: Stack
    ada: Person
    matt: Person
    web: DocumentHost
    node: str

    @property
    def issuer(self) -> str:
        return f"{self.stack.base_url}/t/acme"

    @property
    def office(self) -> str:
        """The REST API."""
        return f"{self.stack.gateway_url}/acme/office"

    @property
    def office_mcp(self) -> str:
        return f"{self.stack.gateway_url}/acme/office-mcp"

    def events(self, action: str, client_id: str) -> list[dict[str, Any]]:
        rows = self.stack.sql(
            "SELECT e.body FROM audit_event e JOIN agents_agent a ON a.id = e.agent_id "
            "WHERE e.action = %s AND a.client_id = %s ORDER BY e.id",
            (action, client_id),
        )
        return [json.loads(body) for (body,) in rows]

    def registration(self, client_id: str) -> tuple[str, str]:
        """How it came to be known, and its name."""
        [(how, name)] = self.stack.sql("SELECT registration, name FROM agents_agent WHERE client_id = %s", (client_id,))
        return how, name
