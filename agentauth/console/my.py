"""My agents: what I have allowed, what was done for me, taking it back. For every member, about themselves only."""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import messages
from django.db.models import Count, Max
from django.http import Http404, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.timezone import now
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from agentauth.agents.models import Agent, WrongState
from agentauth.console.allowing import (
    UNTIL,
    groups,
    mildest_first,
    narrow_rows,
    narrower,
    read_permissions,
    read_until,
    shorter,
)
from agentauth.console.cards import DID, cards
from agentauth.console.telling import Line, tell
from agentauth.console.templatetags.look import day
from agentauth.grants.granting import NotGrantable, give, live_grant, offerable
from agentauth.grants.models import Grant
from agentauth.resources.models import Resource
from audit.actions import Action
from audit.models import Event
from tenants.access import TenantRequest, tenant_page

PAGE = 25
ENDED_SHOWN = 8
_STOPPED = "stopped"  # where the session keeps how long the last revocation took
_LISTENING = timedelta(seconds=6)  # open streams report their end within this


@dataclass(frozen=True, slots=True)
class Stopped:
    """What a revocation ended, and how fast."""

    grant: Grant
    tokens: int
    streams: int
    seconds: float
    still_listening: bool
    event_id: UUID | None

    @property
    def seconds_words(self) -> str:
        return f"{max(self.seconds, 0.1):.1f} s"


@require_GET
@tenant_page
def my_agents(request: TenantRequest) -> HttpResponse:
    live = list(_my_grants(request).filter(ended_at=None, expires_at__gt=now()).order_by("-given_at"))
    ended = _my_grants(request).exclude(ended_at=None, expires_at__gt=now()).exclude(end_reason="replaced")
    just = _find(ended, request.GET.get("ended", ""))  # keeps its place on the rack while we say what happened
    others = ended.exclude(id=just.id) if just else ended
    page = {
        "live": len(live),
        "cards": cards([*live, just] if just else live),
        "ended": cards(list(others.order_by("-id")[:ENDED_SHOWN])),
        "days": by_day(tell(request.tenant, list(_did(request)[:7]))),
        "stopped": _stopped(request, request.GET.get("ended", "")),
    }
    return render(request, "console/my/agents.html", page)


@require_GET
@tenant_page
def ended_grants(request: TenantRequest) -> HttpResponse:
    """All that once was allowed."""
    ended = _my_grants(request).exclude(ended_at=None, expires_at__gt=now()).order_by("-id")
    shown, older = _slice(ended, request)
    return render(request, "console/my/ended.html", {"cards": cards(shown), "page": {"next": older}})


@require_GET
@tenant_page
def stopped(request: TenantRequest, grant_id: UUID) -> HttpResponse:
    """The notice after a revocation, asked for again while streams may still be reporting their end."""
    return render(request, "console/my/_stopped.html", {"stopped": _stopped(request, str(grant_id))})


@require_POST
@tenant_page
def revoke_grant(request: TenantRequest, grant_id: UUID) -> HttpResponse:
    grant = _require_grant(request, grant_id)
    began = now()
    try:
        grant.revoke(by=request.member)
    except WrongState as ended:
        messages.info(request, str(ended))
        return _to_mine(request)
    request.session[_STOPPED] = {"grant": str(grant.id), "ms": _milliseconds(now() - began)}
    return _to_mine(request, ended=grant.id)


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_page
def revoke_all(request: TenantRequest) -> HttpResponse:
    """Says what will end, then ends every grant of this person."""
    grants = list(_my_grants(request).filter(ended_at=None, expires_at__gt=now()).order_by("id"))
    if request.method != "POST":
        return render(request, "console/my/revoke_all.html", {"cards": cards(grants)})
    began, tokens = now(), 0
    for grant in grants:
        tokens += grant.revoke(by=request.member).tokens
    took = _milliseconds(now() - began) / 1000
    words = f"{_counted(len(grants), 'grant')} ended in {took:.1f} s. {_counted(tokens, 'token')} ended."
    messages.success(request, f"{words} What was read already stays where it is.")
    return _to_mine(request)


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_page
def narrow(request: TenantRequest, grant_id: UUID) -> HttpResponse:
    """Allow less, or for a shorter time. More is a new grant."""
    grant = _require_grant(request, grant_id)
    if not grant.is_live:
        messages.info(request, "This grant has ended already.")
        return _to_mine(request)
    rows = list(grant.permissions.select_related("scope").order_by("scope__name"))
    problem: dict[str, str] = {}
    if request.method == "POST":
        chosen = narrower(request.POST, rows)
        until, problem["until"] = read_until(request.POST, grant.expires_at)
        if not problem["until"] and not any(mode != "never" for mode in chosen.values()):
            problem["permissions"] = "This would leave nothing. To end the grant, revoke it."
        if not any(problem.values()):
            try:
                grant.narrow(by=request.member, permissions=chosen, expires_at=until)
            except WrongState as wrong:
                problem["permissions"] = str(wrong)
            else:
                messages.success(request, f"{grant.agent.name} may do less at {grant.resource.name} now.")
                return _to_mine(request)
    page = {
        "card": cards([grant])[0],
        "rows": narrow_rows(rows, request.POST),
        "problem": problem,
        "until": request.POST.get("until", "keep"),
        "until_choices": [("keep", "As it is"), *shorter(grant.expires_at)],
        "date": request.POST.get("date", ""),
        "latest": (grant.expires_at - timedelta(days=1)).date(),
    }
    return render(request, "console/my/narrow.html", page, status=422 if any(problem.values()) else 200)


