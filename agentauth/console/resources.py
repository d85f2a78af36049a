"""Resources: the APIs and MCP servers that agents may reach. Read what a server offers, name it, publish it."""

from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Count, Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.text import slugify
from django.utils.timezone import now
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from agentauth.agents.models import WrongState
from agentauth.console.handing import HandedOut
from agentauth.console.scopes_form import operation_rows, read_edits, scope_rows, unmapped
from agentauth.grants.leaving import retire_resource
from agentauth.grants.models import Grant
from agentauth.grants.sign_in_rules import find_rule
from agentauth.keys.addresses import resource_url
from agentauth.keys.ring import RingError
from agentauth.outbound.addresses import FetchRefused
from agentauth.outbound.fetch import FetchFailed
from agentauth.resources import importing, publishing
from agentauth.resources.drafts import Draft, Unreadable
from agentauth.resources.models import RESOURCE_SLUG, CatalogueEntry, Resource
from agentauth.resources.upstream import headers_for, set_address, set_credential
from tenants.access import ADMINS, TenantRequest, tenant_page

UNREACHABLE = (FetchRefused, FetchFailed, Unreadable)
HOW = (("address", "From an address"), ("upload", "A file"), ("paste", "Paste it"))


class Connection(forms.Form):
    """Fields that every new resource has: its names, and how its server knows us."""

    name = forms.CharField(label="Name", max_length=80, help_text="As people will read it when they are asked.")
    slug = forms.CharField(
        label="Short name",
        max_length=39,
        required=False,
        validators=[RESOURCE_SLUG],
        help_text="Stands in its address at the gateway. Made from the name if empty.",
    )
    auth = forms.ChoiceField(
        label="How does the server know us?", choices=Resource.UpstreamAuth.choices, initial="none", required=False
    )
    header = forms.CharField(
        label="Header or user name", max_length=60, required=False, help_text="Only for “A header” and “User name”."
    )
    secret = forms.CharField(
        label="Credential",
        required=False,
        max_length=8192,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        help_text="Kept encrypted and never shown again. Agents never see it.",
    )

    def clean(self) -> dict[str, Any]:
        said: dict[str, Any] = super().clean() or {}
        said["auth"] = said.get("auth") or "none"
        if not said.get("slug") and said.get("name"):
            said["slug"] = slugify(said["name"])[:39].strip("-")
            if not said["slug"]:
                self.add_error("slug", "Enter a short name of small letters, digits and hyphens.")
        if not self.errors:
            try:
                headers_for(said["auth"], said.get("header", "").strip(), said.get("secret", ""))
            except ValidationError as wrong:
                add_errors(self, wrong)
        return said


for _field in ("header", "secret"):
    Connection.base_fields[_field].sometimes = True  # type: ignore[attr-defined]  # needed or hidden, never "optional"


class NewApi(Connection):
    how = forms.ChoiceField(label="Where is its OpenAPI document?", choices=HOW, initial="address")
    document_url = forms.CharField(
        label="Address of the document", required=False, max_length=500, help_text="For example https://…/openapi.json"
    )
    document_file = forms.FileField(label="File", required=False, help_text="OpenAPI 3 or Swagger 2, JSON or YAML.")
    document = forms.CharField(label="The document", required=False, widget=forms.Textarea(attrs={"rows": 8}))
    upstream_url = forms.CharField(
        label="Address of the API",
        required=False,
        max_length=500,
        help_text="Where calls go. If empty, the address that the document gives.",
    )

    field_order = ["how", "document_url", "document_file", "document", "name", "slug", "upstream_url"]

    def clean(self) -> dict[str, Any]:
        said = super().clean()
        needed = {"address": "document_url", "upload": "document_file", "paste": "document"}.get(said.get("how", ""))
        if needed and not said.get(needed):
            words = {
                "document_url": "Enter the address of the document.",
                "document_file": "Choose the file.",
                "document": "Paste the document.",
            }
            self.add_error(needed, words[needed])
        return said


for _field in ("document_url", "document_file", "document"):
    NewApi.base_fields[_field].sometimes = True  # type: ignore[attr-defined]  # the one that was chosen is needed


class NewMcp(Connection):
    upstream_url = forms.CharField(
        label="Address of the MCP server", max_length=500, help_text="Its endpoint, for example https://…/mcp"
    )

    field_order = ["upstream_url", "name", "slug"]


class Edit(forms.Form):
    name = forms.CharField(label="Name", max_length=80)
    description = forms.CharField(label="Description", max_length=300, required=False)
    upstream_url = forms.CharField(label="Address of the server", max_length=500, help_text="Where calls go.")
    bound_tokens_only = forms.BooleanField(
        label="Only tokens that are bound to a key",
        required=False,
        help_text="With every call an agent proves that it holds its key, so a stolen token opens nothing."
        " For programs that can (DPoP): most cannot yet.",
    )


