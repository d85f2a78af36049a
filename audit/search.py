"""Searching the record: a small language, compiled to SQL that never leaves the tenant.

    agent:"Matt's assistant" decision:refuse,ask -tool:list_rooms since:7d finance

Terms are joined by "and", values after one key by "or", a minus excludes, quotes hold words together. Whoever calls is
in the tenant's transaction. Speaks SQL instead of the ORM: exports use the same conditions, beside the leaves.
"""

import base64
import binascii
import difflib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from django.db import connection
from django.utils.timezone import now

from audit.actions import Action
from audit.models import Event

if TYPE_CHECKING:
    from tenants.models import Tenant

LONGEST_QUERY = 500
LARGEST_PAGE = 500
OUTCOMES = ("ok", "upstream_error", "timeout", "revoked", "cancelled", "lost", "unknown")
DECISIONS = {
    "allow": "allow",
    "allowed": "allow",
    "refuse": "refuse",
    "refused": "refuse",
    "deny": "refuse",
    "denied": "refuse",
    "ask": "ask",
    "asked": "ask",
}
_AGO = re.compile(r"(\d{1,5})(m|h|d|w)")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_KEY = re.compile(r"([A-Za-z_]+):")
_WORD = re.compile(r"[^\s\"]+")
_VALUE = re.compile(r"[^\s\",]+")


class QueryError(ValueError):
    """A query that cannot be understood: where, why, and what would be right."""

    def __init__(self, position: int, message: str, right: str = "") -> None:
        super().__init__(f"{message} {right}".strip())
        self.position, self.message, self.right = position, message, right


@dataclass(frozen=True, slots=True)
class Term:
    """One part of a query. `key` is empty for free text."""

    position: int
    key: str
    values: tuple[str, ...]
    excluded: bool
    asked_at: datetime  # "7d" is seven days before this


@dataclass(frozen=True, slots=True)
class Condition:
    """A piece of SQL about `e`, the event."""

    sql: str
    parameters: tuple[Any, ...] = ()

    def __and__(self, other: "Condition") -> "Condition":
        return Condition(f"{self.sql} AND {other.sql}", self.parameters + other.parameters)


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
        if not term.excluded and term.key in _TIMES:
            start, end = _TIMES[term.key](term)
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


def condition(
    tenant_id: UUID, query: str, *, only_member: UUID | None = None, asked_at: datetime | None = None
) -> Condition:
    """What an event `e` must fulfil. Names are looked up now, within the tenant. Raises QueryError."""
    # Partitions of months to come hold nothing: one bound lets the planner leave them out
    horizon = f"{int((now() + timedelta(days=2)).timestamp() * 1000):012x}"
    found = Condition("e.tenant_id = %s AND e.id < %s", (tenant_id, UUID(horizon + "0" * 20)))
    if only_member is not None:
        own = "(e.member_id = %s OR (e.actor_kind = 'member' AND e.actor = %s))"
        found &= Condition(own, (only_member, str(only_member)))
    compiler = _Compiler(tenant_id, strict=only_member is None)
    for term in parse(query, asked_at):
        part = compiler.compile(term)
        # "IS NOT TRUE": what is not said is not excluded
        found &= Condition(f"({part.sql}) IS NOT TRUE" if term.excluded else f"({part.sql})", part.parameters)
    return found


def parse(query: str, asked_at: datetime | None = None) -> list[Term]:
    """The terms of a query; "7d" in it counts back from `asked_at`, now unless told. Raises QueryError."""
    if len(query) > LONGEST_QUERY:
        raise QueryError(LONGEST_QUERY, f"A query has at most {LONGEST_QUERY} characters.")
    if "\0" in query:
        raise QueryError(query.index("\0"), "A query is text.")
    return list(_terms(query, asked_at or now()))


def _terms(query: str, asked_at: datetime) -> Iterator[Term]:
    at = 0
    while True:
        while at < len(query) and query[at].isspace():
            at += 1
        if at == len(query):
            return
        start = at
        excluded = query[at] == "-" and at + 1 < len(query) and not query[at + 1].isspace()
        at += excluded
        key = _KEY.match(query, at)
        if key is None:
            value, at = _read_value(query, at, _WORD)
            yield Term(start, "", (value,), excluded, asked_at)
            continue
        name = key[1].lower()
        if name not in _Compiler.KEYS:
            raise _unknown_key(at, name, query[at:].split(maxsplit=1)[0])
        at = key.end()
        values = []
        while True:
            if at == len(query) or query[at].isspace() or query[at] == ",":
                raise QueryError(at, f"{name}: has no value.", f"Write it right behind the colon: {_EXAMPLES[name]}")
            value, at = _read_value(query, at, _VALUE)
            values.append(value)
            if at == len(query) or query[at] != ",":
                break
            at += 1
        yield Term(start, name, tuple(values), excluded, asked_at)


def _read_value(query: str, at: int, word: re.Pattern[str]) -> tuple[str, int]:
    if query[at] == '"':
        end = query.find('"', at + 1)
        if end < 0:
            raise QueryError(at, "This quote is not closed.", 'Add a " at its end.')
        if not query[at + 1 : end].strip():
            raise QueryError(at, "There is nothing between these quotes.")
        return query[at + 1 : end], end + 1
    found = word.match(query, at)
    if found is None:
        raise QueryError(at, f"{query[at]!r} cannot stand here.")
    return found[0], found.end()


