"""The home page: six questions, six answers, a row for each agent; who needs someone; what happens at the door now."""

from uuid import UUID

from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import NoReverseMatch, reverse
from django.utils.timezone import now
from django.views.decorators.http import require_GET

from agentauth.console import answers
from agentauth.console.frame import polled, waiting_for
from agentauth.console.telling import tell
from agentauth.oauth.backchannel_requests import open_for
from tenants.access import AUDITORS, TenantRequest, tenant_page

LOG = 9
_NUMBERS = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten", "Eleven", "Twelve")


@require_GET
@tenant_page
def home(request: TenantRequest) -> HttpResponse:
    if not request.member.may_audit:
        return HttpResponseRedirect(f"/t/{request.tenant.slug}/my/agents/")
    days = answers.today(request.tenant)
    six = answers.six(request.tenant, days)
    standing = six.agents["all"] - six.agents["void"]
    rows = answers.rows(request.tenant, days)
    page = {
        "six": six,
        "today": now(),
        "rows": rows,
        "standing": in_words(standing),
        "one": standing == 1,
        "at_work": in_words(six.at_work),
        "hidden": standing - len(rows),
        "all_needs_shown": not rows or rows[-1].need is None,  # those that need someone stand first
        "log": tell(request.tenant, answers.log(request.tenant, LOG)),
        "todos": todos(request),
    }
    return render(request, "console/home.html" if six.agents["all"] else "console/home_empty.html", page)


@require_GET
@polled
@tenant_page(roles=AUDITORS)
def door(request: TenantRequest) -> HttpResponse:
    """The log again for a page that is open, if anything is newer than what it shows; else 204 and nothing moves."""
    events = answers.log(request.tenant, LOG)
    shown = _uuid(request.GET.get("after", ""))
    if not events or (shown and events[0].id <= shown):
        return HttpResponse(status=204)
    return render(request, "console/_log.html", {"log": tell(request.tenant, events), "shown": shown})


def todos(request: TenantRequest) -> list[tuple[answers.Todo, str]]:
    """What needs someone, each with the address where it is done."""
    if not request.member.may_administer:
        return []
    calls, badges = waiting_for(request.member).count(), open_for(request.member).count()
    found = answers.todos(request.tenant, request.member, waiting=calls, asking=badges)
    return [(todo, _where(request, todo)) for todo in found]


def in_words(number: int) -> str:
    return _NUMBERS[number] if number < len(_NUMBERS) else f"{number:,}"


def _where(request: TenantRequest, todo: answers.Todo) -> str:
    slug = request.tenant.slug
    if todo.view == "agents_new":
        return f"{reverse('agents', args=[slug])}?view=new"
    try:
        address = reverse(todo.view, args=[slug, *([todo.id] if todo.id else [])]) if todo.view else ""
    except NoReverseMatch:
        return ""
    return f"{address}#{todo.anchor}" if todo.anchor else address


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
