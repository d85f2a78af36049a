"""Which clients may introduce themselves to a tenant, and what they may do before an admin has answered for them."""

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet

from agentauth.agents.models import RISKS, Agent, actor_of
from audit.actions import Action
from audit.record import record
from tenants.models import Member, Tenant
from tenants.notice import announce

_FIELDS = ("open_registration", "approval_first", "unapproved_ceiling")


def set_introductions(
    tenant: Tenant, *, by: Member, open_registration: bool, approval_first: bool, unapproved_ceiling: str
) -> None:
    """From now on, also for those that are here and not approved, unless an admin has limited one further.

    Raises ValidationError with the field's name. In the tenant's transaction.
    """
    if unapproved_ceiling not in RISKS:
        raise ValidationError({"unapproved_ceiling": f"Use one of {', '.join(RISKS)}."})
    wanted = {
        "open_registration": open_registration,
        "approval_first": approval_first,
        "unapproved_ceiling": unapproved_ceiling,
    }
    with transaction.atomic():
        now_there = Tenant.objects.select_for_update().get(pk=tenant.pk)
        before = {name: getattr(now_there, name) for name in _FIELDS}
        changed = {name: value for name, value in wanted.items() if before[name] != value}
        for name, value in wanted.items():
            setattr(tenant, name, value)
        if not changed:
            return
        Tenant.objects.filter(pk=tenant.pk).update(**changed)
        if "unapproved_ceiling" in changed:
            moved = unapproved(tenant).filter(ceiling_risk=before["unapproved_ceiling"])
            for agent in moved.select_for_update(of=("self",)):
                agent.ceiling_risk = unapproved_ceiling
                agent.save(update_fields=["ceiling_risk"])
                agent.announce()
        record(
            Action.TENANT_CHANGED,
            tenant_id=tenant.id,
            actor=actor_of(by),
            subject_kind="tenant",
            subject=str(tenant.id),
            details={"before": {name: before[name] for name in changed}, "after": changed},
        )
        announce(tenant.id, "config", f"tenant:{tenant.id}")


def unapproved(tenant: Tenant) -> QuerySet[Agent]:
    """Seen, not approved."""
    found = Agent.objects.filter(tenant=tenant, approved_at=None).exclude(registration=Agent.Registration.ADMIN)
    return found.exclude(state=Agent.State.RETIRED)


def is_answered_for(agent: Agent) -> bool:
    """Did an admin register it, or approve it since?"""
    return agent.is_approved or agent.registration == Agent.Registration.ADMIN


def waits_for_approval(agent: Agent) -> bool:
    """May it do nothing at all before an admin has answered for it?"""
    return not is_answered_for(agent) and agent.tenant.approval_first
