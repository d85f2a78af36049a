"""A week in the life of the demo's agents, for pictures only: the same events that calls leave, at earlier times."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from audit.actions import Action
from audit.record import INSERT, Actor, event_row
from tenants.rls import new_id
from tests.stack import Stack

_SCOPES = (("rooms:read", "GET /rooms", 7), ("meeting:enter", "POST /rooms/meeting/enter", 2))
_FINANCE = ("finance:enter", "POST /rooms/finance/enter")


def live_in(stack: Stack, days: int = 7) -> None:
    dice = random.Random(7)
    grants = stack.sql(
        "SELECT g.tenant_id, g.agent_id, g.member_id, g.id, g.resource_id FROM grants_grant g "
        "JOIN resources_resource r ON r.id = g.resource_id JOIN tenants_tenant t ON t.id = g.tenant_id "
        "WHERE t.slug = 'acme' AND r.slug = 'office' AND g.ended_at IS NULL"
    )
    end = datetime.now(UTC) - timedelta(minutes=4)
    with psycopg.connect(stack.database_dsn) as connection:
        for grant in grants:
            for hour in range(days * 24):
                at = end - timedelta(hours=hour)
                busy = 9 if 7 <= at.hour <= 18 else 2
                for _ in range(dice.randrange(busy)):
                    _call(connection, grant, at - timedelta(seconds=dice.randrange(3600)), dice)


def _call(
    connection: psycopg.Connection, grant: tuple[UUID, UUID, UUID | None, UUID, UUID], at: datetime, dice: random.Random
) -> None:
    tenant, agent, member, given, resource = grant
    refused = dice.random() < 0.03
    scope, operation = _FINANCE if refused else dice.choices(_SCOPES, [weight for *_, weight in _SCOPES])[0][:2]
    row = event_row(
        Action.CALL_REFUSED if refused else Action.CALL_ALLOWED,
        tenant_id=tenant,
        actor=Actor("agent", str(agent)),
        agent_id=agent,
        member_id=member,
        grant_id=given,
        resource_id=resource,
        operation=operation,
        decision="refuse" if refused else "allow",
        reasons=["grant_says_never"] if refused else [],
        call_id=new_id(),
        ip="127.0.0.1",
        details={"scope": scope, "protocol": "rest"},
        at=at,
    )
    connection.execute(INSERT, [Jsonb(value) if isinstance(value, dict | list) else value for value in row])
