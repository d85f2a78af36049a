"""Resources over REST: register an API or MCP server, say what its operations are called and how risky, publish it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from agentauth.agents.models import WrongState
from agentauth.api.door import TenantView
from agentauth.api.paging import PageQuery, page
from agentauth.api.problems import invalid, not_found
from agentauth.api.reading import Nothing, Strict, Text, body, query
from agentauth.api.words import Answers
from agentauth.grants.leaving import retire_resource
from agentauth.grants.models import SignInRule
from agentauth.grants.sign_in_rules import LONGEST, SHORTEST, demand_sign_in, find_rule, lift_demand
from agentauth.keys.addresses import management_url, resource_url
from agentauth.outbound.addresses import FetchRefused
from agentauth.outbound.fetch import FetchFailed
from agentauth.resources import publishing
from agentauth.resources.drafts import Draft, Unreadable
from agentauth.resources.importing import fetch_openapi, read_mcp, read_openapi, register_resource
from agentauth.resources.models import Operation, Resource, Risk, Scope
from agentauth.resources.upstream import set_address, set_credential
from tenants.models import Tenant


class ScopeShape(Strict):
    """One permission in people's words."""

    name = Text(max_length=80)
    words = Text(max_length=120)
    risk = serializers.ChoiceField(Risk.choices)


class OperationShape(Strict):
    """One thing that can be called. Without a scope nobody may."""

    key = Text(max_length=200, help_text="Method and path template, or the tool's name.")
    summary = Text(read_only=True, help_text="The server's own words; text, never markup.")
    scope = Text(max_length=80, allow_null=True)
    held = serializers.BooleanField(read_only=True, help_text="It changed since it was reviewed: nobody may call it.")


class SignInShape(Strict):
    """How well the person must have signed in for calls of this class and above (RFC 9470)."""

    from_risk = serializers.ChoiceField(Risk.choices)
    acr = serializers.ChoiceField(SignInRule.Level.choices)
    max_age = serializers.IntegerField(
        min_value=SHORTEST, max_value=LONGEST, allow_null=True, help_text="Seconds; null for any."
    )


class ResourceShape(Strict):
    """What can be reached."""

    id = serializers.UUIDField()
    slug = Text()
    name = Text()
    description = Text()
    kind = serializers.ChoiceField(Resource.Kind.choices)
    state = serializers.ChoiceField(Resource.State.choices)
    url = serializers.URLField(help_text="Where agents reach it: `resource` of a token request, `aud` of the token.")
    upstream_url = Text()
    upstream_auth = serializers.ChoiceField(Resource.UpstreamAuth.choices)
    sends_assertion = serializers.BooleanField()
    dpop_bound_access_tokens_required = serializers.BooleanField(help_text="Does it take bound tokens only (RFC 9449)?")
    source = Text()  # type: ignore[assignment]  # a field, not the property
    created_at = serializers.DateTimeField()
    published_at = serializers.DateTimeField(allow_null=True)
    retired_at = serializers.DateTimeField(allow_null=True)


class ResourceWholeShape(ResourceShape):
    """A resource with its scopes and operations."""

    scopes = ScopeShape(many=True)
    operations = OperationShape(many=True)
    sign_in = SignInShape(allow_null=True)


class ResourcePageShape(Strict):
    items = ResourceShape(many=True)
    next = serializers.URLField(allow_null=True, help_text="The next page, or null at the end.")


class ResourceQuery(PageQuery):
    state = serializers.ChoiceField(Resource.State.choices, required=False)


class UpstreamCredential(Strict):
    """How the server knows us. Stored encrypted, never shown again."""

    kind = serializers.ChoiceField(Resource.UpstreamAuth.choices)
    header = Text(max_length=60, allow_blank=True, default="", help_text="The header's name, or the user name.")
    secret = Text(max_length=8192, allow_blank=True, default="", trim_whitespace=False)


class NewResource(Strict):
    kind = serializers.ChoiceField([Resource.Kind.REST.value, Resource.Kind.MCP.value])
    slug = Text(max_length=39, help_text="Its short name in addresses.")
    name = Text(max_length=80, required=False, help_text="As the document or server says, unless given.")
    description = Text(max_length=300, allow_blank=True, required=False)
    upstream_url = Text(max_length=500, required=False, help_text="For an MCP server: needed.")
    document = Text(required=False, trim_whitespace=False, help_text="For a REST API: its OpenAPI document.")
    document_url = Text(max_length=500, required=False, help_text="Or where to read it.")
    upstream_auth = UpstreamCredential(required=False)


class OperationChange(Strict):
    key = Text(max_length=200)
    scope = Text(max_length=80, allow_null=True)


