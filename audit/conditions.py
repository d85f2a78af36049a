"""What an event must fulfil to match a search: its terms as SQL that never leaves the tenant.

Whoever calls is in the tenant's transaction. Speaks SQL instead of the ORM: exports use the same conditions, beside the
leaves.
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID

from django.db import connection
from django.utils.timezone import now

from audit.actions import Action
from audit.query import EXAMPLES, OUTCOMES, TIMES, QueryError, Term, parse

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
# Which table knows the names behind a column: how ids of a name are found, exactly first, then by a part of the name
_NAMES = {
    "agent_id": ("agents_agent n", "n.id", ("n.name", "n.client_id"), "agent"),
    "member_id": ("tenants_member n JOIN tenants_user u ON u.id = n.user_id", "n.id", ("u.name", "u.email"), "person"),
    "resource_id": ("resources_resource n", "n.id", ("n.name", "n.slug"), "resource"),
}


@dataclass(frozen=True, slots=True)
class Condition:
    """A piece of SQL about `e`, the event."""

    sql: str
    parameters: tuple[Any, ...] = ()

    def __and__(self, other: "Condition") -> "Condition":
        return Condition(f"{self.sql} AND {other.sql}", self.parameters + other.parameters)


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


class _Compiler:
    """Terms to conditions, for one tenant. When not `strict`, an unknown name finds nothing instead of saying so."""

    def __init__(self, tenant_id: UUID, *, strict: bool) -> None:
        self.tenant_id, self.strict = tenant_id, strict

    def compile(self, term: Term) -> Condition:
        if term.key in TIMES:
            start, end = TIMES[term.key](term)
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
            raise QueryError(term.position, f"{value!r} is not a decision.", f"Write {EXAMPLES['decision']}.")
        return Condition("e.decision = %s", (decision,))

    def action(self, term: Term, value: str) -> Condition:
        name = value.lower()
        group = name.removesuffix("*").removesuffix(".") + "."
        if name in {action.value for action in Action}:
            return Condition("e.action = %s", (name,))
        if any(action.value.startswith(group) for action in Action):
            return Condition("e.action LIKE %s", (_like(group) + "%",))
        close = difflib.get_close_matches(name, [action.value for action in Action], 1)
        right = f"Did you mean action:{close[0]}?" if close else f"Write {EXAMPLES['action']}."
        raise QueryError(term.position, f"Nothing is recorded as {value!r}.", right)

    def outcome(self, term: Term, value: str) -> Condition:
        if value.lower() not in OUTCOMES:
            raise QueryError(term.position, f"{value!r} is not an outcome.", f"Write {EXAMPLES['outcome']}.")
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
            raise QueryError(term.position, f"There is no {kind} called {value!r}.", f"For example {EXAMPLES[kind]}.")
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
        raise QueryError(term.position, f"{value!r} is not an id.", f"Write {EXAMPLES[term.key]}.")
    return found
