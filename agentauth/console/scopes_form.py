"""The form in which an admin names permissions: words and risk per scope, a scope per operation."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.http.request import QueryDict

from agentauth.resources.models import Operation, Resource, Risk, Scope
from agentauth.resources.publishing import ScopeWords


@dataclass(frozen=True, slots=True)
class ScopeRow:
    """One scope as the form shows it: as saved, or as just typed."""

    scope: Scope
    words: str
    risk: str
    calls: int
    problem: str

    @property
    def key(self) -> str:
        return str(self.scope.id)

    @property
    def risks(self) -> list[tuple[str, str]]:
        return [(risk.value, str(risk.label)) for risk in Risk]


@dataclass(frozen=True, slots=True)
class OperationRow:
    """One call, and the scope chosen for it: an id, "new", or empty for nobody."""

    operation: Operation
    chosen: str


def operation_rows(operations: Iterable[Operation], typed: QueryDict | None) -> list[OperationRow]:
    rows = []
    for operation in operations:
        saved = str(operation.scope_id or "")
        rows.append(OperationRow(operation, typed.get(f"operation-{operation.id}", saved) if typed else saved))
    return rows


def scope_rows(
    resource: Resource, operations: Iterable[Operation], problems: Mapping[str, list[str]], typed: QueryDict | None
) -> list[ScopeRow]:
    """Calm ones first, then by name."""
    counted: dict[Any, int] = {}
    for operation in operations:
        counted[operation.scope_id] = counted.get(operation.scope_id, 0) + 1
    rows = []
    for scope in resource.scopes.all():
        words, risk = scope.words, scope.risk
        if typed is not None:
            words, risk = typed.get(f"words-{scope.id}", words), typed.get(f"risk-{scope.id}", risk)
        problem = " ".join(problems.get(f"scope:{scope.name}", []))
        rows.append(ScopeRow(scope, words, risk, counted.get(scope.id, 0), problem))
    order = ("read", "change", "dangerous")
    return sorted(rows, key=lambda row: (order.index(row.scope.risk), row.scope.name))


def unmapped(operations: Iterable[Operation]) -> int:
    """How many calls nobody may make."""
    return sum(operation.scope_id is None for operation in operations)


def read_edits(resource: Resource, typed: QueryDict) -> dict[str, Any]:
    """What `edit_scopes` is to do. Fields that the form did not send stay as they are."""
    scopes: dict[str, ScopeWords] = {}
    names: dict[str, str] = {}
    for scope in resource.scopes.all():
        names[str(scope.id)] = scope.name
        words, risk = typed.get(f"words-{scope.id}"), typed.get(f"risk-{scope.id}")
        if words is not None or risk is not None:
            said = words if words is not None else scope.words
            scopes[scope.name] = ScopeWords(" ".join(said.split()), risk or scope.risk)
    fresh = typed.get("new-name", "").strip()
    if fresh or typed.get("new-words", "").strip():
        scopes[fresh] = ScopeWords(" ".join(typed.get("new-words", "").split()), typed.get("new-risk", ""))
        names["new"] = fresh
    operations: dict[str, str | None] = {}
    for operation in resource.operations.all():
        chosen = typed.get(f"operation-{operation.id}")
        if chosen is not None:
            operations[operation.key] = names.get(chosen, chosen) or None
    return {"scopes": scopes, "operations": operations}
