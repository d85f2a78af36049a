"""What the clock does to the record: calls whose outcome nobody recorded. Idempotent; names itself as the actor."""

from uuid import UUID

import orjson
from celery import shared_task
from django.db import connection

from audit.actions import Action
from audit.record import Actor, record
from tenants.rls import in_tenant

OUTCOME_MINUTES = 5
_ONE_AT_A_TIME = 0x6C6F7374  # an advisory lock, "lost": two sweeps at once would both find a call open

_OPEN_CALLS = """
SELECT c.call_id, c.agent_id, c.member_id, c.grant_id, c.resource_id, c.operation, c.args_hash, c.ip, c.details::text
FROM audit_event c
WHERE c.tenant_id = %s AND c.action = %s AND c.call_id IS NOT NULL
  AND c.at >= now() - make_interval(secs => %s) AND c.at < now() - make_interval(mins => %s)
  AND NOT EXISTS (
    SELECT FROM audit_event o WHERE o.tenant_id = c.tenant_id AND o.call_id = c.call_id AND o.action = ANY(%s))
"""


@shared_task(name="audit.tasks.close_lost_calls")
def close_lost_calls(hours: float = 1.0) -> int:
    """Record CALL_LOST for calls of the last `hours` that began and, five minutes later, have no outcome.

    The frequent sweep looks back an hour; a rare one looks back further, for the time when no clock was running.
    Returns how many were closed.
    """
    return sum(_close_in(tenant_id, hours) for tenant_id in tenant_ids())


def tenant_ids() -> list[UUID]:
    """Every tenant: a task goes through them one by one, each in its own transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM tenants_tenant ORDER BY id")
        return [tenant_id for (tenant_id,) in cursor]


def _close_in(tenant_id: UUID, hours: float) -> int:
    over = [Action.CALL_FINISHED.value, Action.CALL_LOST.value]
    with in_tenant(tenant_id), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_ONE_AT_A_TIME])
        cursor.execute(_OPEN_CALLS, [tenant_id, Action.CALL_ALLOWED.value, hours * 3600, OUTCOME_MINUTES, over])
        lost = cursor.fetchall()
        for call, agent, member, grant, resource, operation, args_hash, ip, details in lost:
            record(
                Action.CALL_LOST,
                tenant_id=tenant_id,
                actor=Actor.task("close_lost_calls"),
                agent_id=agent,
                member_id=member,
                grant_id=grant,
                resource_id=resource,
                operation=operation,
                outcome="unknown",
                args_hash=args_hash,
                call_id=call,
                ip=ip,
                details=orjson.loads(details),
            )
    return len(lost)
