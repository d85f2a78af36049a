"""The consent page: who asks, for whom, where, for what, how long, and where it goes next. Asked and answered once."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.timezone import now
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_POST

from agentauth.agents.models import Agent, actor_of
from agentauth.grants.granting import NotGrantable, give, live_grant, offerable
from agentauth.grants.models import Grant
from agentauth.oauth.authorization_request import (
    AuthorizationRequest,
    answer_address,
    error_address,
    offered,
    resource_of,
)
from agentauth.oauth.codes import write_code
from agentauth.oauth.disclosures import disclose, personal
from agentauth.oauth.door import Call, caller, record_refusal
from agentauth.oauth.elsewhere import answer as answer_elsewhere
from agentauth.oauth.errors import AccessDenied, InvalidRequest, OAuthError
from agentauth.oauth.one_call import allow_one_call, one_call
from agentauth.oauth.pages import WITHOUT_SCRIPT, refused, seen
from agentauth.oauth.redirect_uris import is_loopback, is_registered, shown_host
from agentauth.oauth.session import browser_mark
from agentauth.oauth.spent import spend_once
from agentauth.oauth.step_up import SignIn, sign_in_for
from agentauth.oauth.target import audience
from agentauth.resources.models import Resource, Risk, Scope
from audit.actions import Action
from audit.record import record
from tenants.access import require_tenant
from tenants.models import Member, Tenant, User
from tenants.rls import in_tenant

_SALT = "agentauth.oauth.consent"
_GOOD_FOR = 30 * 60  # seconds from the question to the answer
_MODES = {"read": ("always", "ask", "never"), "change": ("always", "ask", "never"), "dangerous": ("ask", "never")}
_FIRST = {"read": "always", "change": "ask", "dangerous": "ask"}
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


class Unanswerable(Exception):
    """The answer cannot be taken as it is; the page is shown again with this."""


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
    """The question. Its form carries the whole request, signed, for this person in this browser, to be used once."""
    request.tenant = tenant  # type: ignore[attr-defined]  # whose face the agent wears
    resource = resource_of(asked, tenant)
    sign_in = sign_in or sign_in_for(request, member.user, asked)
    call = one_call(asked, resource, grant)
    if (
        grant is not None and call is None
    ):  # a new grant takes the old one's place, so what the old one allows is on the page as well
        had = {row.scope_id for row in grant.permissions.all() if row.mode != "never"}
        more = offered_besides(client, resource, member, scopes, had)
        scopes = [*scopes, *more]
    form = {
        "asked": asked.as_data(),
        "scopes": [scope.name for scope in scopes],
        "member": str(member.id),
        "client": str(client.id),
        "browser": browser_mark(request),
        "once": secrets.token_urlsafe(16),
        "sign_in": [sign_in.acr, sign_in.at.timestamp()],  # as this request had it, whatever the session says later
        "until": int(now().timestamp()) + 2 * _GOOD_FOR,
    }
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
            "groups": groups(scopes, grant, said),
            "periods": _periods(grant, said),
            "until_date": (said or {}).get("until-date", ""),
            "earliest": (now() + timedelta(days=1)).date().isoformat(),
            "latest": (now() + timedelta(days=365)).date().isoformat(),
            "grant": grant,
            "form": signing.dumps(form, salt=_salt(tenant), compress=True),
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


@never_cache
@csrf_protect
@require_POST
def consent(request: HttpRequest, tenant: str) -> HttpResponse:
    """The answer: a grant and a code, or `access_denied`. 303 either way."""
    here = require_tenant(tenant)
    call = Call(tenant=here, ip=caller(request))
    try:
        form = _read_form(request, here)
    except OAuthError as error:
        with in_tenant(here.id):
            record_refusal(call, error, Action.AUTHORIZATION_REFUSED)
        return refused(request, here, error)
    asked = AuthorizationRequest.from_data(form["asked"])
    try:
        with in_tenant(here.id):
            member, client, resource = _still_there(request, here, form, asked)
            call.client = client
            if not spend_once(here.id, "consent", _mark(form), datetime.fromtimestamp(form["until"], UTC)):
                raise InvalidRequest("This question was answered already.", reason="consent_answered")
            if request.POST.get("answer") == "deny":
                _record_denial(call, client, member, resource)
                if asked.waits_elsewhere:
                    answer_elsewhere(asked, member, grant=None)
                    return _told(request, here, client, asked, allowed=False)
                return seen(error_address(asked.to, here, AccessDenied("The person said no.")))
            if request.POST.get("answer") != "allow":
                raise InvalidRequest("The form was not answered.", reason="consent_malformed")
            if asked.authorization_details:
                grant = allow_one_call(asked, client=client, resource=resource, member=member, ip=call.ip)
            else:
                grant = _grant(request, form, client=client, resource=resource, member=member, ip=call.ip)
            disclose(asked, client, member)
            if asked.waits_elsewhere:
                answer_elsewhere(asked, member, grant=grant, sign_in=_sign_in(form))
                return _told(request, here, client, asked, allowed=True)
            code = write_code(asked, grant, _sign_in(form))
            return seen(answer_address(asked.to, here, [("code", code)]))
    except (Unanswerable, NotGrantable) as wrong:  # rolled back: the question is still open
        with in_tenant(here.id):
            scopes = offered(asked, client, resource, member)
            grant_now = live_grant(client, resource, member)
            said = {**request.POST.dict(), "scope": request.POST.getlist("scope")}
            return show_consent(
                request,
                here,
                member=member,
                client=client,
                asked=asked,
                scopes=scopes,
                grant=grant_now,
                problem=str(wrong),
                said=said,
                sign_in=_sign_in(form),
            )
    except OAuthError as error:
        with in_tenant(here.id):
            record_refusal(call, error, Action.AUTHORIZATION_REFUSED)
        return refused(request, here, error)


def _read_form(request: HttpRequest, tenant: Tenant) -> dict[str, Any]:
    """Signed by us for this tenant, this person and this browser, and not long ago."""
    try:
        form = signing.loads(request.POST.get("request", ""), salt=_salt(tenant), max_age=_GOOD_FOR)
    except signing.SignatureExpired:
        raise InvalidRequest(
            "This question is too old. Start again where you came from.", reason="consent_old"
        ) from None
    except signing.BadSignature:
        raise InvalidRequest("This form is not one of ours.", reason="consent_forged") from None
    assert isinstance(form, dict)
    if not secrets.compare_digest(str(form["browser"]), browser_mark(request)):
        raise InvalidRequest("This question was asked in another browser.", reason="consent_other_browser")
    return form


def _still_there(
    request: HttpRequest, tenant: Tenant, form: dict[str, Any], asked: AuthorizationRequest
) -> tuple[Member, Agent, Resource]:
    """Between question and answer everything may have changed: look again. In the tenant's transaction."""
    member = Member.objects.select_related("user").filter(tenant=tenant, id=UUID(form["member"])).first()
    if (
        member is None
        or not member.is_active
        or not isinstance(request.user, User)
        or member.user_id != request.user.id
    ):
        raise InvalidRequest("This question was for somebody else.", reason="consent_other_person")
    client = Agent.objects.filter(tenant=tenant, id=UUID(form["client"])).first()
    there = asked.waits_elsewhere or (client is not None and is_registered(asked.to.redirect_uri, client.redirect_uris))
    if client is None or not client.is_active or not there:
        raise InvalidRequest("This agent can no longer be allowed anything.", reason="agent_changed")
    resource = resource_of(asked, tenant)
    if resource.state != Resource.State.PUBLISHED:
        raise InvalidRequest("This resource is no longer there.", reason="resource_gone")
    return member, client, resource


