"""The language of searches in the record, read into terms. Pure.

    agent:"Matt's assistant" decision:refuse,ask -tool:list_rooms since:7d finance

Terms are joined by "and", values after one key by "or", a minus excludes, quotes hold words together.
"""

import difflib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.utils.timezone import now

LONGEST_QUERY = 500
OUTCOMES = ("ok", "upstream_error", "timeout", "revoked", "cancelled", "lost", "unknown")
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
        if name not in EXAMPLES:
            raise _unknown_key(at, name, query[at:].split(maxsplit=1)[0])
        at = key.end()
        values = []
        while True:
            if at == len(query) or query[at].isspace() or query[at] == ",":
                raise QueryError(at, f"{name}: has no value.", f"Write it right behind the colon: {EXAMPLES[name]}")
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
    close = difflib.get_close_matches(name, EXAMPLES, 1)
    right = f"Did you mean {close[0]}:?" if close else f"Keys are {', '.join(sorted(EXAMPLES))}."
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
        raise QueryError(term.position, f"{term.key}: takes one value.", EXAMPLES[term.key])
    return term.values[0]


def _period(term: Term) -> tuple[datetime | None, datetime | None]:
    first, dots, last = _one(term).partition("..")
    if not first and not last:
        raise QueryError(term.position, "created: needs a time.", EXAMPLES["created"])
    start = _moment(term, first, end=False) if first else None
    if not dots:
        return start, _moment(term, first, end=True) if not _AGO.fullmatch(first.lower()) else None
    return start, _moment(term, last, end=True) if last else None


TIMES: dict[str, Callable[[Term], tuple[datetime | None, datetime | None]]] = {
    "since": lambda term: (_moment(term, _one(term), end=False), None),
    "until": lambda term: (None, _moment(term, _one(term), end=True)),
    "created": _period,
}
EXAMPLES = {
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
