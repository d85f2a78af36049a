"""Shapes that several nouns share, and what every operation may answer."""

from collections.abc import Iterable
from typing import Any

from drf_spectacular.utils import OpenApiResponse
from rest_framework import serializers

from agentauth.api.problems import KINDS
from agentauth.api.reading import Strict, Text
from agentauth.resources.models import Scope
from tenants.models import Member
from tenants.revocation import Ended


class FieldErrorShape(Strict):
    field = Text(help_text="As in the body; nested as `a.0.b`; empty for the whole.")
    detail = Text()


class ProblemShape(Strict):
    """RFC 9457 problem details."""

    type = serializers.URLField(help_text="One of the addresses under /api/v1/problems/.")
    title = Text()
    status = serializers.IntegerField()
    detail = Text()
    instance = Text(required=False)
    errors = FieldErrorShape(many=True, required=False)  # type: ignore[assignment]  # a field, not the property
    scope = Text(required=False, help_text="The scope that is missing.")
    ask_at = Text(required=False, help_text="Where a person can grant it or say yes.")
    approval = serializers.UUIDField(required=False, help_text="The question that waits for the person's answer.")


class PersonShape(Strict):
    id = serializers.UUIDField(help_text="The member's id, the `sub` of tokens.")
    name = Text()


class EndedShape(Strict):
    """What stopped."""

    grants = serializers.IntegerField()
    tokens = serializers.IntegerField(help_text="Access tokens that were live and are void now.")
    at = serializers.DateTimeField()


def show_ended(ended: Ended) -> dict[str, Any]:
    return {"grants": ended.grants, "tokens": ended.tokens, "at": ended.at}


class ScopesShape(Strict):
    resource = Text(help_text="The resource's slug.")
    scopes = serializers.ListField(child=Text())


def Answers(shape: Any, *, status: int = 200, media_type: str = "application/json") -> dict[Any, Any]:
    """The good answer and every problem that an operation may answer with."""
    refusals = {400, 401, 403, 404, 406, 409, 413, 415, 422, 429, 500, 503}
    by_status: dict[int, list[str]] = {}
    for kind in KINDS.values():
        by_status.setdefault(kind.status, []).append(kind.title)
    problems = {
        (code, "application/problem+json"): OpenApiResponse(ProblemShape, description=" / ".join(by_status[code]))
        for code in sorted(refusals)
    }
    return {(status, media_type): shape, **problems}


def person(member: Member | None) -> dict[str, str] | None:
    return {"id": str(member.id), "name": member.user.name} if member else None


def scope_names(scopes: Iterable[Scope]) -> list[dict[str, Any]]:
    """Scopes by resource, as ceilings are written."""
    found: dict[str, list[str]] = {}
    for scope in scopes:
        found.setdefault(scope.resource.slug, []).append(scope.name)
    return [{"resource": slug, "scopes": sorted(names)} for slug, names in sorted(found.items())]
