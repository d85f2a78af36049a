"""Letting an API check tokens itself: the secrets and keys of its own server. Adding, showing once, retiring."""

from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from agentauth.agents.models import WrongState
from agentauth.console import once
from agentauth.console.pasted_key import NotAKey, public_jwk
from agentauth.console.resources import require_own, to_resource
from agentauth.keys.addresses import issuer
from agentauth.resources.checking import add_server_credential, add_server_key, client_id_of
from tenants.access import ADMINS, TenantRequest, tenant_page


@require_POST
@tenant_page(roles=ADMINS)
def server_secret_new(request: TenantRequest, slug: str) -> HttpResponse:
    found = require_own(request, slug)
    try:
        _, secret = add_server_credential(found, by=request.member)
    except WrongState as wrong:
        messages.warning(request, str(wrong))
        return to_resource(request, found)
    once.keep(request, found.id, secret)
    return HttpResponseRedirect(reverse("server_secret", args=[request.tenant.slug, found.slug]), status=303)


@require_POST
@tenant_page(roles=ADMINS)
def server_key_new(request: TenantRequest, slug: str) -> HttpResponse:
    found = require_own(request, slug)
    try:
        add_server_key(found, public_jwk(request.POST.get("key", "")), by=request.member)
        messages.success(request, "Its server may prove itself with this key from now on.")
    except (NotAKey, WrongState) as wrong:
        messages.warning(request, str(wrong))
    return to_resource(request, found)


@require_GET
@tenant_page(roles=ADMINS)
def server_secret(request: TenantRequest, slug: str) -> HttpResponse:
    """The secret, the first time; afterwards only what to do instead."""
    found = require_own(request, slug)
    secret = once.take(request, found.id)
    page = {"resource": found, "secret": secret, "client_id": client_id_of(found), "issuer": issuer(request.tenant)}
    return render(request, "console/resources/server_secret.html", page, status=200 if secret else 410)


@require_POST
@tenant_page(roles=ADMINS)
def server_secret_retire(request: TenantRequest, slug: str, credential_id: UUID) -> HttpResponse:
    found = require_own(request, slug)
    credential = found.server_credentials.filter(id=credential_id).first()
    if credential is None:
        raise Http404
    try:
        credential.retire(by=request.member)
        messages.success(request, "Retired. Whoever asks with it is refused from now on.")
    except WrongState as wrong:
        messages.warning(request, str(wrong))
    return to_resource(request, found)