def _told(
    request: HttpRequest, tenant: Tenant, client: Agent, asked: AuthorizationRequest, *, allowed: bool
) -> HttpResponse:
    """Whoever waits hears it when it next asks; here only the person is told."""
    told = {"organisation": tenant, "client": client, "allowed": allowed, "device": asked.device}
    page = render(request, "oauth/answered_elsewhere.html", told)
    page["Content-Security-Policy"] = WITHOUT_SCRIPT
    return page


def _grant(
    request: HttpRequest, form: dict[str, Any], *, client: Agent, resource: Resource, member: Member, ip: str
) -> Grant:
    """What was ticked, as it was ticked. Nothing that was not on the page can be added."""
    ticked = set(request.POST.getlist("scope"))
    if not ticked <= set(form["scopes"]):
        raise InvalidRequest("The answer holds more than was asked.", reason="consent_grows")
    modes = {}
    for risk, possible in _MODES.items():
        modes[risk] = request.POST.get(f"{risk}-how", _FIRST[risk])
        if modes[risk] not in possible:
            raise InvalidRequest("The answer is not one of those that were offered.", reason="consent_malformed")
    permissions = {
        scope: modes[scope.risk]
        for scope in resource.scopes.filter(name__in=form["scopes"])
        if scope.name in ticked or modes[scope.risk] == "never"  # "never" is said of the whole group, and kept
    }
    if all(mode == "never" for mode in permissions.values()):
        raise Unanswerable("Tick at least one thing that it may do, or deny.")
    old = live_grant(client, resource, member)
    until = _until(request, old)
    kept: dict[Scope, str] = {row.scope: row.mode for row in old.permissions.select_related("scope")} if old else {}
    if old is not None and until <= old.expires_at and kept == permissions and not _identity_changed(client, old):
        if until < old.expires_at:  # the same and no longer: what it has already goes on (other devices of this agent)
            old.narrow(by=member, expires_at=until)
        return old
    return give(
        agent=client,
        resource=resource,
        member=member,
        by=member,
        permissions=permissions,
        expires_at=until,
        purpose=client.purpose,
        constraints=old.constraints if old else None,  # limits set on it are not lifted by asking again
        ip=ip,
    )


