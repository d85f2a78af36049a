"""What can be shown of the record without exporting it: the proof of one event, and whether the log is sound.

Whoever calls is in the tenant's transaction.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import connection
from django.utils.timezone import now

from audit.checkpoint import Head, NoLogKey, NoteError, Verifier
from audit.identity import signing_key
from audit.merkle import (
    EMPTY_ROOT,
    HASH_SIZE,
    TILE_HEIGHT,
    Frontier,
    ProofError,
    inclusion_path,
    leaf_hash,
    verify_inclusion,
)
from audit.models import Checkpoint, Event

if TYPE_CHECKING:
    from tenants.models import Tenant

_MOST_WAITING = 10_001  # counting stops there
LATE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Proof:
    """That an event stands at `index` of the signed tree. `problem` says what does not hold; empty when all does."""

    index: int
    leaf_hash: bytes
    path: tuple[bytes, ...]
    note: str
    size: int
    root: bytes
    problem: str = ""

    @property
    def holds(self) -> bool:
        return not self.problem


@dataclass(frozen=True, slots=True)
class Health:
    """How a tenant's log is doing, for the foot of a page."""

    size: int
    root: bytes
    at: datetime | None  # of the newest checkpoint
    waiting: int  # events that have no place yet; counted up to 10,001
    oldest_waiting: datetime | None
    problem: str = ""

    @property
    def ok(self) -> bool:
        return not self.problem

    @property
    def is_late(self) -> bool:
        """Nobody places events: the sequencer is down, or this log was halted."""
        return self.oldest_waiting is not None and (now() - self.oldest_waiting).total_seconds() > LATE_SECONDS


def proof_of(tenant: "Tenant", event_id: UUID) -> Proof | None:
    """The proof of one event against the newest checkpoint; None while it has no place yet, or is not there at all."""
    body = Event.objects.filter(tenant=tenant, id=event_id).values_list("body", flat=True).first()
    checkpoint = _newest(tenant)
    found = _rows("SELECT index, hash FROM audit_leaf WHERE tenant_id = %s AND event_id = %s", [tenant.id, event_id])
    if body is None or checkpoint is None or not found:
        return None
    index, leaf = found[0][0], bytes(found[0][1])
    path: list[bytes] = []
    problem = _problem_of(checkpoint)
    try:
        if leaf != leaf_hash(body.encode()):
            raise ProofError("the event is not what was hashed when it got its place")
        path = inclusion_path(index, checkpoint.size, lambda start, end: _subtree(tenant.id, start, end))
        verify_inclusion(leaf, index, checkpoint.size, path, bytes(checkpoint.root))
    except ValueError as wrong:
        problem = problem or str(wrong)
    return Proof(index, leaf, tuple(path), checkpoint.note, checkpoint.size, bytes(checkpoint.root), problem)


def intact(tenant: "Tenant") -> Health:
    """A cheap check: the newest head is signed with our key, follows from its frontier, and no leaf is missing."""
    waiting, oldest = _rows(
        "SELECT count(*), (SELECT min(e.at) FROM (SELECT id FROM audit_unsequenced WHERE tenant_id = %s ORDER BY id"
        " LIMIT 1) q JOIN audit_event e ON e.id = q.id AND e.tenant_id = %s)"
        " FROM (SELECT FROM audit_unsequenced WHERE tenant_id = %s LIMIT %s) w",
        [tenant.id, tenant.id, tenant.id, _MOST_WAITING],
    )[0]
    checkpoint = _newest(tenant)
    last = _rows("SELECT max(index) FROM audit_leaf WHERE tenant_id = %s", [tenant.id])[0][0]
    leaves = 0 if last is None else last + 1
    if checkpoint is None:
        problem = "there are leaves, but nothing is signed" if leaves else ""
        return Health(0, EMPTY_ROOT, None, waiting, oldest, problem)
    problem = _problem_of(checkpoint)
    if not problem and leaves != checkpoint.size:
        problem = f"the newest checkpoint covers {checkpoint.size} events, but there are places for {leaves}"
    return Health(checkpoint.size, bytes(checkpoint.root), checkpoint.at, waiting, oldest, problem)


def _newest(tenant: "Tenant") -> Checkpoint | None:
    return Checkpoint.objects.filter(tenant=tenant).order_by("-size").first()


def _problem_of(checkpoint: Checkpoint) -> str:
    """Why this checkpoint is not to be believed; empty when it is."""
    try:
        name = checkpoint.note.split("\n", 1)[0]  # the origin then: an installation may have moved
        head = Verifier(name, signing_key().private.public_key()).open_checkpoint(checkpoint.note)
        frontier = Frontier.decode(checkpoint.size, bytes(checkpoint.frontier))
    except (NoteError, NoLogKey, ValueError) as wrong:
        return str(wrong)
    if head != Head(name, checkpoint.size, bytes(checkpoint.root)) or frontier.root() != head.root:
        return "the newest checkpoint says something else than what was signed"
    return ""


def _subtree(tenant_id: UUID, start: int, end: int) -> bytes:
    """The root over these leaves, from the largest kept subtrees that fit. `start` fits the range, as in any proof."""
    frontier = Frontier()
    at = start
    while at < end:
        level = 0
        while not at & ((1 << level + TILE_HEIGHT) - 1) and at + (1 << level + TILE_HEIGHT) <= end:
            level += TILE_HEIGHT
        count = (end - at) >> level
        for root in _roots(tenant_id, level, at >> level, count):
            frontier.append_subtree(level, root)
        at += count << level
    return frontier.root()


def _roots(tenant_id: UUID, level: int, first: int, count: int) -> list[bytes]:
    table, own = ("audit_node", "AND level = %s") if level else ("audit_leaf", "")
    found = _rows(
        f"SELECT hash FROM {table} WHERE tenant_id = %s AND index >= %s AND index < %s {own} ORDER BY index",
        [tenant_id, first, first + count, *([level] if level else [])],
    )
    roots = [bytes(root) for (root,) in found]
    if len(roots) != count or any(len(root) != HASH_SIZE for root in roots):
        raise ProofError(f"of {count} hashes from {first} at level {level}, {len(roots)} are there")
    return roots


def _rows(statement: str, parameters: list[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return list(cursor.fetchall())
