"""The sequencer: gives every event its place in its tenant's tree and signs the new head, all in one commit.

It takes the rows of a queue, never "ids after the last one": ids are made before commit, and what commits late would be
passed over. One leader holds an advisory lock; others stand by. It runs as a role that may insert leaves and empty the
queue, and change nothing that exists. Speaks SQL instead of the ORM: thousands of rows in a commit.
"""

import logging
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg
from django.db import OperationalError, connections

from audit.checkpoint import Head, LogKey, NoLogKey, NoteError, Verifier
from audit.identity import first_key, origin, signing_key
from audit.merkle import Frontier, leaf_hash

log = logging.getLogger(__name__)

ALIAS = "sequencer"
BATCH = 1000
IDLE_SECONDS = 0.15
STANDBY_SECONDS = 0.5
FAREWELL_SECONDS = 3.0
LONGEST_PAUSE_SECONDS = 5.0
HALT_SECONDS = 30.0  # after which a tenant whose log is broken is looked at again
_LEADER = 0x6175646974736571  # the advisory lock: "auditseq"

Connection = psycopg.Connection[Any]
Row = tuple[Any, ...]


class BrokenLog(Exception):
    """What lies in the database is not what was signed: this tenant's log is not continued."""


@dataclass(slots=True)
class Places:
    """What one leader remembers between batches."""

    key: LogKey
    heads: dict[UUID, Head] = field(default_factory=dict)
    halted: dict[UUID, float] = field(default_factory=dict)  # tenant → monotonic time when it is tried again

    def resting(self) -> list[UUID]:
        return [tenant for tenant, until in self.halted.items() if until > time.monotonic()]


def run(stop: threading.Event) -> None:
    """Lead, or stand by for whoever leads, until `stop`. Comes back from a database that went away."""
    pause = IDLE_SECONDS
    while not stop.is_set():
        try:
            connection = connect()
            pause = IDLE_SECONDS
            if _wait_to_lead(connection, stop):
                _lead(connection, stop)
        except (psycopg.Error, OperationalError) as lost:
            log.warning("No database, or not as expected: %s. Again in %.1f s.", str(lost).strip(), pause)
            stop.wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
        finally:
            _close()


def drain() -> int:
    """Place all that waits, for commands and tests. Returns how many. Waits until nobody else leads."""
    connection = connect()
    try:
        while not _try_lead(connection):
            time.sleep(0.02)
        places = Places(_key(connection))
        total = 0
        while placed := place(connection, places):
            total += placed
        return total
    finally:
        _close()


def connect() -> Connection:
    """A fresh connection under the sequencer's role. Raises OperationalError."""
    wrapper = connections[ALIAS]
    wrapper.close()
    wrapper.connect()
    connection: Connection = wrapper.connection
    # The queue is small and the events are many: whatever the statistics say, look them up by key
    for setting in ("enable_hashjoin", "enable_mergejoin", "enable_seqscan"):
        connection.execute(f"SET {setting} = off")
    connection.execute("SET statement_timeout = '30s'")
    return connection


def place(connection: Connection, places: Places, limit: int = BATCH) -> int:
    """Give up to `limit` waiting events their places, in one commit. Returns how many left the queue."""
    with connection.transaction():
        resting = places.resting()
        queue = _fetch(
            connection,
            "SELECT tenant_id, id FROM audit_unsequenced WHERE tenant_id <> ALL(%s::uuid[]) ORDER BY id LIMIT %s",
            [resting, limit],
        )
        if not queue:
            return 0
        events = _events(connection, queue)
        heads = _heads(connection, {tenant for tenant, _ in queue})
        done = 0
        for tenant, rows in events.items():
            try:
                with connection.transaction():  # a savepoint: one tenant's broken log holds up nobody else
                    done += _place_for(connection, places, tenant, rows, heads[tenant])
            except (BrokenLog, psycopg.IntegrityError) as broken:
                places.halted[tenant] = time.monotonic() + HALT_SECONDS
                log.critical("The record of tenant %s is not continued: %s", tenant, broken)
        return done


