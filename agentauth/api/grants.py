"""Grants over REST: who allowed which agent what, giving one and ending one."""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet
from django.utils.timezone import now
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from agentauth.agents.models import Agent, WrongState
from agentauth.api.door import TenantView
from agentauth.api.paging import PageQuery, page
from agentauth.api.problems import invalid, not_found
from agentauth.api.reading import Nothing, Strict, Text, body, query
from agentauth.api.words import Answers, EndedShape, PersonShape, person, show_ended
from agentauth.grants.granting import give
from agentauth.grants.models import Grant, Permission
from agentauth.resources.models import Resource, Scope
from tenants.access import EVERYBODY


class PermissionShape(Strict):
    scope = Text(max_length=80)
    words = Text(read_only=True, help_text="The scope in people's words.")
    risk = Text(read_only=True)
    mode = serializers.ChoiceField(Permission.Mode.choices)


class NamedShape(Strict):
    id = serializers.UUIDField()
    name = Text()


class GrantShape(Strict):
    """What a person allowed an agent at a resource; without a person, what an admin allowed it for itself."""

    id = serializers.UUIDField()
    agent = NamedShape()
    resource = Text(help_text="The resource's slug.")
    member = PersonShape(allow_null=True)
    given_by = PersonShape()
    given_at = serializers.DateTimeField()
    purpose = Text()
    permissions = PermissionShape(many=True)
    expires_at = serializers.DateTimeField()
    is_live = serializers.BooleanField()
    ended_at = serializers.DateTimeField(allow_null=True)
    end_reason = Text()
    last_used_at = serializers.DateTimeField(allow_null=True)


class GrantPageShape(Strict):
    items = GrantShape(many=True)
    next = serializers.URLField(allow_null=True, help_text="The next page, or null at the end.")


class GrantQuery(PageQuery):
    agent = serializers.UUIDField(required=False)
    member = serializers.UUIDField(required=False)
    resource = Text(max_length=39, required=False)
    live = serializers.BooleanField(required=False, allow_null=True, default=None)


class NewPermission(Strict):
    scope = Text(max_length=80)
    mode = serializers.ChoiceField(Permission.Mode.choices)


class NewGrant(Strict):
    agent = serializers.UUIDField()
    resource = Text(max_length=39, help_text="The resource's slug.")
    for_itself = serializers.BooleanField(
        default=False, help_text="true: what the agent may do by itself. Else it acts for the person of the token."
    )
    permissions = NewPermission(many=True, allow_empty=False)
    expires_at = serializers.DateTimeField()
    purpose = Text(max_length=200, allow_blank=True, default="")


class Narrower(Strict):
    permissions = NewPermission(many=True, required=False, default=list, help_text="What is not named stays.")
    expires_at = serializers.DateTimeField(required=False, allow_null=True, default=None)


class GrantEndedShape(Strict):
    grant = GrantShape()
    ended = EndedShape()


class _Grants(TenantView):
    read_scope, write_scope = "grants:read", "grants:write"
    read_roles = EVERYBODY

    def rows(self) -> "QuerySet[Grant]":
        rows = Grant.objects.filter(tenant=self.tenant).select_related(
            "agent", "resource", "member__user", "given_by__user"
        )
        if self.caller.sees_only_own:
            rows = rows.filter(member=self.caller.member)
        return rows

    def find(self, grant: UUID) -> Grant:
        found = self.rows().filter(id=grant).first()
        if found is None:
            raise not_found()
        return found


