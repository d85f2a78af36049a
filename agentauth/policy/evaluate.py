"""The decision. Whoever must be stopped is stopped first; then what was asked for; then whether it was granted."""

from collections.abc import Mapping
from typing import Any

from agentauth.policy.conditions import sign_in, unmet
from agentauth.policy.conditions.rule import BadRule
from agentauth.policy.decision import Decision, Effect, Reason, refuse
from agentauth.policy.facts import RISKS, AgentFacts, CallFacts, Facts, GrantFacts, OperationFacts


def evaluate(facts: Facts) -> Decision:
    """May this call pass? Every refusal names all reasons of its step, the worst first."""
    stopped = standing(facts)
    if stopped:
        return refuse(*stopped)
    if facts.operation is None:
        return refuse(Reason.OPERATION_UNKNOWN)
    if facts.operation.held:
        return refuse(Reason.OPERATION_HELD)
    if not facts.operation.scope:
        return refuse(Reason.OPERATION_UNMAPPED)
    assert facts.agent is not None and facts.grant is not None  # `standing` has seen both
    scope = facts.operation.scope
    lacking = _lacking(facts.operation, scope, facts.agent, facts.grant, facts.token_scopes)
    if facts.token_calls is not None and (facts.operation.key, facts.call.args_hash) not in facts.token_calls:
        lacking += (Reason.TOKEN_OTHER_CALL,)
    lacking += unmet(_limits(facts.operation, facts.grant), facts.call)
    if lacking:
        return Decision(Effect.REFUSE, lacking, scope, _sign_in(facts, lacking))
    if facts.grant.modes[scope] == "ask" and not facts.call.approved:
        return Decision(Effect.ASK, (Reason.NEEDS_APPROVAL,), scope)
    return Decision(Effect.ALLOW, (), scope)


def evaluate_protocol(facts: Facts) -> Decision:
    """May the agent exchange protocol messages that do nothing at this resource: introduce itself, list, ping?

    Any live grant is enough; its constraints hold all the same.
    """
    stopped = standing(facts)
    if not stopped and facts.grant is not None:
        stopped = unmet(facts.grant.constraints, facts.call, spends=False)
    return refuse(*stopped) if stopped else Decision(Effect.ALLOW)


def may_be_seen(facts: Facts) -> bool:
    """Would some call of this operation pass or be asked about? For lists that show only what can be done."""
    operation = facts.operation
    if standing(facts) or operation is None or operation.held or not operation.scope:
        return False
    if facts.token_calls is not None and operation.key not in {key for key, _ in facts.token_calls}:
        return False
    assert facts.agent is not None and facts.grant is not None
    return not _lacking(operation, operation.scope, facts.agent, facts.grant, facts.token_scopes)


def standing(facts: Facts) -> tuple[Reason, ...]:
    """Why nothing at all may pass: the tenant, the agent, the person, the resource or the grant."""
    found = []
    if facts.tenant_suspended:
        found.append(Reason.TENANT_SUSPENDED)
    found += _agent(facts.agent, facts.call)
    if facts.member_active is False:
        found.append(Reason.MEMBER_INACTIVE)
    if not facts.resource_published:
        found.append(Reason.RESOURCE_NOT_PUBLISHED)
    found += _grant(facts.grant, facts.call)
    return tuple(found)


def _agent(agent: AgentFacts | None, call: CallFacts) -> list[Reason]:
    if agent is None:
        return [Reason.AGENT_UNKNOWN]
    if agent.state != "active":
        states = {"suspended": Reason.AGENT_SUSPENDED, "retired": Reason.AGENT_RETIRED}
        return [states.get(agent.state, Reason.AGENT_NOT_ACTIVE)]
    if agent.valid_until is not None and agent.valid_until <= call.now:
        return [Reason.AGENT_EXPIRED]
    return []


def _grant(grant: GrantFacts | None, call: CallFacts) -> list[Reason]:
    if grant is None:
        return [Reason.GRANT_MISSING]
    if grant.ended:
        return [Reason.GRANT_ENDED]
    return [Reason.GRANT_EXPIRED] if grant.expires_at <= call.now else []


def _lacking(
    operation: OperationFacts, scope: str, agent: AgentFacts, grant: GrantFacts, token_scopes: frozenset[str]
) -> tuple[Reason, ...]:
    found = []
    mode = grant.modes.get(scope)
    if not is_under_ceiling(agent, scope, operation.risk):
        found.append(Reason.ABOVE_CEILING)
    if mode is None:
        found.append(Reason.GRANT_LACKS_SCOPE)
    elif mode not in ("always", "ask"):
        found.append(Reason.GRANT_SAYS_NEVER)
    if scope not in token_scopes:
        found.append(Reason.SCOPE_MISSING)
    return tuple(found)


def _limits(operation: OperationFacts, grant: GrantFacts) -> Mapping[str, Any]:
    """The grant's constraints, with what the operation itself demands of the sign-in."""
    if not operation.sign_in:
        return grant.constraints
    try:
        return {**grant.constraints, "sign_in": sign_in.strictest(grant.constraints.get("sign_in"), operation.sign_in)}
    except BadRule:
        return {**grant.constraints, "sign_in": {"unknown": True}}  # refused, with the reason for it


def _sign_in(facts: Facts, lacking: tuple[Reason, ...]) -> Mapping[str, Any]:
    """What a better sign-in would have to be, where that is all that is lacking."""
    if lacking != (Reason.CONSTRAINT_SIGN_IN,) or facts.operation is None or facts.grant is None:
        return {}
    found: Mapping[str, Any] = _limits(facts.operation, facts.grant)["sign_in"]
    return found


def is_under_ceiling(agent: AgentFacts, scope: str, risk: str) -> bool:
    """May this agent ever be granted `scope` of this risk class?"""
    if RISKS.get(risk, 99) > RISKS.get(agent.ceiling_risk, -1):
        return False
    return agent.ceiling is None or scope in agent.ceiling
