"""An agent's ceiling: the most it may ever be granted, in scopes of this tenant's resources."""

from collections.abc import Collection

from django.db import transaction

from agentauth.agents.models import RISKS, Agent, actor_of
from agentauth.resources.models import Ceiling, Scope
from audit.actions import Action
from audit.record import record
from tenants.models import Member


def set_ceiling(agent: Agent, scopes: Collection[Scope], *, by: Member) -> None:
    """Exactly these scopes from now on. What grants already give above it counts for nothing: decided at each call."""
    with transaction.atomic():
        Ceiling.objects.filter(tenant_id=agent.tenant_id, agent=agent).delete()
        rows = [Ceiling(tenant_id=agent.tenant_id, agent=agent, scope=scope) for scope in scopes]
        Ceiling.objects.bulk_create(rows)
        record(
            Action.AGENT_CHANGED,
            tenant_id=agent.tenant_id,
            actor=actor_of(by),
            agent_id=agent.id,
            subject_kind="agent",
            subject=str(agent.id),
            details={"ceiling": sorted(f"{scope.resource_id}/{scope.name}" for scope in scopes)},
        )
        agent.announce()


def may_ever(agent: Agent, scope: Scope, listed: Collection[object] | None = None) -> bool:
    """Is `scope` under the agent's ceiling? `listed` saves the query: the scope ids in its ceiling.

    Nothing above `ceiling_risk`. Agents that an admin registered have a list; those that introduced themselves have
    only the risk class, until an admin writes them a list.
    """
    if RISKS.index(scope.risk) > RISKS.index(agent.ceiling_risk):
        return False
    if listed is None:
        listed = set(Ceiling.objects.filter(tenant_id=agent.tenant_id, agent=agent).values_list("scope_id", flat=True))
    if not listed and agent.registration != Agent.Registration.ADMIN:
        return True
    return scope.id in listed
