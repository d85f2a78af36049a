"""The catalogue: what the operator offers to every tenant, and a tenant adopting an entry as a resource of its own."""

from uuid import UUID

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from agentauth.console.handing import HandedOut
from agentauth.console.resources import UNREACHABLE, Connection, add_errors, to_resource
from agentauth.resources import importing
from agentauth.resources.drafts import Draft
from agentauth.resources.models import RESOURCE_SLUG, CatalogueEntry, Resource
from agentauth.resources.upstream import set_credential
from audit.record import Actor
from tenants.access import ADMINS, TenantRequest, operator_page, tenant_page


class Offer(forms.Form):
    kind = forms.ChoiceField(
        label="What is it?", choices=(("rest", "A REST API"), ("mcp", "An MCP server")), initial="rest"
    )
    name = forms.CharField(label="Name", max_length=80)
    slug = forms.CharField(label="Short name", max_length=39, validators=[RESOURCE_SLUG])
    description = forms.CharField(label="Description", max_length=300, required=False)
    upstream_url = forms.CharField(label="Address", max_length=500, help_text="Of the API, or of the MCP endpoint.")
    document = forms.CharField(
        label="OpenAPI document", required=False, widget=forms.Textarea(attrs={"rows": 8}), help_text="For a REST API."
    )


class Adopt(Connection):
    """What a tenant adds to an offer: its own short name, its own credential."""

    name = None  # type: ignore[assignment]  # as offered


@require_GET
@operator_page
def catalogue(request: TenantRequest) -> HttpResponse:
    entries = CatalogueEntry.objects.order_by("name", "id")
    page = {
        "offered": [entry for entry in entries if entry.withdrawn_at is None],
        "withdrawn": [entry for entry in entries if entry.withdrawn_at is not None],
    }
    return render(request, "console/operator/catalogue.html", page)


@require_http_methods(["GET", "HEAD", "POST"])
@operator_page
def offer(request: TenantRequest) -> HttpResponse:
    form = Offer(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            with transaction.atomic():
                entry = importing.offer(by=_operator(request), **form.cleaned_data)
        except ValidationError as wrong:
            add_errors(form, wrong)
        else:
            messages.success(request, f"{entry.name} is offered to every organisation.")
            return HttpResponseRedirect(reverse("catalogue"), status=303)
    return render(request, "console/operator/offer.html", {"form": form}, status=422 if form.errors else 200)


@require_POST
@operator_page
def withdraw(request: TenantRequest, entry_id: UUID) -> HttpResponse:
    entry = CatalogueEntry.objects.filter(id=entry_id, withdrawn_at=None).first()
    if entry is None:
        raise Http404
    importing.withdraw(entry, by=_operator(request))
    messages.success(request, f"{entry.name} is offered no longer. Who adopted it keeps it.")
    return HttpResponseRedirect(reverse("catalogue"), status=303)


@require_http_methods(["GET", "HEAD", "POST"])
def adopt(request: HttpRequest, tenant: str, entry_id: UUID) -> HttpResponseBase:
    """Make an offer a resource of this tenant's own. An MCP server is asked for its tools outside the transaction."""
    answer: HttpResponseBase = _ask(request, tenant=tenant, entry_id=entry_id)
    if not isinstance(answer, HandedOut):
        return answer
    form, draft, entry = answer.what, None, CatalogueEntry.objects.get(id=entry_id)
    try:
        said = form.cleaned_data
        draft = importing.read_adoptable(entry, auth=said["auth"], header=said["header"], secret=said["secret"])
    except UNREACHABLE as wrong:
        form.add_error(None, str(wrong))
    except ValidationError as wrong:
        add_errors(form, wrong)
    adopted: HttpResponseBase = _adopt(request, tenant=tenant, entry=entry, form=form, draft=draft)
    return adopted


@tenant_page(roles=ADMINS)
def _ask(request: TenantRequest, entry_id: UUID) -> HttpResponse:
    entry = CatalogueEntry.objects.filter(id=entry_id, withdrawn_at=None).first()
    if entry is None:
        raise Http404
    form = Adopt(request.POST or None, initial={"slug": entry.slug})
    if request.method == "POST" and form.is_valid():
        return HandedOut(form)
    return _form(request, entry, form)


@tenant_page(roles=ADMINS)
def _adopt(request: TenantRequest, entry: CatalogueEntry, form: Connection, draft: Draft | None) -> HttpResponse:
    said = form.cleaned_data
    if draft is not None:
        try:
            with transaction.atomic():
                found = importing.adopt(request.tenant, entry, by=request.member, draft=draft, slug=said["slug"])
                if said["auth"] != Resource.UpstreamAuth.NONE:
                    set_credential(
                        found, by=request.member, auth=said["auth"], header=said["header"], secret=said["secret"]
                    )
        except ValidationError as wrong:
            add_errors(form, wrong)
        else:
            return to_resource(request, found)
    return _form(request, entry, form)


def _form(request: TenantRequest, entry: CatalogueEntry, form: Connection) -> HttpResponse:
    page = {"entry": entry, "form": form}
    return render(request, "console/catalogue/adopt.html", page, status=422 if form.errors else 200)


def _operator(request: TenantRequest) -> Actor:
    return Actor("operator", str(request.user.id))
