"""The six questions of the home page, answered for one tenant. Every number here is the length of a list elsewhere."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.core.cache import cache
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import ExtractHour
from django.utils.timezone import now

from agentauth.agents.models import Agent, Credential
from agentauth.console.badges import Chip, chips, live_grants
from agentauth.console.telling import CALLS, Line, tell
from agentauth.grants.models import Approval, Grant, Permission
from agentauth.resources.models import Operation, Resource
from audit.actions import Action
from audit.models import Event
from tenants.models import Member, Tenant

SOON = timedelta(days=14)
MONTH = timedelta(days=31)
THIS_WEEK = timedelta(days=7)
AT_WORK = timedelta(minutes=1)
SETTLING = timedelta(minutes=10)  # after this no event of an hour that is over is still on its way
SHOWN = 8
CHIPS = 4
_KINDS: dict[str, str] = {Action.CALL_ALLOWED: "allow", Action.CALL_ASKED: "ask", Action.CALL_REFUSED: "deny"}


@dataclass(slots=True)
class Day:
    """One agent's calls of today (UTC) by hour and decision."""

    hours: dict[int, dict[str, int]] = field(default_factory=dict)

    def add(self, hour: int, kind: str, number: int) -> None:
        self.hours.setdefault(hour, {})[kind] = number

    def total(self, kind: str = "") -> int:
        return sum(n for hour in self.hours.values() for name, n in hour.items() if kind in ("", name))

    @property
    def allowed(self) -> int:
        return self.total("allow")

    @property
    def asked(self) -> int:
        return self.total("ask")

    @property
    def denied(self) -> int:
        return self.total("deny")

    @property
    def refused(self) -> str:
        return f"{self.denied:,} refused" if self.denied else "none refused"


@dataclass(frozen=True, slots=True)
class Need:
    """Why somebody should look at this agent. `rank` 0 comes first."""

    rank: int
    words: str
    icon: str
    look: str  # ask or deny: which signal


@dataclass(slots=True)
class Row:
    """One agent's six answers."""

    agent: Agent
    need: Need | None
    chips: list[Chip]
    more: int
    why: str
    granted: str
    day: Day
    last: Line | None


@dataclass(slots=True)
class Six:
    """The heads of the six columns."""

    agents: dict[str, int]
    at_work: int
    owners: int
    ownerless: int
    permissions: int
    dangerous: int
    grants: int
    without_purpose: int
    ending: int
    calls: int
    refused: int
    asked: int


def six(tenant: Tenant, days: dict[UUID, Day]) -> Six:
    states = Agent.objects.filter(tenant=tenant).aggregate(
        all=Count("id"),
        active=Count("id", filter=ACTIVE),
        suspended=Count("id", filter=Q(state=Agent.State.SUSPENDED)),
        draft=Count("id", filter=UNAPPROVED),
        void=Count("id", filter=Q(state=Agent.State.RETIRED)),
        owners=Count("owner", filter=~Q(state=Agent.State.RETIRED), distinct=True),
        ownerless=Count("id", filter=OWNERLESS),
    )
    grants = Grant.objects.filter(tenant=tenant, ended_at=None, expires_at__gt=now()).aggregate(
        all=Count("id"),
        ending=Count("id", filter=Q(expires_at__lt=now() + THIS_WEEK)),
        without=Count("id", filter=Q(purpose="", agent__purpose="")),
    )
    open_ones = Permission.objects.filter(
        tenant=tenant, grant__ended_at=None, grant__expires_at__gt=now(), mode__in=("always", "ask")
    ).aggregate(all=Count("id"), dangerous=Count("id", filter=Q(scope__risk="dangerous")))
    recent = Event.objects.filter(tenant=tenant, action__in=CALLS, at__gt=now() - AT_WORK)
    return Six(
        agents=states,
        at_work=recent.exclude(agent_id=None).values("agent_id").distinct().count(),
        owners=states["owners"],
        ownerless=states["ownerless"],
        permissions=open_ones["all"],
        dangerous=open_ones["dangerous"],
        grants=grants["all"],
        without_purpose=grants["without"],
        ending=grants["ending"],
        calls=sum(day.total() for day in days.values()),
        refused=sum(day.total("deny") for day in days.values()),
        asked=sum(day.total("ask") for day in days.values()),
    )


UNAPPROVED = Q(approved_at=None) & ~Q(state__in=(Agent.State.RETIRED, Agent.State.SUSPENDED))
ACTIVE = Q(state=Agent.State.ACTIVE) & ~Q(approved_at=None)
OWNERLESS = Q(owner__deactivated_at__isnull=False) & ~Q(state=Agent.State.RETIRED)