def _identity_changed(client: Agent, grant: Grant) -> bool:
    changed = client.client_metadata.get("identity_changed_at")
    return isinstance(changed, str) and changed > grant.given_at.isoformat()


def _until(request: HttpRequest, old: Grant | None) -> datetime:
    said = request.POST.get("until", "30")
    if said == "same" and old is not None:
        return old.expires_at
    if said == "today":
        return _end_of(now().date())
    if said in ("7", "30"):
        return now() + timedelta(days=int(said))
    try:
        return _end_of(date.fromisoformat(request.POST.get("until-date", "")))
    except ValueError:
        raise Unanswerable("Choose the day on which it ends.") from None


def _end_of(day: date) -> datetime:
    return datetime.combine(day, time(23, 59, 59), UTC)


def groups(scopes: list[Scope], grant: Grant | None, said: dict[str, Any] | None) -> list[Group]:
    """By rising risk; what was chosen before, on this page or in the grant, is chosen again."""
    kept = {row.scope_id: row.mode for row in grant.permissions.all()} if grant else {}
    found = []
    for risk, words in Risk.choices:
        mine = [scope for scope in scopes if scope.risk == risk]
        if not mine:
            continue
        modes = [kept[scope.id] for scope in mine if scope.id in kept]
        chosen = (said or {}).get(f"{risk}-how") or _strictest(modes) or _FIRST[risk]
        found.append(
            Group(
                risk,
                words,
                [(mode, _MODE_WORDS[mode], mode == chosen) for mode in _MODES[risk]],
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


def offered_besides(
    client: Agent, resource: Resource, member: Member, scopes: list[Scope], had: set[UUID]
) -> list[Scope]:
    """What the live grant allows and this request did not name."""
    named = {scope.id for scope in scopes}
    return [scope for scope in offerable(client, resource, member) if scope.id in had and scope.id not in named]


def _periods(grant: Grant | None, said: dict[str, Any] | None) -> list[tuple[str, str, bool]]:
    offered_periods = dict(_PERIODS)
    if grant is not None:
        offered_periods = {"same": f"{grant.expires_at:%-d %b}, as now", **offered_periods}
    chosen = (said or {}).get("until") or ("same" if grant is not None else "30")
    return [(value, words, value == chosen) for value, words in offered_periods.items()]


def _record_denial(call: Call, client: Agent, member: Member, resource: Resource) -> None:
    record(
        Action.GRANT_REFUSED,
        tenant_id=call.tenant.id,
        actor=actor_of(member),
        agent_id=client.id,
        member_id=member.id,
        resource_id=resource.id,
        decision="refuse",
        reasons=["person_said_no"],
        ip=call.ip,
    )


def _sign_in(form: dict[str, Any]) -> SignIn:
    acr, at = form["sign_in"]
    return SignIn(acr, datetime.fromtimestamp(at, UTC))


def _salt(tenant: Tenant) -> str:
    return f"{_SALT}/{tenant.id}"


def _mark(form: dict[str, Any]) -> bytes:
    return hashlib.sha256(str(form["once"]).encode()).digest()
