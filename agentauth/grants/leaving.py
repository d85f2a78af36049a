"""When a person, an agent or a resource leaves: every grant that stood on it ends, in the same transaction."""

from dataclasses import replace

from django.db import transaction
from django.db.models import QuerySet
from django.utils.timezone import now

from agentauth.agents.models import Agent, WrongState, actor_of
from agentauth.grants.models import Grant
from agentauth.resources import publishing
from agentauth.resources.models import Resource
from audit.actions import Action
from audit.record import Actor, record
from tenants.models import Member, Revocation, Role
from tenants.revocation import Ended, revoke
from tenants.roles import require_may_remove


def deactivate(member: Member, *, by: Member) -> Ended:
    """Close this member's door. Raises WrongState for the last owner and for somebody who has left already,
    ValidationError where only an owner may (`tenants.roles`)."""
    with transaction.atomic():
        others = Member.objects.select_for_update().filter(tenant_id=member.tenant_id, deactivated_at=None)
        active = {one.id: one for one in others}
        if member.id not in active:
            raise WrongState("This person has left already.")
        if not any(one.role == Role.OWNER for one in active.values() if one.id != member.id):
            raise WrongState("Somebody must stay owner. Make another person owner first.")
        require_may_remove(active[member.id], by=active.get(by.id, by))
        grants = tokens = 0
        given = Grant.objects.select_for_update().filter(tenant_id=member.tenant_id, member=member, ended_at=None)
        for grant in given:
            ended = grant.end(Grant.EndReason.MEMBER_LEFT, Action.GRANT_REVOKED, actor=actor_of(by), by=by)
            grants, tokens = grants + ended.grants, tokens + ended.tokens
        for agent in Agent.objects.filter(tenant_id=member.tenant_id, owner=member, state=Agent.State.ACTIVE):
            tokens += agent.suspend(by=by, reason=f"Its owner, {member.name}, has left.").tokens
        member.deactivated_at = now()
        member.save(update_fields=["deactivated_at"])
        at = revoke(member.tenant_id, Revocation.Kind.MEMBER, member.id)
        record(
            Action.MEMBER_DEACTIVATED,
            tenant_id=member.tenant_id,
            actor=actor_of(by),
            member_id=member.id,
            subject_kind="member",
            subject=str(member.id),
            details={"grants_ended": grants, "tokens_ended": tokens},
        )
        return Ended(grants=grants, tokens=tokens, at=at)


def retire_agent(agent: Agent, *, by: Member | Actor, reason: str = "") -> Ended:
    """Void this badge for good, and with it whatever it was allowed. Raises WrongState."""
    with transaction.atomic():
        ended = agent.retire(by=by, reason=reason)
        grants = Grant.objects.select_for_update().filter(tenant_id=agent.tenant_id, agent=agent, ended_at=None)
        return replace(ended, grants=_end(grants, Grant.EndReason.AGENT_RETIRED, by))


def retire_resource(resource: Resource, *, by: Member | Actor) -> int:
    """Close it for good, and end what was allowed there. Returns how many grants that were. Raises WrongState."""
    with transaction.atomic():
        publishing.retire(resource, by=by)
        grants = Grant.objects.select_for_update().filter(
            tenant_id=resource.tenant_id, resource=resource, ended_at=None
        )
        return _end(grants, Grant.EndReason.REVOKED, by)


def _end(grants: QuerySet[Grant], reason: Grant.EndReason, by: Member | Actor) -> int:
    person = by if isinstance(by, Member) else None
    return len([grant.end(reason, Action.GRANT_REVOKED, actor=actor_of(by), by=person) for grant in grants])
