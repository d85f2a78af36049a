"""Inbox: what waits for this person's yes: agents without a badge, and single calls with what each would do."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.timezone import now
from django.views.decorators.http import require_GET, require_POST

from agentauth.agents.models import WrongState
from agentauth.console.frame import waiting_for
from agentauth.grants.arguments import visible
from agentauth.grants.models import Approval, Grant
from agentauth.oauth.backchannel_requests import closed_for, open_for
from agentauth.oauth.models import BackchannelRequest
from agentauth.resources.models import Operation
from tenants.access import TenantRequest, tenant_page

PAGE = 25
_LONGEST = 600  # characters of one argument on the page; the hash covers all of it


@dataclass(frozen=True, slots=True)
class Argument:
    """One value of this call beside the same value last time."""

    name: str
    value: str
    before: str
    changed: bool


@dataclass(frozen=True, slots=True)
class Question:
    """An approval with the operation it is about, as people know it."""

    approval: Approval
    words: str
    risk: str

    @property
    def id(self) -> UUID:
        return self.approval.id

    @property
    def asker(self) -> Grant:
        """What has an agent and a resource."""
        grant: Grant = self.approval.grant
        return grant

    @property
    def asked_at(self) -> datetime:
        return self.approval.asked_at

    @property
    def said(self) -> str:
        """What became of it: given, used, refused, or pending, which is too late once it stands under the answered."""
        return self.approval.state

    @property
    def seconds_left(self) -> int:
        return max(int((self.approval.expires_at - now()).total_seconds()), 0)

    @property
    def seconds_total(self) -> int:
        return max(int((self.approval.expires_at - self.approval.asked_at).total_seconds()), 1)

    @property
    def left_words(self) -> str:
        return left_words(self.approval.expires_at)


@dataclass(frozen=True, slots=True)
class BadgeAsked:
    """An agent that asks this person to let it act for them."""

    row: BackchannelRequest

    @property
    def id(self) -> UUID:
        return self.row.id

    @property
    def asker(self) -> BackchannelRequest:
        return self.row

    @property
    def words(self) -> str:
        return "Asked to make one call for you" if self.row.authorization_details else "Asked to act for you"

    @property
    def asked_at(self) -> datetime:
        return self.row.created_at

    @property
    def said(self) -> str:
        return "given" if self.row.allowed_at else "refused" if self.row.refused_at else "pending"

    @property
    def left_words(self) -> str:
        return left_words(self.row.expires_at)


def left_words(until: datetime) -> str:
    minutes, seconds = divmod(max(int((until - now()).total_seconds()), 0), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


@require_GET
@tenant_page
def inbox(request: TenantRequest) -> HttpResponse:
    waiting = _with_names(waiting_for(request.member)).order_by("expires_at")
    asking = open_for(request.member).select_related("agent__tenant", "resource").order_by("expires_at")
    before = request.GET.get("before", "")
    shown = _answered(request, _uuid_or_404(before) if before else None)
    older = "?" + urlencode({"before": str(shown[PAGE - 1].id)}) if len(shown) > PAGE else ""
    page = {
        "waiting": [] if before else questions(list(waiting)),
        "asking": [] if before else [BadgeAsked(row) for row in asking],
        "answered": shown[:PAGE],
        "page": {"next": older, "previous": request.path if before else ""},
    }
    return render(request, "console/my/inbox.html", page)


def _answered(request: TenantRequest, before: UUID | None) -> list[Question | BadgeAsked]:
    """What has its answer, newest first, and one more than a page holds."""
    calls = _mine(request).exclude(state=Approval.State.PENDING, expires_at__gt=now()).order_by("-id")
    badges = closed_for(request.member).select_related("agent__tenant", "resource").order_by("-id")
    if before is not None:
        calls, badges = calls.filter(id__lt=before), badges.filter(id__lt=before)
    both: list[Question | BadgeAsked] = [
        *questions(list(calls[: PAGE + 1])),
        *(BadgeAsked(row) for row in badges[: PAGE + 1]),
    ]
    return sorted(both, key=lambda one: one.id, reverse=True)[: PAGE + 1]


@require_GET
@tenant_page
def question(request: TenantRequest, approval_id: UUID) -> HttpResponse:
    approval = _require(request, approval_id)
    return render(request, "console/my/question.html", _question_page(request, approval))


@require_GET
@tenant_page
def time_left(request: TenantRequest, approval_id: UUID) -> HttpResponse:
    """The running time, asked for again by the page while it is open."""
    asked = questions([_require(request, approval_id)])[0]
    return render(request, "console/my/_time_left.html", {"question": asked})


@require_POST
@tenant_page
def allow_once(request: TenantRequest, approval_id: UUID) -> HttpResponse:
    approval = _require(request, approval_id)
    try:
        approval.give(by=request.member)
    except WrongState as wrong:
        messages.error(request, f"{wrong} Nothing was allowed.")
        return _to(request, "question", approval.id)
    until = f"{approval.expires_at:%H:%M} UTC"
    messages.success(request, f"Allowed once. {approval.grant.agent.name} may make exactly this call until {until}.")
    return _to(request, "inbox")


@require_POST
@tenant_page
def refuse(request: TenantRequest, approval_id: UUID) -> HttpResponse:
    approval = _require(request, approval_id)
    reason = request.POST.get("reason", "").strip()
    if len(reason) > 200:
        page = _question_page(request, approval) | {"reason": reason, "problem": "Use 200 characters at most."}
        return render(request, "console/my/question.html", page, status=422)
    try:
        approval.refuse(by=request.member, reason=reason)
    except WrongState as wrong:
        messages.error(request, str(wrong))
        return _to(request, "question", approval.id)
    messages.success(request, f"Refused. Nothing was sent; {approval.grant.agent.name} is told so if it tries again.")
    return _to(request, "inbox")


def questions(approvals: list[Approval]) -> list[Question]:
    """With the words and the risk of what each would do, in one query."""
    keys = {(approval.grant.resource_id, approval.operation) for approval in approvals}
    operations = Operation.objects.filter(
        resource_id__in={resource for resource, _ in keys}, key__in={key for _, key in keys}
    ).select_related("scope")
    known = {(operation.resource_id, operation.key): operation.scope for operation in operations if operation.scope}
    found = []
    for approval in approvals:
        scope = known.get((approval.grant.resource_id, approval.operation))
        found.append(
            Question(approval, scope.words if scope else approval.operation, scope.risk if scope else "change")
        )
    return found


def arguments(approval: Approval, last: Approval | None) -> list[Argument]:
    """This call's values by name, each beside what it was last time."""
    before = last.args if last and isinstance(last.args, dict) else {}
    now_asked = approval.args if isinstance(approval.args, dict) else {"value": approval.args}
    return [
        Argument(_name(name), _shown(value), _shown(before.get(name)), last is not None and before.get(name) != value)
        for name, value in sorted(now_asked.items())
    ]


