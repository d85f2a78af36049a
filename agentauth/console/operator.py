"""The operator's pages: tenants are founded and counted here, and nothing that is in them is read."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django import forms
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.http import Http404, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods

from agentauth.console.resources import add_errors
from agentauth.keys.addresses import issuer
from agentauth.keys.ring import seal, unseal
from agentauth.resources.founding import found_tenant
from audit.record import Actor
from tenants.access import TenantRequest, operator_page
from tenants.issuer import move_issuer
from tenants.models import SLUG, SignInLink, Tenant
from tenants.rls import set_tenant

PAGE = 25
_LINK = "sign-in-link"  # where the session keeps the first owner's link until it has been shown
COUNTS = {"people": "tenants_member", "agents": "agents_agent", "resources": "resources_resource"}


@dataclass(frozen=True, slots=True)
class Counted:
    """A tenant and how much is in it; never what."""

    tenant: Tenant
    people: int
    agents: int
    resources: int
    lines: int


class Found(forms.Form):
    name = forms.CharField(label="Name of the organisation", max_length=120)
    slug = forms.CharField(
        label="Name in addresses",
        max_length=40,
        validators=[SLUG],
        help_text="It stands in every address and in its tokens, and stays as it is. Small letters, digits, hyphens.",
    )
    owner_name = forms.CharField(label="First owner", max_length=120)
    owner_email = forms.EmailField(label="E-mail address of the first owner", max_length=254)


@require_GET
@operator_page
def tenants(request: TenantRequest) -> HttpResponse:
    after = request.GET.get("after", "")
    found = Tenant.objects.order_by("slug").filter(slug__gt=after) if after else Tenant.objects.order_by("slug")
    shown = list(found[: PAGE + 1])
    more = "?" + urlencode({"after": shown[PAGE - 1].slug}) if len(shown) > PAGE else ""
    page = {
        "tenants": [_counted(tenant) for tenant in shown[:PAGE]],
        "total": Tenant.objects.count(),
        "page": {"next": more, "previous": request.path if after else ""},
    }
    return render(request, "console/operator/tenants.html", page)


@require_http_methods(["GET", "HEAD", "POST"])
@operator_page
def new_tenant(request: TenantRequest) -> HttpResponse:
    form = Found(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            with transaction.atomic():
                tenant, owner = found_tenant(**form.cleaned_data, actor=Actor("operator", str(request.user.id)))
                link = f"{settings.KNOBS.base_url}/sign-in/{SignInLink.make(owner.user)}"
        except ValidationError as wrong:
            add_errors(form, wrong)
        else:
            kept = seal(link.encode(), tenant_id=tenant.id, row_id=tenant.id, purpose=_LINK)
            request.session[_LINK] = {"tenant": str(tenant.id), "link": kept.hex()}
            return HttpResponseRedirect(reverse("operator_tenant", args=[tenant.id]), status=303)
    return render(request, "console/operator/new.html", {"form": form}, status=422 if form.errors else 200)


@never_cache
@require_GET
@operator_page
def tenant_founded(request: TenantRequest, tenant_id: UUID) -> HttpResponse:
    """The tenant that was just founded. The owner's sign-in link is shown here once."""
    tenant = Tenant.objects.filter(id=tenant_id).first()
    if tenant is None:
        raise Http404
    kept: dict[str, str] = request.session.get(_LINK) or {}
    link = ""
    if kept.get("tenant") == str(tenant.id):
        sealed = bytes.fromhex(kept["link"])
        link = unseal(sealed, tenant_id=tenant.id, row_id=tenant.id, purpose=_LINK).decode()
        del request.session[_LINK]
    page = {"counted": _counted(tenant), "link": link, "issuer": issuer(tenant)}
    return render(request, "console/operator/founded.html", page)


class IssuerHost(forms.Form):
    """Where the organisation's issuer stands."""

    host = forms.CharField(
        label="Host of its own",
        max_length=253,
        required=False,
        help_text="Its name alone, such as auth.acme.example. Empty for the address under ours.",
    )


@require_http_methods(["GET", "POST"])
@operator_page
def tenant_issuer(request: TenantRequest, tenant_id: UUID) -> HttpResponse:
    tenant = Tenant.objects.filter(id=tenant_id).first()
    if tenant is None:
        raise Http404
    form = IssuerHost(request.POST or None, initial={"host": tenant.issuer_host})
    if request.method == "POST" and form.is_valid():
        set_tenant(tenant.id)
        try:
            move_issuer(tenant, form.cleaned_data["host"], by=Actor("operator", str(request.user.id)))
        except ValidationError as wrong:
            form.add_error("host", wrong)
        else:
            messages.success(request, f"The issuer of {tenant.name} is {issuer(tenant)} from now on.")
            return HttpResponseRedirect(reverse("operator_tenant", args=[tenant.id]), status=303)
    page = {"tenant": tenant, "form": form, "issuer": issuer(tenant)}
    return render(request, "console/operator/issuer.html", page, status=422 if form.errors else 200)


def _counted(tenant: Tenant) -> Counted:
    """Numbers only. The tenant's rows are visible to nothing else in this transaction."""
    set_tenant(tenant.id)
    with connection.cursor() as cursor:
        parts = [f"(SELECT count(*) FROM {table} WHERE tenant_id = %s)" for table in COUNTS.values()]
        parts.append("(SELECT coalesce(max(size), 0) FROM audit_checkpoint WHERE tenant_id = %s)")
        cursor.execute(f"SELECT {', '.join(parts)}", [tenant.id] * len(parts))
        row: Any = cursor.fetchone()
        cursor.execute("SELECT set_config('agentauth.tenant', '', true)")
    return Counted(tenant, *row)
