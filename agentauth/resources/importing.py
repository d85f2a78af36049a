"""From what a server offers to a resource in draft: read it, then register it with suggested scopes.

Reading saves nothing and may take seconds, so do it before opening a transaction; registering does no network.
"""

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils.timezone import now

from agentauth.outbound.fetch import FetchFailed, fetch, outside
from agentauth.resources import mcp_tools, openapi
from agentauth.resources.drafts import Draft, DraftOperation, Unreadable, plain
from agentauth.resources.models import CatalogueEntry, Operation, Resource, Scope
from agentauth.resources.suggest import suggest
from agentauth.resources.upstream import clean_upstream_url, headers_for, record_about, set_credential, upstream_headers
from audit.actions import Action
from audit.record import Actor, record
from tenants.models import Member, Tenant
from tenants.rls import new_id, set_tenant

__all__ = [
    "Draft",
    "Unreadable",
    "adopt",
    "fetch_openapi",
    "offer",
    "read_mcp",
    "read_openapi",
    "register_resource",
    "set_credential",
    "upstream_headers",
    "withdraw",
]

_DOCUMENT_TYPES = "application/json, application/yaml, application/x-yaml, text/yaml, text/plain, */*"


def read_openapi(text: str | bytes, *, address: str = "") -> Draft:
    """The draft in a pasted or uploaded document. Raises Unreadable."""
    return openapi.read(text, address=address)


def fetch_openapi(url: str) -> Draft:
    """The draft in a document at an address. Raises FetchRefused, FetchFailed, Unreadable."""
    with outside():
        fetched = fetch(url.strip(), accept=_DOCUMENT_TYPES, max_bytes=openapi.MOST_BYTES, timeout=15.0)
    if fetched.status != 200:
        raise FetchFailed(f"There is no document at this address: the server answered {fetched.status}.")
    return openapi.read(fetched.body, address=url.strip())


def read_mcp(url: str, *, auth: str = "none", header: str = "", secret: str = "") -> Draft:
    """The draft of the MCP server at `url`. Raises FetchRefused, FetchFailed, Unreadable, ValidationError."""
    return mcp_tools.read(url.strip(), headers_for(auth, header.strip(), secret))


def register_resource(
    tenant: Tenant,
    *,
    by: Member | Actor,
    slug: str,
    name: str,
    kind: str,
    upstream_url: str,
    draft: Draft,
    description: str = "",
    source: str = "",
    adopted_from: CatalogueEntry | None = None,
) -> Resource:
    """A resource in draft, with operations as read and scopes as suggested. Nobody may call it before `publish`.

    Raises ValidationError keyed by field. In the tenant's transaction.
    """
    if kind not in (Resource.Kind.REST, Resource.Kind.MCP) or draft.kind != kind:
        raise ValidationError({"kind": "Choose a REST API or an MCP server."})
    resource = Resource(
        id=new_id(),
        tenant=tenant,
        slug=slug.strip(),
        name=plain(name, 80),
        description=plain(description, 300),
        kind=kind,
        upstream_url=clean_upstream_url(upstream_url, kind),
        document=draft.document,
        source=plain(source, 500),
        adopted_from=adopted_from,
        created_by=by if isinstance(by, Member) else None,
    )
    resource.full_clean(exclude=["tenant", "created_by", "adopted_from"], validate_constraints=False)
    try:
        with transaction.atomic():
            resource.save(force_insert=True)
    except IntegrityError:
        raise ValidationError({"slug": "Another resource has this short name."}) from None
    with transaction.atomic():
        _save_operations(resource, draft.operations)
        details = {
            "slug": resource.slug,
            "kind": kind,
            "upstream_url": resource.upstream_url,
            "source": resource.source,
        }
        record_about(resource, Action.RESOURCE_REGISTERED, by, details | {"operations": len(draft.operations)})
    return resource