class Credential(forms.Form):
    auth = forms.ChoiceField(label="How does the server know us?", choices=Resource.UpstreamAuth.choices)
    header = Connection.base_fields["header"]
    secret = Connection.base_fields["secret"]


@require_GET
@tenant_page(roles=ADMINS)
def resources(request: TenantRequest) -> HttpResponse:
    live = Q(grants__ended_at=None, grants__expires_at__gt=now())
    found = Resource.objects.filter(tenant=request.tenant).annotate(
        live_grants=Count("grants", filter=live, distinct=True),
        calls=Count("operations", distinct=True),
        held=Count("operations", filter=~Q(operations__changed_at=None), distinct=True),
    )
    order = {"draft": 0, "published": 1, "retired": 2}
    rows = sorted(found, key=lambda row: (row.kind == "management", order[row.state], row.name.casefold()))
    own = [row for row in rows if row.kind != Resource.Kind.MANAGEMENT]
    adopted = {row.adopted_from_id for row in own if row.adopted_from_id and row.state != Resource.State.RETIRED}
    offered = CatalogueEntry.objects.filter(withdrawn_at=None).exclude(id__in=adopted).order_by("name")
    page = {"resources": rows, "own": own, "offered": offered}
    return render(request, "console/resources/list.html", page)


@require_http_methods(["GET", "HEAD", "POST"])
def new_api(request: HttpRequest, tenant: str) -> HttpResponseBase:
    """A REST API from its OpenAPI document. The document is fetched outside the transaction."""
    return _new(request, tenant, NewApi, "rest")


@require_http_methods(["GET", "HEAD", "POST"])
def new_mcp(request: HttpRequest, tenant: str) -> HttpResponseBase:
    """An MCP server by its address. Its tools are read outside the transaction."""
    return _new(request, tenant, NewMcp, "mcp")


def _new(request: HttpRequest, tenant: str, kind_of_form: type[Connection], kind: str) -> HttpResponseBase:
    answer: HttpResponseBase = _ask(request, tenant=tenant, kind_of_form=kind_of_form, kind=kind)
    if not isinstance(answer, HandedOut):
        return answer
    form, draft = answer.what, None
    try:
        draft = _read(form.cleaned_data, kind)
    except UNREACHABLE as wrong:
        form.add_error(_source_field(form.cleaned_data, kind), str(wrong))
    except ValidationError as wrong:
        add_errors(form, wrong)
    registered: HttpResponseBase = _register(request, tenant=tenant, form=form, kind=kind, draft=draft)
    return registered