def _question_page(request: TenantRequest, approval: Approval) -> dict[str, Any]:
    used = Approval.objects.filter(
        tenant=request.tenant, grant__agent=approval.grant.agent_id, operation=approval.operation, id__lt=approval.id
    ).filter(state__in=(Approval.State.USED, Approval.State.GIVEN), grant__member=approval.grant.member_id)
    last = used.order_by("-id").first()
    return {
        "question": questions([approval])[0],
        "approval": approval,
        "last": last,
        "arguments": arguments(approval, last),
        "waiting": waiting_for(request.member).count(),
        "hash_start": " ".join(approval.args_hash[at : at + 4] for at in range(0, 12, 4)),
    }


def _name(key: str) -> str:
    words = visible(str(key)).replace("_", " ").replace("-", " ").strip()
    return words[:1].upper() + words[1:] if words else "value"


def _shown(value: Any) -> str:
    if value is None:
        return ""
    text = visible(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} … ({len(text):,} characters)"


def _with_names(approvals: Any) -> Any:
    return approvals.select_related(
        "grant__agent__tenant", "grant__resource", "grant__member__user", "answered_by__user"
    )


def _mine(request: TenantRequest) -> Any:
    return _with_names(Approval.objects.filter(tenant=request.tenant, grant__member=request.member))


def _require(request: TenantRequest, approval_id: UUID) -> Approval:
    approval = _mine(request).filter(id=approval_id).first()
    if not isinstance(approval, Approval):
        raise Http404
    return approval


def _uuid_or_404(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Http404 from None


def _to(request: TenantRequest, name: str, *args: Any) -> HttpResponse:
    return HttpResponseRedirect(reverse(name, args=[request.tenant.slug, *args]), status=303)
