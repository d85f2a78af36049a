"""Tidying by the clock. Expiry is enforced when read; this only closes rows and puts it on record."""

from celery import shared_task
from django.utils.timezone import now

from agentauth.grants import unused
from agentauth.grants.models import Approval, Grant
from audit.actions import Action
from audit.record import Actor, record
from tenants.models import Tenant
from tenants.rls import in_tenant

SWEEP = Actor.task("grants.sweep_expired")
SLICE = 500  # rows per transaction: locks are short


@shared_task
def sweep_expired() -> int:
    """Close expired grants and unanswered questions of all tenants. Returns how many."""
    return sum(_sweep(tenant) for tenant in Tenant.objects.all())


@shared_task
def retire_unused() -> int:
    """Retire agents that introduced themselves and were not used for long, of all tenants. Returns how many."""
    return sum(unused.retire_unused(tenant) for tenant in Tenant.objects.all())


def _sweep(tenant: Tenant) -> int:
    closed = 0
    while True:
        with in_tenant(tenant.id):
            over = Grant.objects.select_for_update(skip_locked=True).filter(
                tenant=tenant, ended_at=None, expires_at__lte=now()
            )[:SLICE]
            unanswered = Approval.objects.select_for_update(skip_locked=True, of=("self",)).filter(
                tenant=tenant, state=Approval.State.PENDING, expires_at__lte=now()
            )
            grants, approvals = list(over), list(unanswered.select_related("grant")[:SLICE])
            for grant in grants:
                grant.expire(by=SWEEP)
            for approval in approvals:
                _expire(approval)
        closed += len(grants) + len(approvals)
        if len(grants) < SLICE and len(approvals) < SLICE:
            return closed


def _expire(approval: Approval) -> None:
    approval.state = Approval.State.EXPIRED
    approval.save(update_fields=["state"])
    record(
        Action.APPROVAL_EXPIRED,
        tenant_id=approval.tenant_id,
        actor=SWEEP,
        agent_id=approval.grant.agent_id,
        member_id=approval.grant.member_id,
        grant_id=approval.grant_id,
        operation=approval.operation,
        subject_kind="approval",
        subject=str(approval.id),
        args_hash=approval.args_hash,
    )
