"""The form of a grant: a tick per scope, Always / Ask me / Never per risk group, for how long."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.http.request import QueryDict
from django.utils.dateparse import parse_date
from django.utils.timezone import now

from agentauth.grants.models import Permission
from agentauth.resources.models import Scope

RISK_ORDER = ("read", "change", "dangerous")
GROUPS = {
    "read": ("Read", (("always", "Always"), ("ask", "Ask me"), ("never", "Never")), "always"),
    "change": ("Change", (("always", "Always"), ("ask", "Ask me"), ("never", "Never")), "ask"),
    "dangerous": ("Dangerous", (("ask", "Ask me"), ("never", "Never")), "ask"),
}
UNTIL = {"today": "Today", "7": "7 days", "30": "30 days", "date": "A date"}


@dataclass(frozen=True, slots=True)
class Offer:
    """One scope on the form: may be unticked."""

    scope: Scope
    ticked: bool
    calls: list[str]


@dataclass(frozen=True, slots=True)
class Group:
    """The scopes of one risk class, which share Always / Ask me / Never."""

    risk: str
    words: str
    modes: Sequence[tuple[str, str]]
    mode: str
    offers: list[Offer] = field(default_factory=list)


def mildest_first(scopes: Iterable[Scope]) -> list[Scope]:
    return sorted(scopes, key=lambda scope: (RISK_ORDER.index(scope.risk), scope.name))


def groups(scopes: Iterable[Scope], typed: QueryDict | None) -> list[Group]:
    """The form's groups, calm first. Dangerous scopes start unticked and have no "Always"."""
    found: dict[str, Group] = {}
    for scope in scopes:
        words, modes, first = GROUPS[scope.risk]
        mode = typed.get(f"{scope.risk}-how", first) if typed is not None else first
        group = found.setdefault(scope.risk, Group(scope.risk, words, modes, mode))
        ticked = str(scope.id) in typed.getlist("scope") if typed is not None else scope.risk != "dangerous"
        group.offers.append(Offer(scope, ticked, [operation.key for operation in scope.operations.all()]))
    return [found[risk] for risk in RISK_ORDER if risk in found]


def read_permissions(typed: QueryDict, scopes: Iterable[Scope]) -> dict[Scope, str]:
    """What the form says per scope: "never" counts for a whole group, else what is ticked; the rest is not granted."""
    ticked = set(typed.getlist("scope"))
    chosen: dict[Scope, str] = {}
    for scope in scopes:
        mode = typed.get(f"{scope.risk}-how", GROUPS[scope.risk][2])
        if mode == Permission.Mode.NEVER or str(scope.id) in ticked:
            chosen[scope] = mode
    return chosen


def read_until(typed: QueryDict, latest: datetime | None) -> tuple[datetime | None, str]:
    """The end that was chosen and what is wrong with it. Days end at midnight UTC. "keep" is no change."""
    until = typed.get("until", "7")
    today = now().astimezone(UTC).date()
    if until == "keep" and latest is not None:
        return None, ""
    if until in ("7", "30"):
        end = now() + timedelta(days=int(until))
    elif until == "today":
        end = _end_of(today)
    elif until == "date":
        day = _day(typed.get("date", ""))
        if day is None:
            return None, "Enter a day, for example " + (today + timedelta(days=14)).isoformat() + "."
        end = _end_of(day)
        if end <= now() or day > today + timedelta(days=365):
            return None, "Choose a day from today on and within a year."
    else:
        return None, "Choose for how long."
    if latest is not None and end >= latest:
        return None, f"This grant ends on {latest:%-d %b %Y} already. Choose an earlier day."
    return end, ""


def _day(typed: str) -> date | None:
    try:
        return parse_date(typed)
    except ValueError:
        return None


def _end_of(day: date) -> datetime:
    return datetime.combine(day, time(23, 59, 59), UTC)


def shorter(latest: datetime) -> list[tuple[str, str]]:
    ends = {
        "today": _end_of(now().astimezone(UTC).date()),
        "7": now() + timedelta(days=7),
        "30": now() + timedelta(days=30),
    }
    return [(key, words) for key, words in UNTIL.items() if key == "date" or ends[key] < latest]


def narrower(typed: QueryDict, rows: Iterable[Permission]) -> dict[Scope, str]:
    """What is to be left of each permission; what the form does not name, or names wrongly, stays."""
    said = {row: typed.get(f"mode-{row.scope_id}", row.mode) for row in rows}
    return {row.scope: mode if mode in Permission.Mode.values else row.mode for row, mode in said.items()}


def narrow_rows(rows: Iterable[Permission], typed: QueryDict) -> list[dict[str, Any]]:
    order = ["always", "ask", "never"]
    return [
        {
            "scope": row.scope,
            "mode": typed.get(f"mode-{row.scope_id}", row.mode),
            "modes": [(mode, Permission.Mode(mode).label) for mode in order[order.index(row.mode) :]],
        }
        for row in rows
    ]
