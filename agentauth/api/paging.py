"""Lists in pages, newest first, by keyset: a cursor is the last id seen, so nothing is skipped or shown twice."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable
from typing import Any, TypeVar
from urllib.parse import urlencode
from uuid import UUID

from django.conf import settings
from django.db.models import Model, QuerySet
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from agentauth.api.problems import invalid
from agentauth.api.reading import Strict

M = TypeVar("M", bound=Model)


class PageQuery(Strict):
    """What every list takes."""

    limit = serializers.IntegerField(min_value=1, max_value=100, default=25, help_text="Rows per page.")
    cursor = serializers.CharField(
        required=False, max_length=64, help_text="From `next` of the page before; never made up."
    )


def page(request: Request, rows: "QuerySet[M]", asked: dict[str, Any], show: Callable[[M], dict[str, Any]]) -> Response:
    """One page of `rows` by UUIDv7 id, which is by time."""
    limit: int = asked["limit"]
    if "cursor" in asked:
        rows = rows.filter(id__lt=_id_of(asked["cursor"]))
    found = list(rows.order_by("-id")[: limit + 1])
    after = _cursor(found[limit - 1].pk) if len(found) > limit else None
    return listed(request, (show(row) for row in found[:limit]), after)


def listed(request: Request, items: Iterable[dict[str, Any]], cursor: str | None) -> Response:
    """`{"items", "next"}` and the same `next` as a Link (RFC 8288)."""
    following = None
    if cursor:
        kept = {name: value for name, value in request.query_params.items() if name != "cursor"}
        path = request._request.path
        following = f"{settings.KNOBS.base_url}{path}?{urlencode({**kept, 'cursor': cursor})}"
    headers = {"Link": f'<{following}>; rel="next"'} if following else None
    return Response({"items": list(items), "next": following}, headers=headers)


def _cursor(last: UUID) -> str:
    return urlsafe_b64encode(last.bytes).rstrip(b"=").decode()


def _id_of(cursor: str) -> UUID:
    try:
        return UUID(bytes=urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except ValueError:
        raise invalid("cursor", "This is not a cursor of ours. Take it from `next`.") from None
