"""The consent page: who asks, for whom, where, for what, how long, and where it goes next."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.timezone import now

from agentauth.agents.models import Agent
from agentauth.grants.approvals import LIFETIME
from agentauth.grants.granting import offerable
from agentauth.grants.models import Grant
from agentauth.oauth.authorization_request import AuthorizationRequest, resource_of
from agentauth.oauth.consent_form import sign_form
from agentauth.oauth.disclosures import personal
from agentauth.oauth.one_call import one_call
from agentauth.oauth.pages import WITHOUT_SCRIPT
from agentauth.oauth.redirect_uris import is_loopback, shown_host
from agentauth.oauth.step_up import SignIn, sign_in_for
from agentauth.oauth.target import audience
from agentauth.resources.models import Resource, Risk, Scope
from tenants.models import Member, Tenant

MODES = {"read": ("always", "ask", "never"), "change": ("always", "ask", "never"), "dangerous": ("ask", "never")}
FIRST = {"read": "always", "change": "ask", "dangerous": "ask"}
_MODE_WORDS = {"always": "Always", "ask": "Ask me", "never": "Never"}
_PERIODS = {"today": "Today", "7": "7 days", "30": "30 days", "date": "A date"}


@dataclass(frozen=True, slots=True)
class Line:
    """One permission on the page."""

    scope: Scope
    ticked: bool
    is_new: bool
    calls: list[str]


@dataclass(frozen=True, slots=True)
class Group:
    """The permissions of one risk class and how they may be used."""

    risk: str
    name: str
    modes: list[tuple[str, str, bool]]  # value, words, chosen
    lines: list[Line]


def show_consent(
    request: HttpRequest,
    tenant: Tenant,
    *,
    member: Member,
    client: Agent,
    asked: AuthorizationRequest,
    scopes: list[Scope],
    grant: Grant | None,
    problem: str = "",
    said: dict[str, Any] | None = None,
    sign_in: SignIn | None = None,
) -> HttpResponse:
    """The question. `problem` and `said`: the answer before, which could not be taken."""
    request.tenant = tenant  # type: ignore[attr-defined]  # whose face the agent wears
    resource = resource_of(asked, tenant)
    sign_in = sign_in or sign_in_for(request, member.user, asked)
    call = one_call(asked, resource, grant)
    if grant is not None and call is None:
        # A new grant takes the old one's place, so what the old one allows is on the page as well
        had = {row.scope_id for row in grant.permissions.all() if row.mode != "never"}
        more = _offered_besides(client, resource, member, scopes, had)
        scopes = [*scopes, *more]
    page = render(
        request,
        "oauth/consent_call.html" if call else "oauth/consent.html",
        {
            "call": call,
            "organisation": tenant,
            "member": member,
            "client": client,
            "resource": resource,
            "resource_url": audience(tenant, resource).split("/"),  # may break at each slash
            "groups": _groups(scopes, grant, said),
            "periods": _periods(grant, said),
            "until_date": (said or {}).get("until-date", ""),
            "earliest": (now() + timedelta(days=1)).date().isoformat(),
            "latest": (now() + timedelta(days=365)).date().isoformat(),
            "grant": grant,
            "form": sign_form(
                request, tenant, asked=asked, scopes=scopes, member=member, client=client, sign_in=sign_in
            ),
            "device": asked.device,
            "backchannel": asked.backchannel,
            "message": asked.binding_message,
            "learns": personal(asked),
            "next_host": shown_host(asked.to.redirect_uri),
            "next_is_here": is_loopback(asked.to.redirect_uri),
            "next_is_app": not asked.waits_elsewhere and not asked.to.redirect_uri.startswith(("http:", "https:")),
            "problem": problem,
            "path": request.get_full_path() if request.method == "GET" else "/",
        },
        status=422 if problem else 200,
    )
    page["Content-Security-Policy"] = WITHOUT_SCRIPT
    page["Cache-Control"] = "no-store"
    return page


def _groups(scopes: list[Scope], grant: Grant | None, said: dict[str, Any] | None) -> list[Group]:
    """By rising risk; what was chosen before, on this page or in the grant, is chosen again."""
    kept = {row.scope_id: row.mode for row in grant.permissions.all()} if grant else {}
    found = []
    for risk, words in Risk.choices:
        mine = [scope for scope in scopes if scope.risk == risk]
        if not mine:
            continue
        modes = [kept[scope.id] for scope in mine if scope.id in kept]
        chosen = (said or {}).get(f"{risk}-how") or _strictest(modes) or FIRST[risk]
        found.append(
            Group(
                risk,
                words,
                [(mode, _MODE_WORDS[mode], mode == chosen) for mode in MODES[risk]],
                [_line(scope, risk, kept, grant, said) for scope in mine],
            )
        )
    return found


def _strictest(modes: list[str]) -> str:
    return next((mode for mode in ("ask", "always", "never") if mode in modes), "")


def _line(scope: Scope, risk: str, kept: dict[UUID, str], grant: Grant | None, said: dict[str, Any] | None) -> Line:
    if said is not None:
        ticked = scope.name in said["scope"]
    else:
        ticked = kept.get(scope.id, "never") != "never" or (scope.id not in kept and risk != "dangerous")
    calls = [operation.key for operation in scope.operations.order_by("key")[:20]]
    return Line(scope, ticked, grant is not None and scope.id not in kept, calls)


def _offered_besides(
    client: Agent, resource: Resource, member: Member, scopes: list[Scope], had: set[UUID]
) -> list[Scope]:
    """What the live grant allows and this request did not name."""
    named = {scope.id for scope in scopes}
    return [scope for scope in offerable(client, resource, member) if scope.id in had and scope.id not in named]


def _periods(grant: Grant | None, said: dict[str, Any] | None) -> list[tuple[str, str, bool]]:
    offered_periods, usual = dict(_PERIODS), "30"
    if grant is not None:
        left = grant.expires_at - now()
        ends = f"{grant.expires_at:%H:%M}" if left < timedelta(days=1) else f"{grant.expires_at:%-d %b}"
        offered_periods = {"same": f"{ends}, as now", **offered_periods}
        usual = "same" if left > LIFETIME else usual  # what was given for one call says nothing about more
    chosen = (said or {}).get("until") or usual
    return [(value, words, value == chosen) for value, words in offered_periods.items()]