def today(tenant: Tenant, agents: Iterable[Agent] | None = None) -> dict[UUID, Day]:
    """The calls since midnight UTC, by agent and hour. Unknown callers stand under the nil UUID."""
    midnight = now().replace(hour=0, minute=0, second=0, microsecond=0)
    calls = Event.objects.filter(tenant=tenant, action__in=CALLS)
    if agents is not None:
        return _days(_counts(calls.filter(agent_id__in=[agent.id for agent in agents], at__gte=midnight)))
    # Hours that are over do not change, so a busy tenant's morning is counted once and not with every look at the page
    settled = (now() - SETTLING).replace(minute=0, second=0, microsecond=0)
    kept: list[_Count] = []
    if settled > midnight:
        key = f"calls-today/{tenant.id}/{settled:%Y%m%d%H}"
        found = cache.get(key)
        kept = _counts(calls.filter(at__gte=midnight, at__lt=settled)) if found is None else found
        if found is None:
            cache.set(key, kept, timeout=3600)
    return _days([*kept, *_counts(calls.filter(at__gte=max(midnight, settled)))])


_Count = tuple[UUID | None, str, int, int]  # agent, action, hour, number


def _counts(calls: QuerySet[Event]) -> list[_Count]:
    rows = calls.annotate(hour=ExtractHour("at")).values("agent_id", "action", "hour")
    return list(rows.annotate(number=Count("id")).order_by().values_list("agent_id", "action", "hour", "number"))


def _days(counts: Iterable[_Count]) -> dict[UUID, Day]:
    days: dict[UUID, Day] = {}
    for agent_id, action, hour, number in counts:
        days.setdefault(agent_id or UUID(int=0), Day()).add(hour, _KINDS[action], number)
    return days


def last_lines(tenant: Tenant, agents: Iterable[Agent]) -> dict[UUID, Line]:
    """The last call of each of these agents in a month, told."""
    calls = Event.objects.filter(tenant=tenant, action__in=CALLS, at__gt=now() - MONTH, agent_id=OuterRef("id"))
    newest = Subquery(calls.order_by("-at").values("id")[:1])  # an index look-up each, however many calls there were
    asked = Agent.objects.filter(tenant=tenant, id__in=[agent.id for agent in agents])
    ids = [found for found in asked.values_list(newest, flat=True) if found]
    events = Event.objects.filter(tenant=tenant, id__in=ids, at__gt=now() - MONTH)
    return {line.event.agent_id: line for line in tell(tenant, events) if line.event.agent_id}


def rows(tenant: Tenant, days: dict[UUID, Day]) -> list[Row]:
    """Those that need someone first, then those that were at work last, then the suspended."""
    standing = Agent.objects.filter(tenant=tenant).exclude(state=Agent.State.RETIRED)
    needs = _needs(tenant, days)
    ids = set(needs) | set(sorted(days, key=lambda one: -days[one].total())[: SHOWN * 2])
    ids |= set(standing.order_by("-created_at").values_list("id", flat=True)[: SHOWN * 2])
    agents = list(standing.filter(id__in=ids).select_related("owner__user", "state_by__user"))
    lines = last_lines(tenant, agents)
    quiet = datetime.min.replace(tzinfo=now().tzinfo)

    def order(agent: Agent) -> tuple[int, int, float]:
        need, line = needs.get(agent.id), lines.get(agent.id)
        suspended = agent.state == Agent.State.SUSPENDED
        return suspended, need.rank if need else 9, -(line.at if line else quiet).timestamp() if line else 0.0

    agents = sorted(agents, key=order)[:SHOWN]
    grants = live_grants(tenant, agents)
    return [
        _row(agent, needs.get(agent.id), grants.get(agent.id, []), days.get(agent.id, Day()), lines.get(agent.id))
        for agent in agents
    ]


def _row(agent: Agent, need: Need | None, grants: list[Grant], day: Day, last: Line | None) -> Row:
    opened, never = chips(grants)
    shown = list(dict.fromkeys([*opened, *never]))  # the same words at two places are said once
    return Row(
        agent=agent,
        need=need,
        chips=shown[:CHIPS],
        more=max(0, len(shown) - CHIPS),
        why=agent.purpose or next((grant.purpose for grant in grants if grant.purpose), ""),
        granted=_granted(grants),
        day=day,
        last=last,
    )


def _granted(grants: list[Grant]) -> str:
    if not grants:
        return "Nobody has granted anything"
    newest = max(grants, key=lambda grant: grant.given_at)
    given, until = newest.given_at, newest.expires_at
    who = newest.given_by.name.split()[0]
    lead = f"Granted by {who}" if newest.member_id else f"Runs by itself, rule set by {who}"
    others = f", and {len(grants) - 1} more" if len(grants) > 1 else ""
    return f"{lead}, {given.day} {given:%b}, until {until.day} {until:%b}{others}"


