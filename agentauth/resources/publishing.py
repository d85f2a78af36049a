"""From draft to published and back: an admin says what each operation is called and how risky it is, then opens it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.timezone import now

from agentauth.agents.models import WrongState
from agentauth.outbound.addresses import FetchRefused
from agentauth.outbound.fetch import FetchFailed, outside, resolve_checked
from agentauth.resources import mcp_tools
from agentauth.resources.drafts import Draft, plain
from agentauth.resources.importing import operation_row
from agentauth.resources.models import SCOPE_NAME, Operation, Resource, Risk, Scope
from agentauth.resources.upstream import clean_upstream_url, record_about, upstream_headers
from audit.actions import Action
from audit.record import Actor
from tenants.models import Member

MOST_SCOPES = 200


@dataclass(frozen=True, slots=True)
class ScopeWords:
    """How a scope should read: what people see, and how risky it is."""

    words: str
    risk: str


@dataclass(frozen=True, slots=True)
class Reread:
    """What asking an MCP server again has shown: names of tools."""

    changed: list[str]
    new: list[str]
    gone: list[str]


def edit_scopes(
    resource: Resource,
    *,
    by: Member | Actor,
    scopes: Mapping[str, ScopeWords] | None = None,
    operations: Mapping[str, str | None] | None = None,
) -> None:
    """Rename, re-class and re-map. Scopes by name (an unknown name makes a new one), operations by key → scope name.

    An operation mapped to None may be called by nobody. Scopes that hold nothing disappear from a draft that was never
    published; after that they stay, because grants may name them. What is not mentioned stays as it is.
    Raises ValidationError keyed `scope:NAME` and `operation:KEY`.
    """
    scopes, operations = scopes or {}, operations or {}
    _require_not_retired(resource)
    known = {scope.name: scope for scope in resource.scopes.all()}
    called = {operation.key: operation for operation in resource.operations.all()}
    _check_edit(scopes, operations, known, called)
    with transaction.atomic():
        changes: dict[str, object] = {}
        for name, wanted in scopes.items():
            scope = known.get(name) or Scope(tenant_id=resource.tenant_id, resource=resource, name=name)
            if name in known and (scope.words, scope.risk) == (wanted.words, wanted.risk):
                continue
            scope.words, scope.risk = wanted.words, wanted.risk
            scope.save(force_insert=name not in known)
            known[name] = scope
            changes[name] = {"words": scope.words, "risk": scope.risk}
        moved: dict[str, str | None] = {}
        for key, scope_name in operations.items():
            operation, target = called[key], known[scope_name] if scope_name else None
            if operation.scope_id != (target.id if target else None):
                operation.scope = target
                operation.save(update_fields=["scope"])
                moved[key] = scope_name
        if resource.published_at is None:
            resource.scopes.filter(operations=None).delete()
        if changes or moved:
            record_about(resource, Action.RESOURCE_CHANGED, by, {"scopes": changes, "operations": moved})


def describe(resource: Resource, *, by: Member | Actor, name: str, description: str) -> None:
    """Its name and description, for people. Raises ValidationError."""
    _require_not_retired(resource)
    resource.name, resource.description = plain(name, 80), plain(description, 300)
    if not resource.name:
        raise ValidationError({"name": "Give it a name."})
    with transaction.atomic():
        resource.save(update_fields=["name", "description"])
        record_about(resource, Action.RESOURCE_CHANGED, by, {"name": resource.name})


def demand_bound_tokens(resource: Resource, *, by: Member | Actor, demanded: bool) -> None:
    """Whether it takes only tokens that are bound to a key (RFC 9449), from the next call on. Raises WrongState."""
    _require_not_retired(resource)
    if resource.dpop_bound_access_tokens_required == demanded:
        return
    resource.dpop_bound_access_tokens_required = demanded
    with transaction.atomic():
        resource.save(update_fields=["dpop_bound_access_tokens_required"])
        record_about(resource, Action.RESOURCE_CHANGED, by, {"dpop_bound_access_tokens_required": demanded})


def publish(resource: Resource, *, by: Member | Actor) -> None:
    """Open it: agents may be granted its scopes and call it from now on. Raises ValidationError, WrongState."""
    if resource.state != Resource.State.DRAFT:
        raise WrongState("Only a draft can be published.")
    if not resource.operations.exclude(scope=None).exists():
        raise ValidationError("Nothing can be called yet: give at least one operation a scope.")
    clean_upstream_url(resource.upstream_url, resource.kind)
    try:
        with outside():
            resolve_checked(resource.upstream_url)
    except (FetchRefused, FetchFailed) as problem:
        raise ValidationError({"upstream_url": problem.reason}) from None
    with transaction.atomic():
        resource.scopes.filter(operations=None).delete()
        resource.state, resource.published_at = Resource.State.PUBLISHED, now()
        resource.save(update_fields=["state", "published_at"])
        opened = {
            scope.name: {"risk": scope.risk, "operations": sorted(o.key for o in scope.operations.all())}
            for scope in resource.scopes.prefetch_related("operations")
        }
        record_about(resource, Action.RESOURCE_PUBLISHED, by, {"scopes": opened})


def retire(resource: Resource, *, by: Member | Actor) -> None:
    """Close it for good: no call passes any more, whatever grants and tokens say. Raises WrongState."""
    _require_not_retired(resource)
    if resource.kind == Resource.Kind.MANAGEMENT:
        raise WrongState("AgentAuth's own API cannot be retired.")
    with transaction.atomic():
        resource.state, resource.retired_at = Resource.State.RETIRED, now()
        resource.sealed_credential = None  # nobody needs it any more
        resource.upstream_auth = Resource.UpstreamAuth.NONE
        resource.save(update_fields=["state", "retired_at", "sealed_credential", "upstream_auth"])
        record_about(resource, Action.RESOURCE_RETIRED, by, {"slug": resource.slug})


def ask_again(resource: Resource) -> Draft:
    """What the MCP server offers now. Takes seconds: call it before a transaction. Raises what reading raises."""
    return mcp_tools.read(resource.upstream_url, upstream_headers(resource))


def reread_tools(resource: Resource, *, by: Member | Actor, draft: Draft | None = None) -> Reread:
    """Compare with what was reviewed. A tool that changed is held until an admin has looked; a new one has no scope.

    `draft` is what `ask_again` gave. A tool that changed back is still held: somebody should know that it changed.
    """
    _require_not_retired(resource)
    if resource.kind != Resource.Kind.MCP:
        raise WrongState("Only an MCP server can be asked for its tools.")
    offered = {operation.key: operation for operation in (draft or ask_again(resource)).operations}
    with transaction.atomic():
        known = {operation.key: operation for operation in resource.operations.select_for_update()}
        changed = [known[key] for key in known if key in offered and known[key].digest != offered[key].digest]
        new = [offered[key] for key in offered if key not in known]
        gone = sorted(known.keys() - offered.keys())
        for operation in changed:
            read = offered[operation.key]
            operation.digest, operation.summary, operation.changed_at = read.digest, read.summary, now()
            operation.save(update_fields=["digest", "summary", "changed_at"])
        Operation.objects.bulk_create(operation_row(resource, operation, None) for operation in new)
        found = Reread(sorted(o.key for o in changed), sorted(o.key for o in new), gone)
        if found.changed or found.new:
            details = {"changed": found.changed, "new": found.new, "gone": found.gone}
            record_about(resource, Action.RESOURCE_TOOLS_CHANGED, by, details)
    return found


def accept_changes(resource: Resource, *, by: Member | Actor, keys: Collection[str]) -> None:
    """An admin has looked at these changed operations: they may be called again."""
    _require_not_retired(resource)
    with transaction.atomic():
        held = resource.operations.filter(key__in=keys).exclude(changed_at=None)
        reviewed = {operation.key: operation.digest for operation in held}
        if reviewed:
            held.update(changed_at=None)
            record_about(resource, Action.RESOURCE_CHANGED, by, {"reviewed": reviewed})


def _check_edit(
    scopes: Mapping[str, ScopeWords],
    operations: Mapping[str, str | None],
    known: Mapping[str, Scope],
    called: Mapping[str, Operation],
) -> None:
    wrong: dict[str, str] = {}
    for name, wanted in scopes.items():
        if not wanted.words.strip() or wanted.words != plain(wanted.words, 120):
            wrong[f"scope:{name}"] = "Say in 120 characters at most what this allows."
        elif wanted.risk not in Risk.values:
            wrong[f"scope:{name}"] = "Choose read, change or dangerous."
        elif name not in known:
            try:
                SCOPE_NAME(name)
            except ValidationError as problem:
                wrong[f"scope:{name}"] = problem.messages[0]
    for key, scope_name in operations.items():
        if key not in called:
            wrong[f"operation:{key}"] = "This resource has no such operation."
        elif scope_name and scope_name not in known and scope_name not in scopes:
            wrong[f"operation:{key}"] = "Choose a scope of this resource."
    if len(known.keys() | scopes.keys()) > MOST_SCOPES:
        wrong["scopes"] = f"A resource has {MOST_SCOPES} scopes at most; put several operations into one."
    if wrong:
        raise ValidationError(wrong)


def _require_not_retired(resource: Resource) -> None:
    if resource.state == Resource.State.RETIRED:
        raise WrongState("It is retired.")
