"""Writing to the record and reading what the sequencer made of it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db import connections

from audit.actions import Action
from audit.record import Actor, record
from tenants.rls import in_tenant

WRITER = Actor.task("tests.audit")


def write(tenant_id: UUID, count: int = 1, action: Action = Action.AGENT_CHANGED, **fields: Any) -> list[UUID]:
    """`count` events, committed together."""
    with in_tenant(tenant_id):
        return [record(action, tenant_id=tenant_id, actor=WRITER, **fields) for _ in range(count)]


def leaves(tenant_id: UUID) -> list[tuple[int, UUID, bytes]]:
    """Index, event and hash of every leaf, in order."""
    with connections["sequencer"].cursor() as cursor:
        cursor.execute("SELECT index, event_id, hash FROM audit_leaf WHERE tenant_id = %s ORDER BY index", [tenant_id])
        return [(index, event, bytes(found)) for index, event, found in cursor]


def waiting() -> int:
    with connections["sequencer"].cursor() as cursor:
        cursor.execute("SELECT count(*) FROM audit_unsequenced")
        found: int = cursor.fetchone()[0]
        return found


def as_superuser(statement: str, parameters: list[Any] | dict[str, Any] | None = None) -> int:
    """What somebody does who holds the database itself: the triggers that forbid it are off. Returns rows touched."""
    import psycopg

    params = connections["owner"].get_connection_params()
    with psycopg.connect(host=params["host"], dbname=params["dbname"], user="postgres") as connection:
        connection.execute("SET session_replication_role = replica")
        return connection.execute(statement, parameters or []).rowcount
