"""The consent page's answer: a grant and a code, or `access_denied`. Once, by whom and where it was asked."""

from datetime import UTC, date, datetime, time, timedelta

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.timezone import now
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_POST

from agentauth.agents.models import Agent, actor_of
from agentauth.grants.granting import NotGrantable, give, live_grant
from agentauth.grants.models import Grant
from agentauth.oauth.authorization_request import (
    AuthorizationRequest,
    answer_address,
    error_address,
    offered,
    resource_of,
)
from agentauth.oauth.codes import write_code
from agentauth.oauth.consent_form import ConsentForm, read_form
from agentauth.oauth.consent_page import FIRST, MODES, show_consent
from agentauth.oauth.disclosures import disclose
from agentauth.oauth.door import Call, caller, record_refusal
from agentauth.oauth.elsewhere import answer as answer_elsewhere
from agentauth.oauth.errors import AccessDenied, InvalidRequest, OAuthError
from agentauth.oauth.one_call import allow_one_call
from agentauth.oauth.pages import WITHOUT_SCRIPT, refused, seen
from agentauth.oauth.redirect_uris import is_registered
from agentauth.oauth.self_registration import became_another
from agentauth.resources.models import Resource, Scope
from audit.actions import Action
from audit.record import record
from tenants.access import require_tenant
from tenants.models import Member, Tenant, User
from tenants.rls import in_tenant


class Unanswerable(Exception):
    """The answer cannot be taken as it is; the page is shown again with this."""


@never_cache
@csrf_protect
@require_POST
def consent(request: HttpRequest, tenant: str) -> HttpResponse:
    """The answer: a grant and a code, or `access_denied`. 303 either way."""
    here = require_tenant(tenant)
    call = Call(tenant=here, ip=caller(request))
    try:
        form = read_form(request, here)
    except OAuthError as error:
        with in_tenant(here.id):
            record_refusal(call, error, Action.AUTHORIZATION_REFUSED)
        return refused(request, here, error, is_answer=True)
    asked = form.asked
    try:
        with in_tenant(here.id):
            member, client, resource = _still_there(request, here, form)
            call.client = client
            if not form.spend(here):
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
                answer_elsewhere(asked, member, grant=grant, sign_in=form.sign_in)
                return _told(request, here, client, asked, allowed=True)
            code = write_code(asked, grant, form.sign_in)
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
                sign_in=form.sign_in,
            )
    except OAuthError as error:
        with in_tenant(here.id):
            record_refusal(call, error, Action.AUTHORIZATION_REFUSED)
        return refused(request, here, error, is_answer=True)


def _still_there(request: HttpRequest, tenant: Tenant, form: ConsentForm) -> tuple[Member, Agent, Resource]:
    """Between question and answer everything may have changed: look again. In the tenant's transaction."""
    member = Member.objects.select_related("user").filter(tenant=tenant, id=form.member).first()
    if (
        member is None
        or not member.is_active
        or not isinstance(request.user, User)
        or member.user_id != request.user.id
    ):
        raise InvalidRequest("This question was for somebody else.", reason="consent_other_person")
    client = Agent.objects.filter(tenant=tenant, id=form.client).first()
    asked = form.asked
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
    told |= {"one_call": bool(asked.authorization_details)}
    page = render(request, "oauth/answered_elsewhere.html", told)
    page["Content-Security-Policy"] = WITHOUT_SCRIPT
    return page


def _grant(
    request: HttpRequest, form: ConsentForm, *, client: Agent, resource: Resource, member: Member, ip: str
) -> Grant:
    """What was ticked, as it was ticked. Nothing that was not on the page can be added."""
    ticked = set(request.POST.getlist("scope"))
    if not ticked <= set(form.scopes):
        raise InvalidRequest("The answer holds more than was asked.", reason="consent_grows")
    modes = {}
    for risk, possible in MODES.items():
        modes[risk] = request.POST.get(f"{risk}-how", FIRST[risk])
        if modes[risk] not in possible:
            raise InvalidRequest("The answer is not one of those that were offered.", reason="consent_malformed")
    permissions = {
        scope: modes[scope.risk]
        for scope in resource.scopes.filter(name__in=form.scopes)
        if scope.name in ticked or modes[scope.risk] == "never"  # "never" is said of the whole group, and kept
    }
    if all(mode == "never" for mode in permissions.values()):
        raise Unanswerable("Tick at least one thing that it may do, or deny.")
    old = live_grant(client, resource, member)
    until = _until(request, old)
    kept: dict[Scope, str] = {row.scope: row.mode for row in old.permissions.select_related("scope")} if old else {}
    if old is not None and until <= old.expires_at and kept == permissions and not became_another(client, old):
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
