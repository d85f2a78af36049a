"""Whether a call may pass: the facts about it, gathered from what this worker holds."""

from dataclasses import replace
from datetime import datetime

from agentauth.gateway.snapshot import Grant, Resource, Snapshots, Tenant
from agentauth.gateway.who import Principal
from agentauth.policy.facts import AgentFacts, CallFacts, Facts, OperationFacts


async def gather(
    snapshots: Snapshots,
    tenant: Tenant,
    resource: Resource,
    who: Principal,
    *,
    operation: OperationFacts | None,
    call: CallFacts,
) -> Facts:
    """Everything that `policy` must know. A grant that is not for exactly these three is none."""
    grant = await snapshots.grant(tenant.id, who.grant_id)
    if grant is not None and not _is_theirs(grant, resource, who):
        grant = None
    return Facts(
        call=replace(call, acr=who.acr, auth_time=who.auth_time),
        agent=await _weakest_agent(snapshots, tenant, resource, who, call.now),
        operation=operation,
        grant=grant.facts if grant else None,
        token_scopes=who.scopes,
        token_calls=who.calls,
        member_active=grant.member_active if grant else None,
        resource_published=resource.published,
        tenant_suspended=tenant.suspended,
    )


def _is_theirs(grant: Grant, resource: Resource, who: Principal) -> bool:
    return (grant.agent_id, grant.resource_id, grant.member_id) == (who.agent_id, resource.id, who.member_id)


async def _weakest_agent(
    snapshots: Snapshots, tenant: Tenant, resource: Resource, who: Principal, now: datetime
) -> AgentFacts | None:
    """The agent that calls; or one before it in the chain, if that one must not act any more."""
    caller = await snapshots.agent(tenant.id, who.agent_id)
    if caller is None or caller.client_id != who.client_id:
        return None
    for before in who.chain[1:]:
        agent = await snapshots.agent(tenant.id, before)
        if agent is None:
            return None
        if agent.state != "active" or (agent.valid_until is not None and agent.valid_until <= now):
            return agent.facts_for(resource)
    return caller.facts_for(resource)


def ends_at(facts: Facts) -> datetime | None:
    """When an open stream under these facts must end, if nothing ends it before."""
    ends = [facts.grant.expires_at] if facts.grant else []
    if facts.agent is not None and facts.agent.valid_until is not None:
        ends.append(facts.agent.valid_until)
    return min(ends) if ends else None