@dataclass(frozen=True, slots=True)
class _Stored:
    """The newest checkpoint as it lies in the database; `note` is empty before the first."""

    slug: str
    size: int
    root: bytes
    frontier: bytes
    note: str


@dataclass(slots=True)
class _Rows:
    """A tenant's part of a batch: events to place, and queue rows that have nothing left to place."""

    fresh: list[tuple[UUID, str]] = field(default_factory=list)  # event id, body
    spent: list[UUID] = field(default_factory=list)


def _wait_to_lead(connection: Connection, stop: threading.Event) -> bool:
    said = False
    while not stop.is_set():
        if _try_lead(connection):
            return True
        if not said:
            log.info("Standing by: another sequencer leads.")
            said = True
        stop.wait(STANDBY_SECONDS)
    return False


def _lead(connection: Connection, stop: threading.Event) -> None:
    try:
        places = Places(_key(connection))
    except (NoLogKey, NoteError) as missing:
        log.critical("Nothing is signed: %s", missing)
        stop.wait(LONGEST_PAUSE_SECONDS)
        return
    log.info("Leading.")
    while not stop.is_set():
        if place(connection, places) < BATCH:
            stop.wait(IDLE_SECONDS)
    # Whoever stops everything stops us last: what the others have just recorded gets its place
    deadline = time.monotonic() + FAREWELL_SECONDS
    while time.monotonic() < deadline and place(connection, places):
        pass


def _try_lead(connection: Connection) -> bool:
    return bool(_fetch(connection, "SELECT pg_try_advisory_lock(%s)", [_LEADER])[0][0])


def _key(connection: Connection) -> LogKey:
    """The log key; a first one is made only where nothing has been signed yet."""
    if _fetch(connection, "SELECT EXISTS (SELECT FROM audit_checkpoint)", [])[0][0]:
        return signing_key()
    return first_key()


def _events(connection: Connection, queue: list[Row]) -> dict[UUID, _Rows]:
    """By tenant, in the order of the queue. The id bounds let the planner leave out other months' partitions."""
    ids = [event for _, event in queue]
    found = _fetch(
        connection,
        "SELECT q.tenant_id, q.id, e.body, l.index"
        " FROM unnest(%s::uuid[], %s::uuid[]) AS q (tenant_id, id)"
        " LEFT JOIN audit_event e ON e.tenant_id = q.tenant_id AND e.id = q.id AND e.id BETWEEN %s AND %s"
        " LEFT JOIN audit_leaf l ON l.tenant_id = q.tenant_id AND l.event_id = q.id"
        " ORDER BY q.id",
        [[tenant for tenant, _ in queue], ids, ids[0], ids[-1]],
    )
    by_tenant: dict[UUID, _Rows] = defaultdict(_Rows)
    for tenant, event, body, index in found:
        if body is None or index is not None:
            log.error("Queue row %s of tenant %s has no event, or one that is placed already.", event, tenant)
            by_tenant[tenant].spent.append(event)
        else:
            by_tenant[tenant].fresh.append((event, body))
    return by_tenant


def _heads(connection: Connection, tenants: set[UUID]) -> dict[UUID, _Stored]:
    found = _fetch(
        connection,
        "SELECT t.id, t.slug, c.size, c.root, c.frontier, c.note FROM unnest(%s::uuid[]) AS q (id)"
        " JOIN tenants_tenant t ON t.id = q.id"
        " LEFT JOIN LATERAL (SELECT size, root, frontier, note FROM audit_checkpoint"
        "   WHERE tenant_id = t.id ORDER BY size DESC LIMIT 1) c ON true",
        [list(tenants)],
    )
    return {
        tenant: _Stored(slug, size or 0, bytes(root or b""), bytes(frontier or b""), note or "")
        for tenant, slug, size, root, frontier, note in found
    }