class ResourceChange(Strict):
    name = Text(max_length=80)
    description = Text(max_length=300, allow_blank=True)
    upstream_url = Text(max_length=500)
    upstream_auth = UpstreamCredential()
    dpop_bound_access_tokens_required = serializers.BooleanField(help_text="Bound tokens only, from the next call on?")
    sign_in = SignInShape(allow_null=True, help_text="Null: any sign-in will do.")
    scopes = ScopeShape(many=True, help_text="Renamed, re-classed or new; what is not named stays.")
    operations = OperationChange(many=True, help_text="Moved to another scope, or to none.")
    reviewed = serializers.ListField(
        child=Text(max_length=200), max_length=2000, help_text="Keys of changed operations that may be called again."
    )


class _Resources(TenantView):
    read_scope, write_scope = "resources:read", "resources:write"

    def rows(self) -> "QuerySet[Resource]":
        return Resource.objects.filter(tenant=self.tenant)

    def find(self, resource: UUID, *, to_change: bool = False) -> Resource:
        rows = self.rows().select_for_update(of=("self",)) if to_change else self.rows()
        found = rows.filter(id=resource).first()
        if found is None:
            raise not_found()
        if to_change and found.kind == Resource.Kind.MANAGEMENT:
            raise WrongState("AgentAuth's own API is as it is.")
        return found


class Resources(_Resources):
    @extend_schema(
        operation_id="listResources",
        summary="List resources",
        parameters=[ResourceQuery],
        responses=Answers(ResourcePageShape),
    )
    def get(self, request: Request) -> Response:
        asked = query(request, ResourceQuery)
        rows = self.rows()
        if "state" in asked:
            rows = rows.filter(state=asked["state"])
        return page(request, rows, asked, lambda row: show(row, self.tenant))

    @extend_schema(
        operation_id="registerResource",
        summary="Register an API or MCP server",
        description="A draft with suggested scopes. Change them, then publish: before that nobody can call it.",
        request=NewResource,
        responses=Answers(ResourceWholeShape, status=201),
        examples=[
            OpenApiExample(
                "An API by its document",
                request_only=True,
                value={"kind": "rest", "slug": "rooms", "document_url": "https://rooms.example.com/openapi.json"},
            ),
            OpenApiExample(
                "An MCP server",
                request_only=True,
                value={"kind": "mcp", "slug": "tickets", "upstream_url": "https://tickets.example.com/mcp"},
            ),
        ],
    )
    def post(self, request: Request) -> Response:
        said = body(request, NewResource)
        by = self.caller.person
        draft, source = _read(said)
        address = said.get("upstream_url") or draft.upstream_url
        if not address:
            raise invalid("upstream_url", "The document does not say where the API is: give its address.")
        resource = register_resource(
            self.tenant,
            by=by,
            slug=said["slug"],
            name=said.get("name") or draft.name or said["slug"],
            description=said.get("description", draft.description),
            kind=said["kind"],
            upstream_url=address,
            draft=draft,
            source=source,
        )
        if "upstream_auth" in said:
            _set_credential(resource, by, said["upstream_auth"])
        here = f"{request._request.path}/{resource.id}"
        return Response(show_whole(resource, self.tenant), status=201, headers={"Location": here})


class OneResource(_Resources):
    @extend_schema(operation_id="getResource", summary="Read a resource", responses=Answers(ResourceWholeShape))
    def get(self, request: Request, resource: UUID) -> Response:
        query(request, Nothing)
        return Response(show_whole(self.find(resource), self.tenant))

    @extend_schema(
        operation_id="changeResource",
        summary="Change a resource",
        description="What is not named stays.",
        request=ResourceChange,
        responses=Answers(ResourceWholeShape),
    )
    def patch(self, request: Request, resource: UUID) -> Response:
        said = body(request, ResourceChange, partial=True)
        found = self.find(resource, to_change=True)
        by = self.caller.person
        if found.state == Resource.State.RETIRED:
            raise WrongState("It is retired.")
        if "name" in said or "description" in said:
            publishing.describe(
                found,
                by=by,
                name=said.get("name", found.name),
                description=said.get("description", found.description),
            )
        if "upstream_url" in said:
            set_address(found, by=by, upstream_url=said["upstream_url"])
        if "upstream_auth" in said:
            _set_credential(found, by, said["upstream_auth"])
        if "dpop_bound_access_tokens_required" in said:
            publishing.demand_bound_tokens(found, by=by, demanded=said["dpop_bound_access_tokens_required"])
        if "sign_in" in said:
            if said["sign_in"] is None:
                lift_demand(found, by=by)
            else:
                demand_sign_in(found, by=by, **said["sign_in"])
        if "scopes" in said or "operations" in said:
            publishing.edit_scopes(
                found,
                by=by,
                scopes={
                    one["name"]: publishing.ScopeWords(one["words"], one["risk"]) for one in said.get("scopes", ())
                },
                operations={one["key"]: one["scope"] for one in said.get("operations", ())},
            )
        if "reviewed" in said:
            publishing.accept_changes(found, by=by, keys=said["reviewed"])
        return Response(show_whole(found, self.tenant))


class PublishResource(_Resources):
    @extend_schema(
        operation_id="publishResource",
        summary="Publish a draft",
        request=Nothing,
        responses=Answers(ResourceWholeShape),
    )
    def post(self, request: Request, resource: UUID) -> Response:
        body(request, Nothing)
        found = self.find(resource, to_change=True)
        publishing.publish(found, by=self.caller.person)
        return Response(show_whole(found, self.tenant))