@require_GET
@tenant_page
def did(request: TenantRequest) -> HttpResponse:
    """My slice of the record: what all agents did for me."""
    return _did_page(request, None)


@require_GET
@tenant_page
def did_under(request: TenantRequest, grant_id: UUID) -> HttpResponse:
    """What one agent did for me under one grant."""
    return _did_page(request, _require_grant(request, grant_id))


@require_GET
@tenant_page
def did_csv(request: TenantRequest) -> HttpResponseBase:
    """My slice as a table to take along, the newest 10,000 lines."""
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="done-for-me-{request.tenant.slug}.csv"'
    table = csv.writer(response)
    table.writerow(["time", "agent", "what", "decision", "because", "event"])
    for line in _told(request, list(_did(request)[:10_000])):
        table.writerow([_plain(cell) for cell in line])
    return response


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_page
def give_grant(request: TenantRequest) -> HttpResponse:
    """Three steps under one address: which agent, at which place, what exactly."""
    asked = request.POST if request.method == "POST" else request.GET
    agent = _find(_agents(request), asked.get("agent", ""))
    if agent is None:
        words = request.GET.get("q", "").strip()
        found = _agents(request).filter(name__icontains=words) if words else _agents(request)
        shown, more = _slice(found.order_by("-id"), request)
        page: dict[str, Any] = {"agents": shown, "q": words, "page": {"next": more}}
        return render(request, "console/my/give_agent.html", page)
    resource = _find(_resources(request), asked.get("resource", ""))
    if resource is None:
        places = [(place, offerable(agent, place, request.member)) for place in _resources(request).order_by("name")]
        page = {"agent": agent, "places": [(place, mildest_first(scopes)) for place, scopes in places if scopes]}
        return render(request, "console/my/give_resource.html", page)
    return _give(request, agent, resource)


def _give(request: TenantRequest, agent: Agent, resource: Resource) -> HttpResponse:
    scopes = offerable(agent, resource, request.member)
    problem: dict[str, str] = {}
    if request.method == "POST":
        chosen = read_permissions(request.POST, scopes)
        until, problem["until"] = read_until(request.POST, None)
        if not problem["until"] and until is not None:
            try:
                grant = give(
                    agent=agent,
                    resource=resource,
                    member=request.member,
                    by=request.member,
                    permissions=chosen,
                    expires_at=until,
                    purpose=request.POST.get("purpose", ""),
                    ip=request.META.get("REMOTE_ADDR", ""),
                )
            except NotGrantable as wrong:
                problem[wrong.field] = str(wrong)
            else:
                messages.success(
                    request, f"{agent.name} may act for you at {resource.name} until {grant.expires_at:%-d %b %Y}."
                )
                return _to_mine(request)
    page = {
        "agent": agent,
        "resource": resource,
        "groups": groups(scopes, request.POST if request.method == "POST" else None),
        "replaces": live_grant(agent, resource, request.member),
        "problem": {where: what for where, what in problem.items() if what},
        "until": request.POST.get("until", "7"),
        "until_choices": list(UNTIL.items()),
        "date": request.POST.get("date", ""),
        "purpose": request.POST.get("purpose", agent.purpose),
    }
    return render(request, "console/my/give.html", page, status=422 if page["problem"] else 200)


# What pages show