@tenant_page(roles=ADMINS)
def _ask(request: TenantRequest, *, kind_of_form: type[Connection], kind: str) -> HttpResponse:
    form = kind_of_form(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        return HandedOut(form)
    return _form(request, form, kind)


@tenant_page(roles=ADMINS)
def _register(request: TenantRequest, *, form: Connection, kind: str, draft: Draft | None) -> HttpResponse:
    said = form.cleaned_data
    if draft is not None:
        try:
            with transaction.atomic():
                resource = importing.register_resource(
                    request.tenant,
                    by=request.member,
                    slug=said["slug"],
                    name=said["name"],
                    description=draft.description,
                    kind=kind,
                    upstream_url=said["upstream_url"] or draft.upstream_url,
                    draft=draft,
                    source={"address": said.get("document_url", ""), "upload": "uploaded", "paste": "pasted"}.get(
                        said.get("how", ""), said["upstream_url"]
                    ),
                )
                if said["auth"] != Resource.UpstreamAuth.NONE:
                    set_credential(
                        resource, by=request.member, auth=said["auth"], header=said["header"], secret=said["secret"]
                    )
        except ValidationError as wrong:
            add_errors(form, wrong)
        else:
            for note in draft.notes[:5]:
                messages.info(request, note)
            return to_resource(request, resource)
    return _form(request, form, kind)


def _form(request: TenantRequest, form: Connection, kind: str) -> HttpResponse:
    page = {"form": form, "kind": kind, "how": form["how"].value() if kind == "rest" else ""}
    template = "console/resources/new_api.html" if kind == "rest" else "console/resources/new_mcp.html"
    return render(request, template, page, status=422 if form.errors else 200)


def _read(said: dict[str, Any], kind: str) -> Draft:
    if kind == "mcp":
        return importing.read_mcp(said["upstream_url"], auth=said["auth"], header=said["header"], secret=said["secret"])
    if said["how"] == "address":
        return importing.fetch_openapi(said["document_url"])
    if said["how"] == "upload":
        return importing.read_openapi(said["document_file"].read())
    return importing.read_openapi(said["document"])


def _source_field(said: dict[str, Any], kind: str) -> str:
    if kind == "mcp":
        return "upstream_url"
    return {"address": "document_url", "upload": "document_file"}.get(said.get("how", ""), "document")


@require_GET
@tenant_page(roles=ADMINS)
def resource(request: TenantRequest, slug: str) -> HttpResponse:
    return resource_page(request, require_resource(request, slug))


def resource_page(
    request: TenantRequest, found: Resource, wrong: ValidationError | None = None, typed: Any = None
) -> HttpResponse:
    """The page of one resource, with what is wrong and what was typed after a form that did not pass."""
    problems = wrong.message_dict if wrong and hasattr(wrong, "error_dict") else {}
    general = (
        wrong.messages if wrong and not problems else problems.get("upstream_url", []) + problems.get("scopes", [])
    )
    grants = Grant.objects.filter(tenant=request.tenant, resource=found, ended_at=None, expires_at__gt=now())
    operations = list(found.operations.select_related("scope").order_by("path", "key"))
    page = {
        "resource": found,
        "address": resource_url(request.tenant.slug, found.slug),
        "scopes": scope_rows(found, operations, problems, typed),
        "operations": operation_rows(operations, typed),
        "held": [one for one in operations if one.changed_at],
        "closed": unmapped(operations),
        "problems": general,
        "wrong": bool(wrong),
        "new": {key: typed.get(f"new-{key}", "") for key in ("name", "words", "risk")} if typed else {"risk": "change"},
        "new_problem": problems.get(f"scope:{typed.get('new-name', '').strip()}") if typed else None,
        "live_grants": grants.count(),
        "sign_in_rule": find_rule(found),
        "checks": list(found.server_credentials.filter(retired_at=None).order_by("-created_at")),
        "is_own": found.kind != Resource.Kind.MANAGEMENT,
        "may_edit": found.kind != Resource.Kind.MANAGEMENT and found.state != Resource.State.RETIRED,
    }
    return render(request, "console/resources/show.html", page, status=422 if wrong else 200)


@require_POST
@tenant_page(roles=ADMINS)
def save_scopes(request: TenantRequest, slug: str) -> HttpResponse:
    found = require_own(request, slug)
    try:
        with transaction.atomic():
            publishing.edit_scopes(found, by=request.member, **read_edits(found, request.POST))
    except ValidationError as wrong:
        return resource_page(request, found, wrong, request.POST)
    messages.success(request, "Saved.")
    return to_resource(request, found)


@require_POST
@tenant_page(roles=ADMINS)
def publish(request: TenantRequest, slug: str) -> HttpResponse:
    """Save what the form says, then open it."""
    found = require_own(request, slug)
    try:
        with transaction.atomic():
            publishing.edit_scopes(found, by=request.member, **read_edits(found, request.POST))
            publishing.publish(found, by=request.member)
    except ValidationError as wrong:
        found.refresh_from_db()
        return resource_page(request, found, wrong, request.POST)
    except WrongState as wrong:
        messages.error(request, str(wrong))
    else:
        messages.success(request, f"{found.name} is open. Agents can be granted what stands here, and nothing else.")
    return to_resource(request, found)


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_page(roles=ADMINS)
def edit(request: TenantRequest, slug: str) -> HttpResponse:
    found = require_own(request, slug)
    first = {
        "name": found.name,
        "description": found.description,
        "upstream_url": found.upstream_url,
        "bound_tokens_only": found.dpop_bound_access_tokens_required,
    }
    form = Edit(request.POST or None, initial=first)
    if request.method == "POST" and form.is_valid():
        said = form.cleaned_data
        try:
            with transaction.atomic():
                if (said["name"], said["description"]) != (found.name, found.description):
                    publishing.describe(found, by=request.member, name=said["name"], description=said["description"])
                publishing.demand_bound_tokens(found, by=request.member, demanded=said["bound_tokens_only"])
                if set_address(found, by=request.member, upstream_url=said["upstream_url"]):
                    messages.warning(request, "This is another server, so its credential is gone. Enter it again.")
        except ValidationError as wrong:
            add_errors(form, wrong)
        else:
            messages.success(request, "Saved.")
            return to_resource(request, found)
    page = {"form": form, "resource": found}
    return render(request, "console/resources/edit.html", page, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_page(roles=ADMINS)
def credential(request: TenantRequest, slug: str) -> HttpResponse:
    """How the server knows us. What is stored is replaced, never shown."""
    found = require_own(request, slug)
    form = Credential(request.POST or None, initial={"auth": found.upstream_auth, "header": found.upstream_header})
    if request.method == "POST" and form.is_valid():
        try:
            set_credential(found, by=request.member, **form.cleaned_data)
        except ValidationError as wrong:
            add_errors(form, wrong)
        else:
            messages.success(request, "The credential is replaced. The next call uses it.")
            return to_resource(request, found)
    page = {"form": form, "resource": found}
    return render(request, "console/resources/credential.html", page, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_page(roles=ADMINS)
def retire(request: TenantRequest, slug: str) -> HttpResponse:
    """Says what will end; then closes it for good."""
    found = require_own(request, slug)
    grants = Grant.objects.filter(tenant=request.tenant, resource=found, ended_at=None, expires_at__gt=now())
    if request.method == "POST":
        try:
            retire_resource(found, by=request.member)
        except WrongState as wrong:
            messages.warning(request, str(wrong))
        else:
            messages.success(request, f"{found.name} is closed. No call passes any more. Its record stays.")
        return HttpResponseRedirect(reverse("resources", args=[request.tenant.slug]), status=303)
    return render(request, "console/resources/retire.html", {"resource": found, "live_grants": grants.count()})


@require_POST
def reread(request: HttpRequest, tenant: str, slug: str) -> HttpResponseBase:
    """Ask the MCP server for its tools again: outside the transaction, because that takes seconds."""
    answer: HttpResponseBase = _before_reread(request, tenant=tenant, slug=slug)
    if not isinstance(answer, HandedOut):
        return answer
    problem, draft = "", None
    try:
        draft = publishing.ask_again(answer.what)
    except (*UNREACHABLE, RingError) as wrong:
        problem = str(wrong)
    compared: HttpResponseBase = _compare(request, tenant=tenant, slug=slug, draft=draft, problem=problem)
    return compared


@tenant_page(roles=ADMINS)
def _before_reread(request: TenantRequest, slug: str) -> HttpResponse:
    found = require_own(request, slug)
    if found.kind != Resource.Kind.MCP:
        raise Http404
    return HandedOut(found)


@tenant_page(roles=ADMINS)
def _compare(request: TenantRequest, slug: str, draft: Draft | None, problem: str) -> HttpResponse:
    found = require_own(request, slug)
    if draft is None:
        messages.error(request, f"{problem} Nothing changed.")
        return to_resource(request, found)
    seen = publishing.reread_tools(found, by=request.member, draft=draft)
    told = [
        f"{len(names)} {what}" for names, what in ((seen.changed, "changed"), (seen.new, "new"), (seen.gone, "gone"))
    ]
    if seen.changed or seen.new or seen.gone:
        messages.warning(
            request, f"Tools: {', '.join(told)}. Changed ones are held, new ones closed, until you decide."
        )
    else:
        messages.success(request, "The server offers exactly what was reviewed.")
    return to_resource(request, found)


@require_POST
@tenant_page(roles=ADMINS)
def accept_changes(request: TenantRequest, slug: str) -> HttpResponse:
    """Somebody has looked at the changed tools that were ticked."""
    found = require_own(request, slug)
    ticked = request.POST.getlist("operation")
    keys = [one.key for one in found.operations.exclude(changed_at=None) if str(one.id) in ticked]
    if keys:
        publishing.accept_changes(found, by=request.member, keys=keys)
        messages.success(request, f"{len(keys)} may be called again.")
    else:
        messages.error(request, "Tick the ones that you have looked at.")
    return to_resource(request, found)


def require_resource(request: TenantRequest, slug: str) -> Resource:
    found = (
        Resource.objects.filter(tenant=request.tenant, slug=slug).select_related("tenant", "created_by__user").first()
    )
    if found is None:
        raise Http404
    return found


def require_own(request: TenantRequest, slug: str) -> Resource:
    """One that an admin may change: not AgentAuth's own API, not a retired one."""
    found = require_resource(request, slug)
    if found.kind == Resource.Kind.MANAGEMENT or found.state == Resource.State.RETIRED:
        raise Http404
    return found


def to_resource(request: TenantRequest, found: Resource) -> HttpResponse:
    return HttpResponseRedirect(reverse("resource", args=[request.tenant.slug, found.slug]), status=303)


def add_errors(form: forms.Form, wrong: ValidationError) -> None:
    """The domain's errors at the field they are about; what belongs to none goes on top."""
    if not hasattr(wrong, "error_dict"):
        form.add_error(None, wrong)
        return
    for name, errors in wrong.error_dict.items():
        form.add_error(name if name in form.fields else None, errors)
