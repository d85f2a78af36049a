"""When a person leaves: every grant they gave ends and agents that only they own stop, in one transaction."""

from django.db import transaction
from django.utils.timezone import now

from agentauth.agents.models import Agent, WrongState, actor_of
from agentauth.grants.models import Grant
from audit.actions import Action
from audit.record import record
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
