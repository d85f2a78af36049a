"""Keys and secrets of an agent: adding, showing a secret once, retiring."""

from uuid import UUID

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from agentauth.agents.models import Agent, Credential, WrongState
from agentauth.agents.registering import add_key, add_secret
from agentauth.console import once
from agentauth.console.agent_form import CredentialForm
from agentauth.console.agents import require_agent, to_agent
from agentauth.keys.addresses import issuer
from tenants.access import ADMINS, TenantRequest, tenant_page


@require_http_methods(["GET", "POST"])
@tenant_page(roles=ADMINS)
def credential_new(request: TenantRequest, agent_id: UUID) -> HttpResponse:
    agent = require_agent(request, agent_id)
    form = CredentialForm(request.POST or None, initial={"proof": _usual(agent)})
    if request.method == "POST" and form.is_valid():
        try:
            return _add(request, agent, form)
        except (ValidationError, WrongState) as wrong:
            texts = wrong.messages if isinstance(wrong, ValidationError) else [str(wrong)]
            for text in texts:
                form.add_error(None, text)
    page = {"form": form, "agent": agent}
    return render(request, "console/agents/credential.html", page, status=422 if form.errors else 200)


def _usual(agent: Agent) -> str:
    return "secret" if agent.token_endpoint_auth_method.startswith("client_secret") else "browser"


def _add(request: TenantRequest, agent: Agent, form: CredentialForm) -> HttpResponse:
    said = form.cleaned_data
    if said["proof"] == "secret":
        _, secret = add_secret(agent, by=request.member, expires_at=said["expires_at"])
        return show_once(request, agent, secret)
    add_key(agent, said["jwk"], by=request.member, expires_at=said["expires_at"])
    messages.success(request, "The new key works from now on. Retire the old one when it is no longer used.")
    return to_agent(request, agent, "credentials")


@require_POST
@tenant_page(roles=ADMINS)
def credential_retire(request: TenantRequest, agent_id: UUID, credential_id: UUID) -> HttpResponse:
    agent = require_agent(request, agent_id)
    credential = Credential.objects.filter(tenant=request.tenant, agent=agent, id=credential_id).first()
    if credential is None:
        raise Http404
    try:
        credential.retire(by=request.member)
        messages.success(
            request, "Retired. Tokens that it got live out their minutes; stop the agent to end those too."
        )
    except WrongState as wrong:
        messages.warning(request, str(wrong))
    return to_agent(request, agent, "credentials")


def show_once(request: TenantRequest, agent: Agent, secret: str) -> HttpResponse:
    """Send the browser to a page that shows `secret` and forgets it."""
    once.keep(request, agent.id, secret)
    response = HttpResponseRedirect(reverse("secret_once", args=[request.tenant.slug, agent.id]))
    response.status_code = 303
    return response


@require_GET
@tenant_page(roles=ADMINS)
def secret_once(request: TenantRequest, agent_id: UUID) -> HttpResponse:
    """The secret, the first time; afterwards only what to do instead."""
    agent = require_agent(request, agent_id)
    secret = once.take(request, agent.id)
    page = {"agent": agent, "secret": secret, "issuer": issuer(request.tenant)}
    return render(request, "console/agents/secret.html", page, status=200 if secret else 410)
