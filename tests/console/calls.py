"""Calls as the gateway records them, for pages that show them."""

from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

from django.db import connection

from agentauth.grants.models import Grant
from audit.actions import Action
from audit.record import INSERT, Actor, event_row
from tenants.rls import new_id, set_tenant
from tests.cast import House

ACTIONS = {"allow": Action.CALL_ALLOWED, "refuse": Action.CALL_REFUSED, "ask": Action.CALL_ASKED}


def a_call(
    house: House,
    grant: Grant,
    *,
    decision: str = "allow",
    scope: str = "meeting:enter",
    operation: str = "POST /rooms/meeting/enter",
    at: datetime | None = None,
) -> UUID:
    """One call under this grant; an allowed one also ends well. Its event's id."""
    common: dict[str, Any] = {
        "tenant_id": house.tenant.id,
        "actor": Actor("agent", str(grant.agent_id)),
        "agent_id": grant.agent_id,
        "member_id": grant.member_id,
        "grant_id": grant.id,
        "resource_id": grant.resource_id,
        "operation": operation,
        "call_id": new_id(),
        "ip": "192.0.2.7",
        "at": at,
    }
    reasons = ["grant_says_never"] if decision == "refuse" else []
    rows = [
        event_row(
            ACTIONS[decision],
            decision=decision,
            reasons=reasons,
            status=403 if decision == "refuse" else None,
            args_hash=sha256(b"{}").hexdigest(),
            details={"scope": scope, "protocol": "rest"},
            **common,
        )
    ]
    if decision == "allow":
        rows.append(event_row(Action.CALL_FINISHED, outcome="ok", status=200, latency_us=4100, **common))
    set_tenant(house.tenant.id)
    with connection.cursor() as cursor:
        for row in rows:
            cursor.execute(INSERT, row)
    first: UUID = rows[0][0]
    return first