class RetireResource(_Resources):
    @extend_schema(
        operation_id="retireResource",
        summary="Close a resource for good",
        request=Nothing,
        responses=Answers(ResourceWholeShape),
    )
    def post(self, request: Request, resource: UUID) -> Response:
        body(request, Nothing)
        found = self.find(resource, to_change=True)
        retire_resource(found, by=self.caller.person)
        return Response(show_whole(found, self.tenant))


class RereadResource(_Resources):
    @extend_schema(
        operation_id="rereadResource",
        summary="Ask an MCP server for its tools again",
        description="A tool that changed is held until reviewed; a new one has no scope.",
        request=Nothing,
        responses=Answers(ResourceWholeShape),
    )
    def post(self, request: Request, resource: UUID) -> Response:
        body(request, Nothing)
        found = self.find(resource)
        if found.kind != Resource.Kind.MCP or found.state == Resource.State.RETIRED:
            raise WrongState("Only an MCP server that is not retired can be asked for its tools.")
        with _said_at("upstream_url"):
            offered = publishing.ask_again(found)  # takes seconds: nothing is locked meanwhile
        found = self.find(resource, to_change=True)
        publishing.reread_tools(found, by=self.caller.person, draft=offered)
        return Response(show_whole(found, self.tenant))


def show(resource: Resource, tenant: Tenant) -> dict[str, Any]:
    ours = resource.kind == Resource.Kind.MANAGEMENT
    return {
        "id": str(resource.id),
        "slug": resource.slug,
        "name": resource.name,
        "description": resource.description,
        "kind": resource.kind,
        "state": resource.state,
        "url": management_url(tenant.slug) if ours else resource_url(tenant.slug, resource.slug),
        "upstream_url": resource.upstream_url,
        "upstream_auth": resource.upstream_auth,
        "sends_assertion": resource.sends_assertion,
        "dpop_bound_access_tokens_required": resource.dpop_bound_access_tokens_required,
        "source": resource.source,
        "created_at": resource.created_at,
        "published_at": resource.published_at,
        "retired_at": resource.retired_at,
    }


def show_whole(resource: Resource, tenant: Tenant) -> dict[str, Any]:
    scopes = Scope.objects.filter(tenant=tenant, resource=resource).order_by("name")
    operations = Operation.objects.filter(tenant=tenant, resource=resource).select_related("scope").order_by("key")
    rule = find_rule(resource)
    return show(resource, tenant) | {
        "sign_in": rule and {"from_risk": rule.from_risk, "acr": rule.acr, "max_age": rule.max_age},
        "scopes": [{"name": scope.name, "words": scope.words, "risk": scope.risk} for scope in scopes],
        "operations": [
            {
                "key": operation.key,
                "summary": operation.summary,
                "scope": operation.scope.name if operation.scope else None,
                "held": operation.changed_at is not None,
            }
            for operation in operations
        ],
    }


def _read(said: dict[str, Any]) -> tuple[Draft, str]:
    """What the server offers, and where we have that from."""
    if said["kind"] == Resource.Kind.MCP:
        for name in ("document", "document_url"):
            if name in said:
                raise invalid(name, "An MCP server is asked for its tools itself.")
        if "upstream_url" not in said:
            raise invalid("upstream_url", "Give the address of the MCP server.")
        auth = said.get("upstream_auth", {"kind": "none", "header": "", "secret": ""})
        with _said_at("upstream_url"), _credential_said_at():
            draft = read_mcp(said["upstream_url"], auth=auth["kind"], header=auth["header"], secret=auth["secret"])
        return draft, said["upstream_url"]
    if ("document" in said) == ("document_url" in said):
        raise invalid("document", "Give either the OpenAPI document or the address where it is.")
    if "document" in said:
        with _said_at("document"):
            return read_openapi(said["document"]), "pasted"
    with _said_at("document_url"):
        return fetch_openapi(said["document_url"]), said["document_url"]


def _set_credential(resource: Resource, by: Any, auth: dict[str, str]) -> None:
    with _credential_said_at():
        set_credential(resource, by=by, auth=auth["kind"], header=auth["header"], secret=auth["secret"])


@contextmanager
def _said_at(field: str) -> Iterator[None]:
    """What could not be fetched or read is a problem of the field that named it."""
    try:
        yield
    except (FetchRefused, FetchFailed, Unreadable) as problem:
        raise invalid(field, problem.reason) from None


@contextmanager
def _credential_said_at() -> Iterator[None]:
    """Complaints about a credential, under the names that its fields have here."""
    try:
        yield
    except ValidationError as error:
        if not hasattr(error, "error_dict"):
            raise
        names = {"auth": "upstream_auth.kind", "header": "upstream_auth.header", "secret": "upstream_auth.secret"}
        raise ValidationError({names.get(name, name): said for name, said in error.message_dict.items()}) from None
