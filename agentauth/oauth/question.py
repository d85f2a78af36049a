"""What is asked from another place, put to the person: the usual question, always, whatever was allowed before."""

from typing import cast
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from agentauth.grants.granting import live_grant
from agentauth.oauth.authorization_request import AuthorizationRequest, Destination, offered, with_what_it_takes
from agentauth.oauth.consent_page import show_consent
from agentauth.oauth.door import Call, caller, record_refusal
from agentauth.oauth.elsewhere import Waiting, refuse
from agentauth.oauth.errors import ApprovalFirst, OAuthError, SecondFactorMissing
from agentauth.oauth.models import BackchannelRequest, DeviceRequest
from agentauth.oauth.pages import WITHOUT_SCRIPT, refused
from agentauth.oauth.set_up_first import told_to_set_up
from agentauth.oauth.step_up import step_up
from agentauth.oauth.waiting import told_to_wait
from audit.actions import Action
from tenants.access import TenantRequest, tenant_page


@never_cache
@require_safe
@tenant_page
def agent_asks(request: HttpRequest, request_id: UUID) -> HttpResponse:
    """An agent's question in the inbox (OpenID Connect CIBA), for the person it names and nobody else."""
    here = cast(TenantRequest, request)
    rows = BackchannelRequest.objects.select_related("agent", "resource", "grant")
    row = rows.filter(tenant=here.tenant, member=here.member, id=request_id).first()
    if row is None:
        raise Http404
    if not row.is_open:
        told = {"organisation": here.tenant, "client": row.agent, "allowed": bool(row.allowed_at)}
        told |= {"lapsed": row.answered_at is None, "one_call": bool(row.authorization_details)}
        page = render(request, "oauth/answered_elsewhere.html", told)
        page["Content-Security-Policy"] = WITHOUT_SCRIPT
        return page
    return ask(here, row)


def ask(request: TenantRequest, row: Waiting) -> HttpResponse:
    """In the tenant's transaction, after the sign-in that it takes. What nobody may allow is refused at once."""
    asked = _request_of(row)
    try:
        scopes = offered(asked, row.agent, row.resource, request.member)
        away = step_up(request, request.member.user, asked, silent=False)
        if away is not None:
            return away
        grant = live_grant(row.agent, row.resource, request.member)
        return show_consent(
            request, request.tenant, member=request.member, client=row.agent, asked=asked, scopes=scopes, grant=grant
        )
    except OAuthError as error:
        call = Call(tenant=request.tenant, ip=caller(request), client=row.agent)
        record_refusal(call, error, Action.AUTHORIZATION_REFUSED)
        if isinstance(error, SecondFactorMissing):  # which they can set up, and then answer
            return told_to_set_up(request, request.tenant, row.agent, asked.to, error)
        refuse(row)
        if isinstance(error, ApprovalFirst):
            return told_to_wait(request, request.tenant, row.agent, asked.to, error)
        return refused(request, request.tenant, error)


def _request_of(row: Waiting) -> AuthorizationRequest:
    is_device = isinstance(row, DeviceRequest)
    details = tuple(row.authorization_details)
    levels = () if isinstance(row, DeviceRequest) else tuple(row.acr_values.split())
    acr_values, max_age = with_what_it_takes(details, row.resource, levels, None)
    return AuthorizationRequest(
        to=Destination(row.agent.client_id, "", False, None),
        resource_id=str(row.resource_id),
        scope=tuple(row.scope.split()),
        protocol_scope=tuple(row.protocol_scope.split()),
        code_challenge="",
        nonce="",
        prompt=(),
        max_age=max_age,
        login_hint="",
        acr_values=acr_values,
        authorization_details=details,
        device=str(row.id) if is_device else "",
        backchannel="" if is_device else str(row.id),
        binding_message="" if isinstance(row, DeviceRequest) else row.binding_message,
    )
