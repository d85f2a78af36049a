"""Searching the record: pages of events, how many there are, and how they lie in time."""

import base64
import binascii
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from django.db import connection
from django.utils.timezone import now

from audit.conditions import Condition, condition
from audit.models import Event
from audit.query import TIMES, QueryError, parse

if TYPE_CHECKING:
    from tenants.models import Tenant

LARGEST_PAGE = 500


@dataclass(frozen=True, slots=True)
class Page:
    """Events, newest first. `next_cursor` leads to older ones, None at the end."""

    events: list[Event]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Bucket:
    """How many events of each decision from `start` until `end`."""

    start: datetime
    end: datetime
    allow: int = 0
    refuse: int = 0
    ask: int = 0
    other: int = 0

    @property
    def total(self) -> int:
        return self.allow + self.refuse + self.ask + self.other


def search(
    tenant: "Tenant", query: str = "", *, before: str | None = None, limit: int = 50, only_member: UUID | None = None
) -> Page:
    """A page of matching events, newest first. With `only_member`, only what that person did or was done for them.

    Raises QueryError.
    """
    limit = max(1, min(limit, LARGEST_PAGE))
    wanted = condition(tenant.id, query, only_member=only_member)
    if before:
        wanted &= Condition("(e.at, e.id) < (%s, %s)", _read_cursor(before))
    events = list(
        Event.objects.raw(
            f"SELECT e.* FROM audit_event e WHERE {wanted.sql} ORDER BY e.at DESC, e.id DESC LIMIT %s",
            [*wanted.parameters, limit + 1],
        )
    )
    more = len(events) > limit
    return Page(events[:limit], _cursor(events[limit - 1]) if more else None)


def count(tenant: "Tenant", query: str = "", *, only_member: UUID | None = None, at_most: int | None = None) -> int:
    """How many events match; with `at_most`, counting stops there. Raises QueryError."""
    return count_where(condition(tenant.id, query, only_member=only_member), at_most)


def count_where(wanted: Condition, at_most: int | None = None) -> int:
    """How many events fulfil a condition."""
    statement = f"SELECT 1 FROM audit_event e WHERE {wanted.sql}"
    if at_most is not None:
        statement += f" LIMIT {int(at_most)}"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM ({statement}) f", wanted.parameters)
        found: int = cursor.fetchone()[0]
    return found


def histogram(tenant: "Tenant", query: str = "", buckets: int = 60, *, only_member: UUID | None = None) -> list[Bucket]:
    """Matching events over the query's period (the last day where it names none), in equal steps. Raises QueryError."""
    until = now()
    since = until - timedelta(days=1)
    for term in parse(query):
        if not term.excluded and term.key in TIMES:
            start, end = TIMES[term.key](term)
            since, until = start or since, end or until
    if since >= until:
        return []
    buckets = max(1, min(buckets, 500))
    step = (until - since) / buckets
    wanted = condition(tenant.id, query, only_member=only_member)
    counts: dict[int, dict[str, int]] = {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT floor(extract(epoch FROM e.at - %s::timestamptz) / %s)::int, e.decision, count(*)"
            f" FROM audit_event e WHERE {wanted.sql} AND e.at >= %s AND e.at < %s GROUP BY 1, 2",
            [since, step.total_seconds(), *wanted.parameters, since, until],
        )
        for bucket, decision, found in cursor:
            kind = decision if decision in ("allow", "refuse", "ask") else "other"
            counts.setdefault(bucket, {})[kind] = found
    return [Bucket(since + step * at, since + step * (at + 1), **counts.get(at, {})) for at in range(buckets)]


def _cursor(event: Event) -> str:
    return base64.urlsafe_b64encode(f"{event.at.isoformat()}~{event.id}".encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[datetime, UUID]:
    try:
        at, _, event = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().partition("~")
        return datetime.fromisoformat(at), UUID(event)
    except (ValueError, binascii.Error):
        raise QueryError(0, "This page's address is damaged.", "Start again from the newest events.") from None