def _needs(tenant: Tenant, days: dict[UUID, Day]) -> dict[UUID, Need]:
    needs: dict[UUID, Need] = {}
    for agent_id, day in days.items():
        if refused := day.total("deny"):
            times = {1: "once", 2: "twice"}.get(refused, f"{refused:,} times")
            needs[agent_id] = Need(4, f"Refused {times} today", "deny", "deny")
    for credential in ending_credentials(tenant):
        left = max(0, ((credential.expires_at or now()) - now()).days)
        kind = "Key" if credential.kind == Credential.Kind.KEY else "Secret"
        needs[credential.agent_id] = Need(3, f"{kind} ends in {left} {'day' if left == 1 else 'days'}", "clock", "ask")
    for agent_id in Agent.objects.filter(OWNERLESS, tenant=tenant).values_list("id", flat=True):
        needs[agent_id] = Need(2, "Its owner has left", "person", "ask")
    for agent_id in Agent.objects.filter(UNAPPROVED, tenant=tenant).values_list("id", flat=True)[:50]:
        needs[agent_id] = Need(1, "Seen, not approved", "host", "ask")
    waiting = waiting_calls(tenant).values("grant__agent_id").annotate(number=Count("id")).order_by()
    for row in waiting:
        number = row["number"]
        words = f"{number} {'call waits' if number == 1 else 'calls wait'}"
        needs[row["grant__agent_id"]] = Need(0, words, "ask", "ask")
    return needs


def waiting_calls(tenant: Tenant) -> QuerySet[Approval]:
    return Approval.objects.filter(tenant=tenant, state=Approval.State.PENDING, expires_at__gt=now())


def ending_credentials(tenant: Tenant) -> QuerySet[Credential]:
    """Live ones that end within two weeks, of agents at work, unless a newer one stands beside them."""
    live = Credential.objects.filter(tenant=tenant, retired_at=None, agent__state=Agent.State.ACTIVE)
    ending = live.filter(expires_at__gt=now(), expires_at__lt=now() + SOON)
    lasting = live.filter(Q(expires_at=None) | Q(expires_at__gte=now() + SOON)).values("agent_id")
    return ending.exclude(agent_id__in=lasting).select_related("agent").order_by("expires_at")


@dataclass(frozen=True, slots=True)
class Todo:
    """One thing that needs someone, and where it is done."""

    icon: str
    head: str
    text: str
    act: str
    view: str
    id: UUID | str | None = None  # or slug: what the view's address asks for
    anchor: str = ""


def todos(tenant: Tenant, member: Member, *, waiting: int, asking: int) -> list[Todo]:
    """What an admin should look at. `waiting` calls wait for this very member, `asking` agents ask them for a badge."""
    found: list[Todo] = []
    if asking:
        words = "You are asked for a badge." if asking == 1 else f"You are asked for {asking} badges."
        found.append(
            Todo("ask", words, "It may act for you once you say yes; it lapses if you do not.", "Answer", "inbox")
        )
    if waiting:
        words = "1 call waits for you." if waiting == 1 else f"{waiting} calls wait for you."
        found.append(Todo("ask", words, "It goes on when you say yes, and lapses if you do not.", "Answer", "inbox"))
    others = waiting_calls(tenant).count() - waiting
    if others > 0:
        words = "1 call waits for its person." if others == 1 else f"{others} calls wait for their people."
        found.append(Todo("ask", words, "Only they can answer; it lapses if they do not.", "", ""))
    for credential in ending_credentials(tenant)[:5]:
        kind = "key" if credential.kind == Credential.Kind.KEY else "secret"
        when = credential.expires_at or now()
        found.append(
            Todo(
                "clock",
                f"{credential.agent.name}’s {kind} ends on {when.day} {when:%b}.",
                f"A new {kind} can run beside the old one until you retire it.",
                f"Rotate {kind}",
                "agent",
                credential.agent_id,
                "credentials",
            )
        )
    new = Agent.objects.filter(UNAPPROVED, tenant=tenant).order_by("-created_at")
    if number := new.count():
        hosts = sorted({agent.host or "a program that gave no verified host" for agent in new[:50]})[:3]
        words = "1 client introduced itself" if number == 1 else f"{number:,} clients introduced themselves"
        found.append(Todo("host", words, f"from {', '.join(hosts)}.", "Look at them", "agents_new"))
    for agent in Agent.objects.filter(OWNERLESS, tenant=tenant).select_related("owner__user")[:5]:
        owner = agent.owner.name if agent.owner else "nobody"
        found.append(
            Todo(
                "person",
                f"{agent.name}’s owner has left.",
                f"{owner} is no longer active; somebody must answer for it.",
                "New owner",
                "agent_edit",
                agent.id,
            )
        )
    held = Operation.objects.filter(tenant=tenant, resource__state=Resource.State.PUBLISHED).exclude(changed_at=None)
    for row in held.values("resource__slug", "resource__name").annotate(number=Count("id")).order_by()[:5]:
        number = row["number"]
        words = "1 operation has" if number == 1 else f"{number} operations have"
        found.append(
            Todo(
                "change",
                f"{words} changed at {row['resource__name']}.",
                "Held back until somebody has looked.",
                "Review",
                "resource",
                row["resource__slug"],
            )
        )
    return found


def log(tenant: Tenant, number: int) -> list[Event]:
    """The newest calls."""
    calls: Any = Event.objects.filter(tenant=tenant, action__in=CALLS, at__gt=now() - MONTH)
    return list(calls.order_by("-at", "-id")[:number])