def _stopped(request: TenantRequest, grant_id: str) -> Stopped | None:
    grant = _find(_my_grants(request), grant_id)
    if grant is None or grant.ended_at is None:
        return None
    events = Event.objects.filter(
        tenant=request.tenant, grant_id=grant.id, at__gte=grant.ended_at - timedelta(seconds=2)
    )
    cause = events.filter(action=Action.GRANT_REVOKED).order_by("id").first()
    ends = events.filter(action=Action.CALL_FINISHED, outcome="revoked").aggregate(count=Count("id"), last=Max("at"))
    kept = request.session.get(_STOPPED) or {}
    took = kept.get("ms", 0) / 1000 if kept.get("grant") == grant_id else 0.0
    if ends["last"]:
        took = max(took, (ends["last"] - grant.ended_at).total_seconds())
    return Stopped(
        grant=grant,
        tokens=cause.details.get("tokens_ended", 0) if cause else 0,
        streams=ends["count"],
        seconds=took,
        still_listening=now() - grant.ended_at < _LISTENING,
        event_id=cause.id if cause else None,
    )


def _did(request: TenantRequest, grant: Grant | None = None) -> Any:
    """Events of calls made for this person and for nobody else, newest first."""
    events = Event.objects.filter(tenant=request.tenant, member_id=request.member.id, action__in=DID)
    return (events.filter(grant_id=grant.id) if grant else events).order_by("-at", "-id")


def _did_page(request: TenantRequest, grant: Grant | None) -> HttpResponse:
    events = _did(request, grant)
    before = request.GET.get("before", "")
    if before:
        events = events.filter(id__lt=_uuid_or_404(before))
    shown = list(events.order_by("-id")[: PAGE + 1])
    older = "?" + urlencode({"before": str(shown[PAGE - 1].id)}) if len(shown) > PAGE else ""
    page = {
        "card": cards([grant])[0] if grant else None,
        "days": by_day(tell(request.tenant, shown[:PAGE])),
        "page": {"next": older, "previous": request.path if before else ""},
    }
    return render(request, "console/my/did.html", page)


def by_day(lines: Iterable[Line]) -> list[tuple[str, list[Line]]]:
    """Lines under the day they belong to: today, yesterday, 20 Nov 2026."""
    today = now().date()
    names = {today: "Today", today - timedelta(days=1): "Yesterday"}
    found: dict[str, list[Line]] = {}
    for line in lines:
        found.setdefault(names.get(line.at.date()) or day(line.at), []).append(line)
    return list(found.items())


def _told(request: TenantRequest, events: list[Event]) -> Iterator[list[str]]:
    for event, line in zip(events, tell(request.tenant, events), strict=True):
        yield [
            event.at.astimezone(UTC).isoformat(timespec="milliseconds"),
            line.who,
            " ".join(part for part in (line.verb, line.what) if part),
            event.decision,
            line.because,
            str(event.id),
        ]


def _plain(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell


# Finding


def _my_grants(request: TenantRequest) -> Any:
    grants = Grant.objects.filter(tenant=request.tenant, member=request.member)
    people = ("agent__tenant", "agent__owner__user", "resource", "ended_by__user")
    return grants.select_related(*people).prefetch_related("agent__credentials")


def _require_grant(request: TenantRequest, grant_id: UUID) -> Grant:
    grant = _my_grants(request).filter(id=grant_id).first()
    if not isinstance(grant, Grant):
        raise Http404
    return grant


def _agents(request: TenantRequest) -> Any:
    """The agents that can act for a person now."""
    agents = Agent.objects.filter(tenant=request.tenant, state=Agent.State.ACTIVE).exclude(kind=Agent.Kind.AUTONOMOUS)
    return agents.exclude(valid_until__lte=now()).select_related("tenant", "owner__user")


def _resources(request: TenantRequest) -> Any:
    return Resource.objects.filter(tenant=request.tenant, state=Resource.State.PUBLISHED)


def _find(rows: Any, row_id: str) -> Any:
    """The row with this id, or None also for what is no id."""
    try:
        return rows.filter(id=UUID(row_id)).first() if row_id else None
    except ValueError:
        return None


def _uuid_or_404(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Http404 from None


def _slice(rows: Any, request: TenantRequest) -> tuple[list[Any], str]:
    """One page by keyset, newest ids first, and the address of the next."""
    before = request.GET.get("before", "")
    if before:
        rows = rows.filter(id__lt=_uuid_or_404(before))
    shown = list(rows[: PAGE + 1])
    if len(shown) <= PAGE:
        return shown, ""
    kept = {key: value for key, value in request.GET.items() if key != "before"}
    return shown[:PAGE], "?" + urlencode({**kept, "before": str(shown[PAGE - 1].id)})


def _milliseconds(took: timedelta) -> int:
    return round(took.total_seconds() * 1000)


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _to_mine(request: TenantRequest, ended: UUID | None = None) -> HttpResponse:
    address = reverse("my_agents", args=[request.tenant.slug])
    return HttpResponseRedirect(f"{address}?ended={ended}" if ended else address, status=303)
