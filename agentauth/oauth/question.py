"""What is asked from another place, put to the person: the usual question, always, whatever was allowed before."""

from typing import cast
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from agentauth.grants.granting import live_grant
from agentauth.oauth.authorization_request import AuthorizationRequest, Destination, offered
from agentauth.oauth.consent_page import show_consent
from agentauth.oauth.door import Call, caller, record_refusal
from agentauth.oauth.elsewhere import Waiting, refuse
from agentauth.oauth.errors import ApprovalFirst, OAuthError
from agentauth.oauth.models import BackchannelRequest, DeviceRequest
from agentauth.oauth.pages import WITHOUT_SCRIPT, refused
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
    """In the tenant's transaction. What nobody may allow is refused at once."""
    asked = _request_of(row)
    try:
        scopes = offered(asked, row.agent, row.resource, request.member)
        grant = live_grant(row.agent, row.resource, request.member)
        return show_consent(
            request, request.tenant, member=request.member, client=row.agent, asked=asked, scopes=scopes, grant=grant
        )
    except OAuthError as error:
        refuse(row)
        call = Call(tenant=request.tenant, ip=caller(request), client=row.agent)
        record_refusal(call, error, Action.AUTHORIZATION_REFUSED)
        if isinstance(error, ApprovalFirst):
            return told_to_wait(request, request.tenant, row.agent, asked.to, error)
        return refused(request, request.tenant, error)


def _request_of(row: Waiting) -> AuthorizationRequest:
    is_device = isinstance(row, DeviceRequest)
    return AuthorizationRequest(
        to=Destination(row.agent.client_id, "", False, None),
        resource_id=str(row.resource_id),
        scope=tuple(row.scope.split()),
        protocol_scope=tuple(row.protocol_scope.split()),
        code_challenge="",
        nonce="",
        prompt=(),
        max_age=None,
        login_hint="",
        authorization_details=tuple(row.authorization_details),
        device=str(row.id) if is_device else "",
        backchannel="" if is_device else str(row.id),
        binding_message="" if isinstance(row, DeviceRequest) else row.binding_message,
    )