def _unknown_key(at: int, name: str, word: str) -> QueryError:
    close = difflib.get_close_matches(name, _Compiler.KEYS, 1)
    right = f"Did you mean {close[0]}:?" if close else f"Keys are {', '.join(sorted(_Compiler.KEYS))}."
    return QueryError(at, f"There is no key {name}:.", f'{right} For the text itself, write "{word}" in quotes.')


def _moment(term: Term, value: str, *, end: bool) -> datetime:
    """A time, UTC; of a whole day its start, or with `end` its end."""
    text = value.lower()
    today = term.asked_at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if text in ("today", "yesterday"):
        day = today - timedelta(days=text == "yesterday")
        return day + timedelta(days=1) if end else day
    ago = _AGO.fullmatch(text)
    try:
        if ago:
            return term.asked_at - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        found = datetime.fromisoformat(value)
        if found.tzinfo is None:
            found = found.replace(tzinfo=UTC)
        if len(value) <= len("2026-11-22"):
            found += timedelta(days=1) if end else timedelta()
        return found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise QueryError(
            term.position,
            f"{value!r} is not a time.",
            "Write 2026-11-22, 2026-11-22T14:30, today, yesterday, 24h or 7d.",
        ) from None


def _one(term: Term) -> str:
    if len(term.values) != 1:
        raise QueryError(term.position, f"{term.key}: takes one value.", _EXAMPLES[term.key])
    return term.values[0]


def _period(term: Term) -> tuple[datetime | None, datetime | None]:
    first, dots, last = _one(term).partition("..")
    if not first and not last:
        raise QueryError(term.position, "created: needs a time.", _EXAMPLES["created"])
    start = _moment(term, first, end=False) if first else None
    if not dots:
        return start, _moment(term, first, end=True) if not _AGO.fullmatch(first.lower()) else None
    return start, _moment(term, last, end=True) if last else None


_TIMES: dict[str, Callable[[Term], tuple[datetime | None, datetime | None]]] = {
    "since": lambda term: (_moment(term, _one(term), end=False), None),
    "until": lambda term: (None, _moment(term, _one(term), end=True)),
    "created": _period,
}
_EXAMPLES = {
    "agent": 'agent:"Matt\'s assistant"',
    "person": "person:matt@acme.example",
    "member": "member:matt@acme.example",
    "resource": "resource:office",
    "operation": 'operation:"GET /rooms"',
    "tool": "tool:list_rooms",
    "scope": "scope:rooms:read",
    "decision": "decision:allow, decision:refuse or decision:ask",
    "action": "action:call.refused or action:grant",
    "outcome": f"outcome:{OUTCOMES[0]}; others are {', '.join(OUTCOMES[1:])}",
    "reason": "reason:scope_not_granted",
    "grant": "grant: and the grant's id",
    "call": "call: and the call's id",
    "ip": "ip:192.0.2.7 or ip:192.0.2.*",
    "since": "since:2026-11-01 or since:7d",
    "until": "until:2026-11-22",
    "created": "created:2026-11-01..2026-11-22",
}
# Which table knows the names behind a column: how ids of a name are found, exactly first, then by a part of the name
_NAMES = {
    "agent_id": ("agents_agent n", "n.id", ("n.name", "n.client_id"), "agent"),
    "member_id": ("tenants_member n JOIN tenants_user u ON u.id = n.user_id", "n.id", ("u.name", "u.email"), "person"),
    "resource_id": ("resources_resource n", "n.id", ("n.name", "n.slug"), "resource"),
}


