"""Trying a badge at a door without walking through it: what the rules say now, step by step. Nothing is called."""

from dataclasses import dataclass
from uuid import UUID

from django.utils.timezone import now

from agentauth.agents.models import Agent
from agentauth.grants.granting import live_grant
from agentauth.grants.models import Grant
from agentauth.policy.conditions import unmet
from agentauth.policy.conditions.sign_in import LEVELS
from agentauth.policy.decision import Decision
from agentauth.policy.evaluate import evaluate
from agentauth.policy.facts import AgentFacts, CallFacts, Facts, GrantFacts, OperationFacts
from agentauth.resources.ceilings import may_ever
from agentauth.resources.models import Operation, Resource
from tenants.models import Member, Tenant


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was looked at. `ok` is None where it was not reached."""

    words: str
    found: str
    ok: bool | None


@dataclass(frozen=True, slots=True)
class Answer:
    decision: Decision
    headline: str
    steps: list[Step]


def operations(tenant: Tenant, limit: int = 200) -> list[Operation]:
    """What can be tried: operations of published resources, as people read them."""
    found = Operation.objects.filter(tenant=tenant, resource__state=Resource.State.PUBLISHED)
    found = found.exclude(resource__kind=Resource.Kind.MANAGEMENT).select_related("resource", "scope")
    return list(found.order_by("resource__name", "key")[:limit])


def may_it(tenant: Tenant, agent: Agent, operation: Operation, member: Member | None) -> Answer:
    """The decision about this call if it came this second, with a token of all granted scopes and no approval."""
    grant = live_grant(agent, operation.resource, member)
    decision = evaluate(_facts(tenant, agent, operation, grant, member))
    return Answer(decision, _headline(decision, member), _steps(agent, operation, grant, member))


def _facts(tenant: Tenant, agent: Agent, operation: Operation, grant: Grant | None, member: Member | None) -> Facts:
    scope, modes = operation.scope, _modes(grant)
    listed = None
    if agent.ceiling.exists() or agent.registration == Agent.Registration.ADMIN:
        of_resource = agent.ceiling.filter(scope__resource=operation.resource)
        listed = frozenset(of_resource.values_list("scope__name", flat=True))
    return Facts(
        call=_call(),
        agent=AgentFacts(agent.state, agent.valid_until, agent.ceiling_risk, listed),
        operation=OperationFacts(
            operation.key,
            scope.name if scope else None,
            scope.risk if scope else "",
            held=operation.changed_at is not None,
        ),
        grant=GrantFacts(grant.expires_at, False, modes, grant.constraints) if grant else None,
        token_scopes=frozenset(modes),
        member_active=member.is_active if member else None,
        resource_published=operation.resource.state == Resource.State.PUBLISHED,
        tenant_suspended=tenant.suspended_at is not None,
    )


def _call() -> CallFacts:
    """By a person who has signed in this second, as well as can be."""
    return CallFacts(now=now(), calls_today=0, acr=LEVELS[-1], auth_time=int(now().timestamp()))


def _modes(grant: Grant | None) -> dict[str, str]:
    return {row.scope.name: row.mode for row in grant.permissions.select_related("scope")} if grant else {}


def _headline(decision: Decision, member: Member | None) -> str:
    if decision.allowed:
        return "It may."
    if decision.asked:
        return f"It may, each time {member.name if member else 'somebody'} says yes."
    return decision.words


def _steps(agent: Agent, operation: Operation, grant: Grant | None, member: Member | None) -> list[Step]:
    """In the order in which a call meets them; after the first that fails, the rest is not reached."""
    scope = operation.scope
    mode = _modes(grant).get(scope.name, "") if scope else ""
    whose = f"{member.name.split()[0]}’s grant" if member else "Its rule"
    if grant:
        whose += f" of {grant.given_at.day} {grant.given_at:%b}"
    door = "changed, waits for a review" if operation.changed_at else f"scope {scope.name}" if scope else "no scope yet"
    looked: list[tuple[str, str, bool]] = [
        ("Its badge", agent.get_state_display().lower() if agent.is_active else "not valid", agent.is_active),
        (f"{operation.resource.name} has this door", door, bool(scope) and operation.changed_at is None),
        ("Ceiling of the agent", "includes it", True)
        if scope and may_ever(agent, scope)
        else ("Ceiling of the agent", "does not include it", False),
        (whose, mode or ("does not name it" if grant else "nobody has granted anything"), mode in ("always", "ask")),
    ]
    if grant and grant.constraints:
        broken = unmet(grant.constraints, _call())
        looked.append(("Limits of the grant", " ".join(one.words for one in broken) or "kept", not broken))
    steps, reached = [], True
    for words, found, ok in looked:
        steps.append(Step(words, found if reached else "not reached", ok if reached else None))
        reached = reached and ok
    return steps


def asked(
    agent: Agent, found: list[Operation], members: list[Member], person: str, operation: str
) -> tuple[Operation, Member | None] | None:
    """What a form asked about, if it is something that can be asked."""
    chosen = next((one for one in found if str(one.id) == operation), None)
    member = next((one for one in members if str(one.id) == person), None)
    if chosen is None or (member is None and agent.kind != Agent.Kind.AUTONOMOUS):
        return None
    return chosen, None if agent.kind == Agent.Kind.AUTONOMOUS else member


def first_person(agent: Agent, grants: list[Grant]) -> UUID | None:
    """Whom the form names before anybody chose: who has granted something, else the owner."""
    return next((grant.member_id for grant in grants if grant.member_id), agent.owner_id)
