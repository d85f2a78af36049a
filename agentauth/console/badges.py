"""What stands on a badge: the agent, whom it acts for, where it may go, until when, and in which state it is."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.utils.timezone import now

from agentauth.agents.badge import verification_line
from agentauth.agents.models import Agent
from agentauth.console.templatetags.look import day, standing
from agentauth.grants.models import Grant, Permission
from tenants.models import Member, Tenant


@dataclass(frozen=True, slots=True)
class Chip:
    """One permission: its words and its risk; `never` where a person said so, `says` "ask" where they are asked."""

    words: str
    risk: str
    says: str = ""


@dataclass(slots=True)
class Room:
    name: str
    chips: list[Chip] = field(default_factory=list)


@dataclass(slots=True)
class Badge:
    id: UUID
    issuer: str
    kind: str
    name: str
    purpose: str
    state: str
    owner: str
    acts_for: str
    rooms: list[Room]
    never: list[Chip]
    nowhere: str
    until: str
    left: str
    days_left: int
    days_total: int
    stamp: str
    stamp_note: str
    line: tuple[str, str]
    just: bool = False


ORDER = {"read": 0, "change": 1, "dangerous": 2}
ASKS = {Permission.Mode.ASK: "ask"}


def live_grants(tenant: Tenant, agents: Iterable[Agent], member: Member | None = None) -> dict[UUID, list[Grant]]:
    """The grants that count now, by agent, with permissions, people and resources at hand: four queries."""
    found = Grant.objects.filter(tenant=tenant, agent__in=list(agents), ended_at=None, expires_at__gt=now())
    if member is not None:
        found = found.filter(member=member)
    found = found.select_related("resource", "member__user", "given_by__user").order_by("given_at")
    grants: dict[UUID, list[Grant]] = {}
    for grant in found.prefetch_related("permissions__scope"):
        grants.setdefault(grant.agent_id, []).append(grant)
    return grants


def chips(grants: Iterable[Grant]) -> tuple[list[Chip], list[Chip]]:
    """What these grants open, mildest first, and what they say never to."""
    opened: dict[tuple[UUID, str], Chip] = {}
    never: dict[tuple[UUID, str], Chip] = {}
    for grant in grants:
        for permission in grant.permissions.all():
            scope, at = permission.scope, (grant.resource_id, permission.scope.name)
            if permission.mode == Permission.Mode.NEVER:
                never[at] = Chip(scope.words, "never")
            elif at not in opened or permission.mode == Permission.Mode.ALWAYS:
                opened[at] = Chip(scope.words, scope.risk, ASKS.get(Permission.Mode(permission.mode), ""))
    by_risk = sorted(opened.values(), key=lambda chip: (ORDER[chip.risk], chip.words))
    return by_risk, [chip for at, chip in never.items() if at not in opened]


def badge(tenant: Tenant, agent: Agent, grants: list[Grant], *, just: bool = False) -> Badge:
    """The badge of one agent with the grants given. `agent` has owner and credentials at hand."""
    agent.tenant = tenant
    state = standing(agent)
    rooms: dict[str, Room] = {}
    for grant in grants:
        name = grant.resource.name
        rooms.setdefault(name, Room(name)).chips = chips(one for one in grants if one.resource.name == name)[0]
    ends = agent.valid_until
    left, total = _days(agent.created_at, ends)
    first, second = verification_line(agent)
    return Badge(
        id=agent.id,
        issuer=tenant.name,
        kind="Agent badge",
        name=agent.name,
        purpose=agent.purpose,
        state=state,
        owner=agent.owner.name if agent.owner else "nobody yet",
        acts_for=_acts_for(agent, grants),
        rooms=[room for room in rooms.values() if room.chips],
        never=list(dict.fromkeys(chips(grants)[1])),  # the same words at two places are said once
        nowhere="Nowhere." if state == "revoked" else "Nowhere yet. A badge opens no door by itself.",
        until=day(ends) if ends else "no end",
        left=_left(state, left, total, ends),
        days_left=max(left, 0),
        days_total=total,
        stamp=_STAMPS[state],
        stamp_note=_stamp_note(agent, state),
        line=(first, second),
        just=just,
    )


_STAMPS = {"active": "Active", "suspended": "Suspended", "draft": "Draft", "expired": "Expired", "revoked": "Void"}


def _acts_for(agent: Agent, grants: list[Grant]) -> str:
    people: dict[UUID | None, str] = {grant.member_id: str(grant.member.name) for grant in grants if grant.member}
    if len(people) == 1:
        return next(iter(people.values()))
    if people:
        return f"{len(people)} people"
    return "itself" if agent.kind == Agent.Kind.AUTONOMOUS else "whoever agrees"


def _stamp_note(agent: Agent, state: str) -> str:
    if state == "draft":
        return "not approved"
    if state == "expired" and agent.valid_until:
        return day(agent.valid_until)
    since = f"{agent.state_since.day} {agent.state_since:%b}"
    by = agent.state_by.name.split()[0] if agent.state_by and state != "active" else ""
    return f"by {by}, {since}" if by else f"since {since}"


def _left(state: str, left: int, total: int, ends: datetime | None) -> str:
    if state == "revoked":
        return ""
    if ends is None:
        return "ends when somebody stops it"
    return f"{left} of {total} days left" if left > 0 else "last day" if ends > now() else "run out"


def _days(start: datetime, end: datetime | None) -> tuple[int, int]:
    """Whole days left and in all."""
    if end is None:
        return 0, 0
    return (end - now()).days, max(1, (end - start).days)