class _Compiler:
    """Terms to conditions, for one tenant. When not `strict`, an unknown name finds nothing instead of saying so."""

    def __init__(self, tenant_id: UUID, *, strict: bool) -> None:
        self.tenant_id, self.strict = tenant_id, strict

    def compile(self, term: Term) -> Condition:
        if term.key in _TIMES:
            start, end = _TIMES[term.key](term)
            bounds = [("e.at >= %s", start), ("e.at < %s", end)]
            given = [(sql, bound) for sql, bound in bounds if bound is not None]
            return Condition(" AND ".join(sql for sql, _ in given), tuple(bound for _, bound in given))
        one = self.KEYS[term.key]
        parts = [one(self, term, value) for value in term.values]
        return Condition(" OR ".join(f"({p.sql})" for p in parts), tuple(v for p in parts for v in p.parameters))

    def agent(self, term: Term, value: str) -> Condition:
        return Condition("e.agent_id = ANY(%s::uuid[])", (self._ids(term, "agent_id", value),))

    def person(self, term: Term, value: str) -> Condition:
        ids = self._ids(term, "member_id", value)
        return Condition(
            "e.member_id = ANY(%s::uuid[]) OR (e.actor_kind = 'member' AND e.actor = ANY(%s))",
            (ids, [str(found) for found in ids]),
        )

    def resource(self, term: Term, value: str) -> Condition:
        return Condition("e.resource_id = ANY(%s::uuid[])", (self._ids(term, "resource_id", value),))

    def operation(self, _term: Term, value: str) -> Condition:
        if value.endswith("*"):
            return Condition("e.operation ILIKE %s", (_like(value[:-1]) + "%",))
        return Condition("lower(e.operation) = lower(%s)", (value,))

    def scope(self, _term: Term, value: str) -> Condition:
        return Condition("%s = ANY(string_to_array(e.details ->> 'scope', ' '))", (value,))

    def decision(self, term: Term, value: str) -> Condition:
        decision = DECISIONS.get(value.lower())
        if decision is None:
            raise QueryError(term.position, f"{value!r} is not a decision.", f"Write {_EXAMPLES['decision']}.")
        return Condition("e.decision = %s", (decision,))

    def action(self, term: Term, value: str) -> Condition:
        name = value.lower()
        group = name.removesuffix("*").removesuffix(".") + "."
        if name in {action.value for action in Action}:
            return Condition("e.action = %s", (name,))
        if any(action.value.startswith(group) for action in Action):
            return Condition("e.action LIKE %s", (_like(group) + "%",))
        close = difflib.get_close_matches(name, [action.value for action in Action], 1)
        right = f"Did you mean action:{close[0]}?" if close else f"Write {_EXAMPLES['action']}."
        raise QueryError(term.position, f"Nothing is recorded as {value!r}.", right)

    def outcome(self, term: Term, value: str) -> Condition:
        if value.lower() not in OUTCOMES:
            raise QueryError(term.position, f"{value!r} is not an outcome.", f"Write {_EXAMPLES['outcome']}.")
        return Condition("e.outcome = %s", (value.lower(),))

    def reason(self, _term: Term, value: str) -> Condition:
        return Condition("e.reasons @> jsonb_build_array(%s::text)", (value,))

    def grant(self, term: Term, value: str) -> Condition:
        return Condition("e.grant_id = %s", (_id(term, value),))

    def call(self, term: Term, value: str) -> Condition:
        return Condition("e.call_id = %s", (_id(term, value),))

    def ip(self, _term: Term, value: str) -> Condition:
        if value.endswith("*"):
            return Condition("e.ip LIKE %s", (_like(value[:-1]) + "%",))
        return Condition("e.ip = %s", (value,))

    def text(self, _term: Term, value: str) -> Condition:
        part = f"%{_like(value)}%"
        columns = ("e.action", "e.operation", "e.reasons::text", "e.subject", "e.outcome", "e.details::text")
        parts = [Condition(f"{column} ILIKE %s", (part,)) for column in columns]
        for column, ids in ((column, self._named(column, value, exactly=False)) for column in _NAMES):
            if ids:
                parts.append(Condition(f"e.{column} = ANY(%s::uuid[])", (ids,)))
        return Condition(" OR ".join(p.sql for p in parts), tuple(v for p in parts for v in p.parameters))

    def _ids(self, term: Term, column: str, value: str) -> list[UUID]:
        known = _uuid(value)
        if known is not None:
            return [known]
        found = self._named(column, value, exactly=True) or self._named(column, value, exactly=False)
        if not found and self.strict:
            kind = _NAMES[column][3]
            raise QueryError(term.position, f"There is no {kind} called {value!r}.", f"For example {_EXAMPLES[kind]}.")
        return found

    def _named(self, column: str, value: str, *, exactly: bool) -> list[UUID]:
        table, key, names, _ = _NAMES[column]
        match, wanted = ("lower({}) = lower(%s)", value) if exactly else ("{} ILIKE %s", f"%{_like(value)}%")
        either = " OR ".join(match.format(name) for name in names)
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT {key} FROM {table} WHERE n.tenant_id = %s AND ({either})",
                [self.tenant_id, *[wanted] * len(names)],
            )
            return [found for (found,) in cursor]

    KEYS: ClassVar[dict[str, Callable[["_Compiler", Term, str], Condition]]] = {
        "": text,
        "agent": agent,
        "person": person,
        "member": person,
        "resource": resource,
        "operation": operation,
        "tool": operation,
        "scope": scope,
        "decision": decision,
        "action": action,
        "outcome": outcome,
        "reason": reason,
        "grant": grant,
        "call": call,
        "ip": ip,
        "since": text,
        "until": text,
        "created": text,
    }


def _like(value: str) -> str:
    return value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _uuid(value: str) -> UUID | None:
    try:
        return UUID(value) if len(value) == 36 else None
    except ValueError:
        return None


def _id(term: Term, value: str) -> UUID:
    found = _uuid(value)
    if found is None:
        raise QueryError(term.position, f"{value!r} is not an id.", f"Write {_EXAMPLES[term.key]}.")
    return found


def _cursor(event: Event) -> str:
    return base64.urlsafe_b64encode(f"{event.at.isoformat()}~{event.id}".encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[datetime, UUID]:
    try:
        at, _, event = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().partition("~")
        return datetime.fromisoformat(at), UUID(event)
    except (ValueError, binascii.Error):
        raise QueryError(0, "This page's address is damaged.", "Start again from the newest events.") from None
