"""Who wants an agent that nobody has approved yet: people who let it in, and people who were told to wait."""

from collections.abc import Iterable
from uuid import UUID

from django.db.models import Exists, OuterRef, QuerySet

from agentauth.agents.models import Agent
from agentauth.grants.models import Grant
from audit.actions import Action
from audit.models import Event
from tenants.models import Member, Tenant

_MOST = 2000  # lines of the record that are looked at


def only_wanted(found: QuerySet[Agent]) -> QuerySet[Agent]:
    """Those of `found`, which are few and not approved, that at least one person wants."""
    here = {"tenant_id": OuterRef("tenant_id"), "agent_id": OuterRef("id")}
    told = Event.objects.filter(**here, action=Action.AUTHORIZATION_REFUSED, reasons=["approval_first"])
    return found.filter(Exists(Grant.objects.filter(**here).exclude(member=None)) | Exists(told))


def wanted_by(tenant: Tenant, agents: Iterable[Agent]) -> dict[UUID, list[str]]:
    """Names by agent, for those of `agents` that are not approved."""
    ids = [agent.id for agent in agents if not agent.is_approved]
    if not ids:
        return {}
    granted = Grant.objects.filter(tenant=tenant, agent_id__in=ids).exclude(member=None)
    told = Event.objects.filter(
        tenant=tenant, agent_id__in=ids, action=Action.AUTHORIZATION_REFUSED, reasons=["approval_first"]
    )
    pairs = {*granted.values_list("agent_id", "member_id"), *told.values_list("agent_id", "member_id")[:_MOST]}
    members = Member.objects.filter(tenant=tenant, id__in={member for _, member in pairs}).select_related("user")
    names = {member.id: member.name for member in members}
    found: dict[UUID, list[str]] = {agent_id: [] for agent_id in ids}
    for agent_id, member_id in pairs:
        if agent_id is not None and member_id in names:
            found[agent_id].append(names[member_id])
    return {agent_id: sorted(people) for agent_id, people in found.items()}
