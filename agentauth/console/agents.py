"""Agents: the list, a badge's page, stopping. `registering.py` gives out badges, `credentials.py` keys and secrets."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import messages
from django.db.models import Count, Max, OuterRef, Q, QuerySet, Subquery
from django.http import Http404, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.timezone import now
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from agentauth.agents.models import RISKS, Agent, Credential, WrongState
from agentauth.agents.ways import WAYS
from agentauth.console import may_it
from agentauth.console.answers import ACTIVE, MONTH, UNAPPROVED, today
from agentauth.console.badges import ORDER, Chip, badge, chips, live_grants
from agentauth.console.frame import polled
from agentauth.console.quickstart import quickstart
from agentauth.console.telling import CALLS, tell
from agentauth.console.wanting import only_wanted, wanted_by
from agentauth.grants.leaving import retire_agent
from agentauth.grants.models import Grant
from agentauth.oauth.redirect_uris import shown_host
from audit.actions import Action
from audit.models import Event
from tenants.access import ADMINS, AUDITORS, TenantRequest, tenant_page
from tenants.models import Member
from tenants.revocation import live_tokens

PAGE = 25
CALLS_SHOWN = 8
LISTENING = timedelta(seconds=8)  # open streams report their end within this
JUST = timedelta(minutes=10)  # a stop is news for this long
VIEWS: dict[str, tuple[str, Q]] = {
    "": ("All", Q()),
    "active": ("Active", ACTIVE),
    "suspended": ("Suspended", Q(state=Agent.State.SUSPENDED)),
    "new": ("Seen, not approved", UNAPPROVED),
    "wanted": ("Wanted", UNAPPROVED),  # by whom somebody wants, below
    "dangerous": ("Dangerous", Q()),  # by its grants, below
    "mine": ("Mine", Q()),  # by its owner, below
    "void": ("Void", Q(state=Agent.State.RETIRED)),
}


# The list


@dataclass(frozen=True, slots=True)
class View:
    """A tab over the list, with the length of the list behind it."""

    name: str
    href: str
    number: int
    here: bool


@dataclass(frozen=True, slots=True)
class Row:
    agent: Agent
    places: str
    tally: list[tuple[str, int]]
    last_call: datetime | None
    wanted_by: list[str]

    @property
    def returns_to(self) -> list[str]:
        """Hosts that an agent with no verified one sends people back to: all there is to go by."""
        uris = [] if self.agent.is_approved or self.agent.host else self.agent.redirect_uris
        return list(dict.fromkeys(shown_host(uri) for uri in uris))[:2]


@require_GET
@tenant_page(roles=AUDITORS)
def agents(request: TenantRequest) -> HttpResponse:
    view = request.GET.get("view", "") if request.GET.get("view", "") in VIEWS else ""
    words, owner = request.GET.get("q", "").strip()[:200], _uuid(request.GET.get("owner", ""))
    everybody = Agent.objects.filter(tenant=request.tenant)
    found = _matching(_in_view(everybody, view, request.member), words, owner)
    shown, page = _page(found, request)
    context = {
        "views": list(_views(request, everybody, view)),
        "view": view,
        "words": words,
        "owner": owner,
        "owners": _owners(request),
        "rows": _rows(request, shown),
        "page": page,
        "none_at_all": not everybody.exists(),
    }
    return render(request, "console/agents/list.html", context)


def _views(request: TenantRequest, everybody: QuerySet[Agent], here: str) -> Iterator[View]:
    for key, (name, _) in VIEWS.items():
        number = _in_view(everybody, key, request.member).count()
        if number or key in ("", "active", here):
            address = reverse("agents", args=[request.tenant.slug])
            yield View(name, f"{address}?view={key}" if key else address, number, key == here)


def _in_view(everybody: QuerySet[Agent], view: str, member: Member) -> QuerySet[Agent]:
    if view == "mine":
        return everybody.filter(owner=member)
    if view == "wanted":
        return only_wanted(everybody.filter(UNAPPROVED))
    if view == "dangerous":
        live = Grant.objects.filter(tenant_id=member.tenant_id, ended_at=None, expires_at__gt=now())
        risky = live.filter(permissions__scope__risk="dangerous", permissions__mode__in=("always", "ask"))
        return everybody.filter(id__in=risky.values("agent_id"))
    return everybody.filter(VIEWS[view][1])


def _matching(found: QuerySet[Agent], words: str, owner: UUID | None) -> QuerySet[Agent]:
    if owner is not None:
        found = found.filter(owner_id=owner)
    for word in words.split()[:8]:
        found = found.filter(
            Q(name__icontains=word)
            | Q(purpose__icontains=word)
            | Q(owner__user__name__icontains=word)
            | Q(client_id__icontains=word)
            | Q(credentials__kid__icontains=word)
        )
    return found.distinct() if words else found


def _page(found: QuerySet[Agent], request: TenantRequest) -> tuple[list[Agent], dict[str, str]]:
    """One page by name, without counting through the ones before it."""
    after, before = _uuid(request.GET.get("after", "")), _uuid(request.GET.get("before", ""))
    turn = after or before
    from_here = Agent.objects.filter(tenant=request.tenant, id=turn).first() if turn else None
    ordered = found.select_related("owner__user").order_by("name", "id")
    if from_here and after:
        ordered = ordered.filter(Q(name__gt=from_here.name) | Q(name=from_here.name, id__gt=from_here.id))
    if from_here and before:
        ordered = ordered.filter(Q(name__lt=from_here.name) | Q(name=from_here.name, id__lt=from_here.id))
        ordered = ordered.order_by("-name", "-id")
    rows = list(ordered[: PAGE + 1])
    more, rows = len(rows) > PAGE, rows[:PAGE]
    if before:
        rows.reverse()
    number = found.count()
    words = (
        f"{number:,} {'agent' if number == 1 else 'agents'}" if number <= PAGE else f"{len(rows)} of {number:,} agents"
    )
    has_next = bool(before and from_here) or (more and not before)
    has_previous = bool(after and from_here) or (more and bool(before))
    return rows, {
        "words": words,
        "previous": _turn(request, before=rows[0].id) if rows and has_previous else "",
        "next": _turn(request, after=rows[-1].id) if rows and has_next else "",
    }


def _turn(request: TenantRequest, **to: UUID) -> str:
    kept = {key: value for key, value in request.GET.items() if key not in ("after", "before") and value}
    return "?" + urlencode(kept | {key: str(value) for key, value in to.items()})


def _rows(request: TenantRequest, shown: list[Agent]) -> list[Row]:
    grants = live_grants(request.tenant, shown)
    last, wanted = _last_calls(request, shown), wanted_by(request.tenant, shown)
    return [_row(one, grants.get(one.id, []), last.get(one.id), wanted.get(one.id, [])) for one in shown]


def _row(agent: Agent, grants: list[Grant], last_call: datetime | None, wanted: list[str]) -> Row:
    opened, _ = chips(grants)
    tally = [(risk, sum(chip.risk == risk for chip in opened)) for risk in RISKS]
    return Row(agent, ", ".join(dict.fromkeys(grant.resource.name for grant in grants)), tally, last_call, wanted)


def _last_calls(request: TenantRequest, shown: Iterable[Agent]) -> dict[UUID, datetime]:
    calls = Event.objects.filter(tenant=request.tenant, action__in=CALLS, at__gt=now() - MONTH, agent_id=OuterRef("id"))
    newest = Subquery(calls.order_by("-at").values("at")[:1])
    asked = Agent.objects.filter(tenant=request.tenant, id__in=[agent.id for agent in shown])
    return {agent_id: at for agent_id, at in asked.values_list("id", newest) if at}


def _owners(request: TenantRequest) -> list[Member]:
    owning = Agent.objects.filter(tenant=request.tenant).exclude(owner=None).values("owner_id")
    owners = Member.objects.filter(tenant=request.tenant, id__in=owning).select_related("user")
    return list(owners.order_by("user__name"))


# A badge's page


@require_GET
@tenant_page(roles=AUDITORS)
def agent(request: TenantRequest, agent_id: UUID) -> HttpResponse:
    found = require_agent(request, agent_id)
    grants = live_grants(request.tenant, [found]).get(found.id, [])
    calls = Event.objects.filter(tenant=request.tenant, agent_id=found.id, action__in=CALLS)
    lines = tell(request.tenant, list(calls.filter(at__gt=now() - MONTH).order_by("-at", "-id")[:CALLS_SHOWN]))
    just = found.state != Agent.State.ACTIVE and now() - found.state_since < timedelta(seconds=20)
    credentials = list(found.credentials.filter(retired_at=None).order_by("-created_at"))
    page = {
        "agent": found,
        "badge": badge(request.tenant, found, grants, just=just),
        "behalf": [_behalf(grant) for grant in grants],
        "credentials": credentials,
        "rotating": _rotating(credentials),
        "lines": lines,
        "day": today(request.tenant, [found]).get(found.id),
        "tokens": live_tokens(request.tenant.id, agent_id=found.id) if found.is_active else 0,
        "stopped": stopped(request, found),
        "quick": quickstart(request.tenant, found),
        "members": _active_members(request) if request.member.may_administer else [],
        "risks": (
            ("read", "Read only"),
            ("change", "Read and change"),
            ("dangerous", "Everything, if a person agrees"),
        ),
        "ceiling": _ceiling(found),
        "wanted_by": wanted_by(request.tenant, [found]).get(found.id, []),
        "ways": [WAYS.get(one, (one, ""))[0] for one in found.grant_types],
        "try": _try(request, found, grants),
    }
    return render(request, "console/agents/show.html", page)


def _try(request: TenantRequest, found: Agent, grants: list[Grant]) -> dict[str, Any]:
    """The form that asks the rules, and their answer if it was sent."""
    can, members = may_it.operations(request.tenant), _active_members(request)
    person, operation = request.GET.get("person", ""), request.GET.get("operation", "")
    wanted = may_it.asked(found, can, members, person, operation)
    return {
        "operations": can,
        "members": members,
        "person": _uuid(person) or may_it.first_person(found, grants),
        "operation": _uuid(operation),
        "answer": may_it.may_it(request.tenant, found, *wanted) if wanted else None,
    }


def _behalf(grant: Grant) -> dict[str, Any]:
    opened, never = chips([grant])
    return {"grant": grant, "chips": [*opened, *never]}


def _rotating(credentials: list[Credential]) -> Credential | None:
    """The newer of two credentials, while nobody has used it yet."""
    live = [one for one in credentials if one.is_live and one.kind != Credential.Kind.WORKLOAD]
    return live[0] if len(live) > 1 and live[0].last_used_at is None else None


def _ceiling(found: Agent) -> list[tuple[str, list[Chip]]]:
    """The most it may ever be granted, by resource."""
    places: dict[str, list[Chip]] = {}
    for row in found.ceiling.select_related("scope__resource").order_by("scope__resource__name", "scope__words"):
        places.setdefault(row.scope.resource.name, []).append(Chip(row.scope.words, row.scope.risk))
    return [(place, sorted(found, key=lambda chip: ORDER[chip.risk])) for place, found in places.items()]


@dataclass(frozen=True, slots=True)
class Stopped:
    """What a stop has ended, read from the record: true also after a reload."""

    agent: Agent
    tokens: int
    streams: int
    slowest_ms: int
    still_listening: bool


def stopped(request: TenantRequest, found: Agent) -> Stopped | None:
    """The news about a stop of the last minutes, else None."""
    if found.state not in (Agent.State.SUSPENDED, Agent.State.RETIRED) or now() - found.state_since > JUST:
        return None
    acts = (Action.AGENT_SUSPENDED, Action.AGENT_RETIRED)
    since = Event.objects.filter(
        tenant=request.tenant, agent_id=found.id, at__gte=found.state_since - timedelta(seconds=5)
    )
    cause = since.filter(action__in=acts).order_by("-id").first()
    cut = since.filter(action=Action.CALL_FINISHED, outcome="revoked").aggregate(number=Count("id"), last=Max("at"))
    gap = cut["last"] - found.state_since if cut["last"] else timedelta()
    return Stopped(
        agent=found,
        tokens=int(cause.details.get("tokens_ended", 0)) if cause else 0,
        streams=cut["number"],
        slowest_ms=max(0, int(gap.total_seconds() * 1000)),
        still_listening=now() - found.state_since < LISTENING,
    )


@require_GET
@polled
@tenant_page(roles=AUDITORS)
def agent_ended(request: TenantRequest, agent_id: UUID) -> HttpResponse:
    """The news again, while open streams may still be reporting their end."""
    news = stopped(request, require_agent(request, agent_id))
    return render(request, "console/agents/_stopped.html", {"stopped": news})


# Acts


@require_GET
@tenant_page(roles=ADMINS)
def agent_stop(request: TenantRequest, agent_id: UUID) -> HttpResponse:
    """Says what a stop will end, and asks why."""
    return _confirm(request, [require_agent(request, agent_id)])


@require_http_methods(["GET", "POST"])
@tenant_page(roles=ADMINS)
def agents_stop(request: TenantRequest) -> HttpResponse:
    """The same for the chosen agents, or for all that are active."""
    asked = request.POST if request.method == "POST" else request.GET
    active = Agent.objects.filter(tenant=request.tenant, state=Agent.State.ACTIVE)
    every = asked.get("all") == "1"
    chosen = list((active if every else active.filter(id__in=_uuids(asked.getlist("chosen")))).order_by("name"))
    if not chosen:
        messages.info(request, "None of these is running, so there is nothing to stop.")
        return _see(reverse("agents", args=[request.tenant.slug]))
    if request.method == "GET":
        return _confirm(request, chosen, every=every)
    tokens = sum(one.suspend(by=request.member, reason=asked.get("reason", "").strip()).tokens for one in chosen)
    words = f"{_counted(len(chosen), 'agent')} stopped, {_counted(tokens, 'token')} ended."
    messages.success(request, f"{words} Grants and records stay; you can let each one back in.")
    return _see(reverse("agents", args=[request.tenant.slug]) + "?view=suspended")


def _confirm(request: TenantRequest, chosen: list[Agent], *, every: bool = False) -> HttpResponse:
    ids = [one.id for one in chosen]
    grants = live_grants(request.tenant, chosen)
    page = {
        "chosen": chosen,
        "one": chosen[0] if len(chosen) == 1 and not every else None,
        "every": every,
        "tokens": sum(live_tokens(request.tenant.id, agent_id=one) for one in ids),
        "people": sorted({grant.member.name for of in grants.values() for grant in of if grant.member}),
    }
    return render(request, "console/agents/stop.html", page)


@require_POST
@tenant_page(roles=ADMINS)
def agent_suspend(request: TenantRequest, agent_id: UUID) -> HttpResponse:
    found = require_agent(request, agent_id)
    try:
        found.suspend(by=request.member, reason=request.POST.get("reason", "").strip())
    except WrongState as wrong:
        messages.warning(request, str(wrong))
    return to_agent(request, found)


@require_POST
@tenant_page(roles=ADMINS)
def agent_let_back(request: TenantRequest, agent_id: UUID) -> HttpResponse:
    found = require_agent(request, agent_id)
    try:
        found.let_back(by=request.member)
        messages.success(request, f"{found.name} may come back in. Old tokens stay void; it gets new ones by itself.")
    except WrongState as wrong:
        messages.warning(request, str(wrong))
    return to_agent(request, found)


@require_POST
@tenant_page(roles=ADMINS)
def agent_retire(request: TenantRequest, agent_id: UUID) -> HttpResponse:
    """For good, so the name is typed."""
    found = require_agent(request, agent_id)
    if request.POST.get("name", "").strip() != found.name:
        messages.error(request, f"Nothing was changed: type {found.name} exactly as it stands on the badge.")
        return to_agent(request, found, "danger")
    try:
        retire_agent(found, by=request.member, reason=request.POST.get("reason", "").strip())
    except WrongState as wrong:
        messages.warning(request, str(wrong))
    return to_agent(request, found)


@require_POST
@tenant_page(roles=ADMINS)
def agent_approve(request: TenantRequest, agent_id: UUID) -> HttpResponse:
    """Answer for a client that introduced itself: an owner, and the most it may ever do."""
    found = require_agent(request, agent_id)
    owner = next((one for one in _active_members(request) if str(one.id) == request.POST.get("owner")), None)
    risk = request.POST.get("ceiling_risk", "")
    if owner is None or risk not in RISKS:
        messages.error(request, "Nothing was changed: choose an owner and the most that it may do.")
        return to_agent(request, found)
    found.approve(by=request.member, owner=owner, ceiling_risk=risk)
    messages.success(request, f"{found.name} is approved. {owner.name} answers for it.")
    return to_agent(request, found)


@require_POST
@tenant_page(roles=ADMINS)
def agent_end_grant(request: TenantRequest, agent_id: UUID, grant_id: UUID) -> HttpResponse:
    """End one row of "on behalf of"; the agent and everyone else stay as they are."""
    found = require_agent(request, agent_id)
    grant = Grant.objects.filter(tenant=request.tenant, agent=found, id=grant_id).first()
    if grant is None:
        raise Http404
    try:
        ended = grant.revoke(by=request.member)
    except WrongState as wrong:
        messages.warning(request, str(wrong))
    else:
        whose = f"{grant.member.name}’s grant" if grant.member else "The rule"
        words = f"{whose} at {grant.resource.name} has ended, {_counted(ended.tokens, 'token')} with it."
        messages.success(request, f"{words} What was read already stays where it is.")
    return to_agent(request, found, "behalf")


# Shared with the other files about agents


def require_agent(request: TenantRequest, agent_id: UUID) -> Agent:
    found = Agent.objects.filter(tenant=request.tenant, id=agent_id)
    one = found.select_related("owner__user", "state_by__user", "approved_by__user").first()
    if one is None:
        raise Http404
    return one


def to_agent(request: TenantRequest, found: Agent, anchor: str = "") -> HttpResponseRedirect:
    address = reverse("agent", args=[request.tenant.slug, found.id])
    return _see(f"{address}#{anchor}" if anchor else address)


def _active_members(request: TenantRequest) -> list[Member]:
    members = Member.objects.filter(tenant=request.tenant, deactivated_at=None, user__is_active=True)
    return list(members.select_related("user").order_by("user__name"))


def _see(address: str) -> HttpResponseRedirect:
    """303: what comes after a form is a page of its own."""
    response = HttpResponseRedirect(address)
    response.status_code = 303
    return response


def _counted(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _uuids(texts: Iterable[str]) -> list[UUID]:
    return [found for found in map(_uuid, texts) if found]


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
