"""The only way into the record: an event in the transaction of what it tells about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
from django.db import connection

from audit.actions import Action
from tenants.rls import new_id

COLUMNS = (
    "id",
    "tenant_id",
    "at",
    "action",
    "actor_kind",
    "actor",
    "agent_id",
    "member_id",
    "grant_id",
    "resource_id",
    "operation",
    "subject_kind",
    "subject",
    "decision",
    "reasons",
    "outcome",
    "status",
    "latency_us",
    "args_hash",
    "call_id",
    "ip",
    "details",
    "body",
)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did it. There is no default: a task names itself, an unknown caller is `anonymous`."""

    kind: str  # member, agent, operator, task, anonymous
    id: str

    @classmethod
    def task(cls, name: str) -> "Actor":
        return cls("task", name)


ANONYMOUS = Actor("anonymous", "")


class NotInTransaction(RuntimeError):
    """`record` was called where its event could outlive, or be lost without, the change it tells about."""


def event_row(
    action: Action,
    *,
    tenant_id: UUID,
    actor: Actor,
    agent_id: UUID | None = None,
    member_id: UUID | None = None,
    grant_id: UUID | None = None,
    resource_id: UUID | None = None,
    operation: str = "",
    subject_kind: str = "",
    subject: str = "",
    decision: str = "",
    reasons: Sequence[str] = (),
    outcome: str = "",
    status: int | None = None,
    latency_us: int | None = None,
    args_hash: str = "",
    call_id: UUID | None = None,
    ip: str = "",
    details: Mapping[str, Any] | None = None,
    at: datetime | None = None,
) -> tuple[Any, ...]:
    """The event as a row in the order of `COLUMNS`; `body` is the canonical JSON that the log hashes.

    Pure, so that the gateway can write many in one statement. Keys are sorted, times are UTC with microseconds, empty
    fields are left out. No secret may be in `details`.
    """
    event_id, at = new_id(), at or datetime.now(UTC)
    named = {
        "id": event_id,
        "tenant": tenant_id,
        "at": at,
        "action": action.value,
        "actor": {"kind": actor.kind, "id": actor.id},
        "agent": agent_id,
        "member": member_id,
        "grant": grant_id,
        "resource": resource_id,
        "operation": operation,
        "subject": {"kind": subject_kind, "id": subject} if subject else None,
        "decision": decision,
        "reasons": list(reasons),
        "outcome": outcome,
        "status": status,
        "latency_us": latency_us,
        "args_hash": args_hash,
        "call": call_id,
        "ip": ip,
        "details": dict(details) if details else None,
    }
    said = {key: value for key, value in named.items() if value not in (None, "", [])}
    body = orjson.dumps(said, option=orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z).decode()
    return (
        event_id,
        tenant_id,
        at,
        action.value,
        actor.kind,
        actor.id,
        agent_id,
        member_id,
        grant_id,
        resource_id,
        operation,
        subject_kind,
        subject,
        decision,
        orjson.dumps(list(reasons)).decode(),
        outcome,
        status,
        latency_us,
        args_hash,
        call_id,
        ip,
        orjson.dumps(dict(details) if details else {}).decode(),
        body,
    )


INSERT = (
    f"WITH event AS (INSERT INTO audit_event ({', '.join(COLUMNS)}) VALUES ({', '.join(['%s'] * len(COLUMNS))}) "
    "RETURNING id, tenant_id) INSERT INTO audit_unsequenced (id, tenant_id) SELECT id, tenant_id FROM event"
)


def record(action: Action, *, tenant_id: UUID, actor: Actor, **fields: Any) -> UUID:
    """Write one event in the current transaction, inside the tenant's row-level security. Returns its id.

    Fields are those of `event_row`. Raises NotInTransaction outside a transaction.
    """
    if not connection.in_atomic_block:
        raise NotInTransaction(action)
    row = event_row(action, tenant_id=tenant_id, actor=actor, **fields)
    with connection.cursor() as cursor:
        cursor.execute(INSERT, row)
    event_id: UUID = row[0]
    return event_id