class Grants(_Grants):
    @extend_schema(
        operation_id="listGrants", summary="List grants", parameters=[GrantQuery], responses=Answers(GrantPageShape)
    )
    def get(self, request: Request) -> Response:
        asked = query(request, GrantQuery)
        rows = self.rows().prefetch_related("permissions__scope")
        for name, column in (("agent", "agent_id"), ("member", "member_id"), ("resource", "resource__slug")):
            if name in asked:
                rows = rows.filter(**{column: asked[name]})
        if asked["live"] is not None:
            counts = Q(ended_at=None, expires_at__gt=now())
            rows = rows.filter(counts if asked["live"] else ~counts)
        return page(request, rows, asked, show)

    @extend_schema(
        operation_id="giveGrant",
        summary="Give a grant",
        description=(
            "For the person whom the token acts for, or with `for_itself` for the agent alone. It takes the place of "
            "the live grant between the same three. An agent cannot give a grant to itself."
        ),
        request=NewGrant,
        responses=Answers(GrantShape, status=201),
        examples=[
            OpenApiExample(
                "The meeting room, not finance",
                request_only=True,
                value={
                    "agent": "0192f3a0-0000-7000-8000-000000000000",
                    "resource": "office",
                    "permissions": [
                        {"scope": "meeting:enter", "mode": "always"},
                        {"scope": "finance:enter", "mode": "never"},
                    ],
                    "expires_at": "2027-01-31T00:00:00Z",
                },
            )
        ],
    )
    def post(self, request: Request) -> Response:
        said = body(request, NewGrant)
        agent = Agent.objects.filter(tenant=self.tenant, id=said["agent"]).first()
        if agent is None:
            raise invalid("agent", "There is no such agent.")
        resource = Resource.objects.filter(tenant=self.tenant, slug=said["resource"]).first()
        if resource is None:
            raise invalid("resource", "There is no such resource.")
        if agent.id == self.caller.agent.id:
            raise WrongState("An agent cannot give a grant to itself; a person has to.")
        member = None if said["for_itself"] else self.caller.member
        if member is None and not said["for_itself"]:
            raise invalid(
                "for_itself", "This token acts for no person: only a grant for the agent itself can be given."
            )
        permissions = _permissions(resource, said["permissions"])
        if resource.kind == Resource.Kind.MANAGEMENT:
            self._require_no_more_than_own(permissions, said["expires_at"])
        grant = give(
            agent=agent,
            resource=resource,
            member=member,
            by=self.caller.person,
            permissions=permissions,
            expires_at=said["expires_at"],
            purpose=said["purpose"],
            ip=request.META.get("REMOTE_ADDR", ""),
        )
        here = f"{request._request.path}/{grant.id}"
        return Response(show(self.find(grant.id)), status=201, headers={"Location": here})

    def _require_no_more_than_own(self, permissions: dict[Scope, str], expires_at: datetime) -> None:
        """Delegation only narrows: of this very API an agent hands on at most what its own token covers, as freely
        and for as long as its own grant says."""
        own = dict(self.caller.grant.permissions.values_list("scope__name", "mode"))
        for scope, mode in permissions.items():
            if mode != Permission.Mode.NEVER and scope.name not in self.caller.scopes:
                raise invalid("permissions", f"An agent cannot hand on {scope.name}, which it does not have itself.")
            if mode == Permission.Mode.ALWAYS and own.get(scope.name) != Permission.Mode.ALWAYS:
                raise invalid("permissions", f"Its person is asked about {scope.name}: it can hand on no “always”.")
        if expires_at > self.caller.grant.expires_at:
            raise invalid("expires_at", "An agent cannot hand on anything for longer than it has it itself.")


class OneGrant(_Grants):
    @extend_schema(operation_id="getGrant", summary="Read a grant", responses=Answers(GrantShape))
    def get(self, request: Request, grant: UUID) -> Response:
        query(request, Nothing)
        return Response(show(self.find(grant)))


class NarrowGrant(_Grants):
    @extend_schema(
        operation_id="narrowGrant",
        summary="Allow less, or for a shorter time",
        description="To allow more, give a new grant.",
        request=Narrower,
        responses=Answers(GrantShape),
    )
    def post(self, request: Request, grant: UUID) -> Response:
        said = body(request, Narrower)
        found = self.find(grant)
        permissions = _permissions(found.resource, said["permissions"])
        found.narrow(by=self.caller.person, permissions=permissions, expires_at=said["expires_at"])
        return Response(show(self.find(grant)))


class RevokeGrant(_Grants):
    @extend_schema(
        operation_id="revokeGrant",
        summary="End a grant at once",
        description="Its tokens are void within a second and its open streams end.",
        request=Nothing,
        responses=Answers(GrantEndedShape),
    )
    def post(self, request: Request, grant: UUID) -> Response:
        body(request, Nothing)
        found = self.find(grant)
        ended = found.revoke(by=self.caller.person)
        return Response({"grant": show(found), "ended": show_ended(ended)})


def _permissions(resource: Resource, named: list[dict[str, str]]) -> dict[Scope, str]:
    """Scopes of `resource` by their names, with the mode wished for each."""
    there = {scope.name: scope for scope in resource.scopes.all()}
    found: dict[Scope, str] = {}
    for index, one in enumerate(named):
        if one["scope"] not in there:
            known = ", ".join(sorted(there))
            raise invalid(f"permissions.{index}.scope", f"Not one of this resource's scopes: {known}.")
        if there[one["scope"]] in found:
            raise invalid(f"permissions.{index}.scope", "Name each scope once.")
        found[there[one["scope"]]] = one["mode"]
    return found


def show(grant: Grant) -> dict[str, Any]:
    permissions = [
        {"scope": one.scope.name, "words": one.scope.words, "risk": one.scope.risk, "mode": one.mode}
        for one in grant.permissions.all()
    ]
    return {
        "id": str(grant.id),
        "agent": {"id": str(grant.agent_id), "name": grant.agent.name},
        "resource": grant.resource.slug,
        "member": person(grant.member),
        "given_by": person(grant.given_by),
        "given_at": grant.given_at,
        "purpose": grant.purpose,
        "permissions": sorted(permissions, key=lambda one: one["scope"]),
        "expires_at": grant.expires_at,
        "is_live": grant.is_live,
        "ended_at": grant.ended_at,
        "end_reason": grant.end_reason,
        "last_used_at": grant.last_used_at,
    }