def _place_for(connection: Connection, places: Places, tenant: UUID, rows: _Rows, stored: _Stored) -> int:
    """One tenant's leaves, kept nodes, new head; its queue rows go. Raises BrokenLog, IntegrityError."""
    frontier = _trusted_frontier(places, tenant, stored)
    first = frontier.size
    hashes = [leaf_hash(body.encode()) for _, body in rows.fresh]
    nodes = frontier.append(hashes)
    head = Head(origin(stored.slug), frontier.size, frontier.root())
    if rows.fresh:
        _run(
            connection,
            "INSERT INTO audit_leaf (tenant_id, index, event_id, hash)"
            " SELECT %s::uuid, %s::bigint + ordinality - 1, event_id, hash"
            " FROM unnest(%s::uuid[], %s::bytea[]) WITH ORDINALITY AS f (event_id, hash, ordinality)",
            [tenant, first, [event for event, _ in rows.fresh], hashes],
        )
        _run(
            connection,
            "INSERT INTO audit_checkpoint (tenant_id, size, root, frontier, note, at)"
            " VALUES (%s, %s, %s, %s, %s, clock_timestamp())",
            [tenant, head.size, head.root, frontier.encode(), places.key.sign_head(head)],
        )
    if nodes:
        _run(
            connection,
            "INSERT INTO audit_node (tenant_id, level, index, hash)"
            " SELECT %s::uuid, level, index, hash FROM unnest(%s::smallint[], %s::bigint[], %s::bytea[])"
            " AS n (level, index, hash)",
            [tenant, [n.level for n in nodes], [n.index for n in nodes], [n.hash for n in nodes]],
        )
    gone = [event for event, _ in rows.fresh] + rows.spent
    _run(connection, "DELETE FROM audit_unsequenced WHERE tenant_id = %s AND id = ANY(%s::uuid[])", [tenant, gone])
    places.heads[tenant] = head
    return len(gone)


def _trusted_frontier(places: Places, tenant: UUID, stored: _Stored) -> Frontier:
    """The compact range to build on: it must be what we signed, and what this leader last left. Raises BrokenLog."""
    known = places.heads.get(tenant)
    if known is not None and (known.size, known.root) != (stored.size, stored.root):
        raise BrokenLog(f"its newest checkpoint is of size {stored.size}, but {known.size} was signed last")
    try:
        frontier = Frontier.decode(stored.size, stored.frontier)
    except ValueError as wrong:
        raise BrokenLog(str(wrong)) from None
    if not stored.note:
        return frontier
    if frontier.root() != stored.root:
        raise BrokenLog("its frontier does not lead to its root")
    if known is None:
        _require_signed(places.key, stored)
    return frontier


def _require_signed(key: LogKey, stored: _Stored) -> None:
    """The name may be one of before a move to another address; the key may not."""
    name = stored.note.split("\n", 1)[0]
    try:
        head = Verifier(name, key.private.public_key()).open_checkpoint(stored.note)
    except NoteError as wrong:
        raise BrokenLog(f"its newest checkpoint is not signed with our key: {wrong}") from None
    if (head.size, head.root) != (stored.size, stored.root):
        raise BrokenLog("its newest checkpoint says something else than its row")


def _fetch(connection: Connection, statement: str, parameters: list[Any]) -> list[Row]:
    # Not the connection's own kind of cursor: Django's writes parameters into the text
    with psycopg.Cursor(connection) as cursor:
        return cursor.execute(statement, parameters).fetchall()


def _run(connection: Connection, statement: str, parameters: list[Any]) -> None:
    with psycopg.Cursor(connection) as cursor:
        cursor.execute(statement, parameters)


def _close() -> None:
    try:
        connections[ALIAS].close()
    except Exception:
        log.debug("Closing a lost connection", exc_info=True)