def _save_operations(resource: Resource, operations: list[DraftOperation]) -> None:
    scope_of: dict[str, Scope] = {}
    for suggested in suggest(operations):
        scope = Scope(tenant_id=resource.tenant_id, resource=resource)
        scope.name, scope.words, scope.risk = suggested.name, suggested.words, suggested.risk
        scope.save(force_insert=True)
        scope_of |= dict.fromkeys(suggested.keys, scope)
    rows = [operation_row(resource, operation, scope_of[operation.key]) for operation in operations]
    Operation.objects.bulk_create(rows, batch_size=500)


def operation_row(resource: Resource, operation: DraftOperation, scope: Scope | None) -> Operation:
    """The row, unsaved, of an operation that was read."""
    return Operation(
        tenant_id=resource.tenant_id,
        resource=resource,
        key=operation.key,
        method=operation.method,
        path=operation.path,
        tool=operation.tool,
        summary=operation.summary,
        scope=scope,
        digest=operation.digest,
    )


def offer(
    *, by: Actor, slug: str, name: str, kind: str, upstream_url: str, description: str = "", document: str = ""
) -> CatalogueEntry:
    """The operator offers a resource to every tenant. It is on record with each of them. Raises ValidationError."""
    if kind == Resource.Kind.REST:
        try:
            read_openapi(document)
        except Unreadable as wrong:
            raise ValidationError({"document": wrong.reason}) from None
    elif kind != Resource.Kind.MCP:
        raise ValidationError({"kind": "Choose a REST API or an MCP server."})
    entry = CatalogueEntry(
        slug=slug.strip(),
        name=plain(name, 80),
        description=plain(description, 300),
        kind=kind,
        upstream_url=clean_upstream_url(upstream_url, kind),
        document=document if kind == Resource.Kind.REST else "",
    )
    entry.full_clean(exclude=["upstream_url"])  # checked above, by the rules of the way out
    with transaction.atomic():
        entry.save(force_insert=True)
        _record_offer(entry, by, {"slug": entry.slug})
    return entry


def withdraw(entry: CatalogueEntry, *, by: Actor) -> None:
    """Offer it no longer. Who adopted it keeps it."""
    entry.withdrawn_at = now()
    with transaction.atomic():
        entry.save(update_fields=["withdrawn_at"])
        _record_offer(entry, by, {"slug": entry.slug, "withdrawn": True})


def adopt(tenant: Tenant, entry: CatalogueEntry, *, by: Member, draft: Draft | None = None, slug: str = "") -> Resource:
    """A resource of this tenant's own, in draft, from what the operator offers. In the tenant's transaction.

    `draft` is what `read_adoptable` gave; without it a REST entry is read from its own document.
    """
    if entry.withdrawn_at is not None:
        raise ValidationError("This is no longer offered.")
    return register_resource(
        tenant,
        by=by,
        slug=slug or entry.slug,
        name=entry.name,
        description=entry.description,
        kind=entry.kind,
        upstream_url=entry.upstream_url,
        draft=draft or read_adoptable(entry),
        source="catalogue",
        adopted_from=entry,
    )


def read_adoptable(entry: CatalogueEntry, *, auth: str = "none", header: str = "", secret: str = "") -> Draft:
    """What an offered resource holds now; for an MCP server this asks it. Raises what `read_mcp` raises."""
    if entry.kind == Resource.Kind.MCP:
        return read_mcp(entry.upstream_url, auth=auth, header=header, secret=secret)
    return read_openapi(entry.document)


def _record_offer(entry: CatalogueEntry, by: Actor, details: dict[str, object]) -> None:
    """The catalogue has no tenant, the record always has one: each is told in its own."""
    for tenant_id in Tenant.objects.values_list("id", flat=True):
        set_tenant(tenant_id)
        record(
            Action.CATALOGUE_ENTRY_OFFERED,
            tenant_id=tenant_id,
            actor=by,
            subject_kind="catalogue_entry",
            subject=str(entry.id),
            details=details,
        )
