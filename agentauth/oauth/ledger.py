"""Recording tokens that the short lane issues: one commit for all that are in flight, and one last look at what stands.

SQL, because a statement for each costs ten times as much. The statement that writes the events reads in the same
snapshot whether tenant, agent, credential and grant still stand; of those that do not, nothing is written.
"""

import logging
import threading
import time
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any
from uuid import UUID

import orjson
import psycopg
from psycopg.pq import Escaping, ExecStatus

from agentauth.oauth.hearing import connect
from audit.record import COLUMNS
from tenants.rls import TENANT_SETTING

log = logging.getLogger(__name__)

MOST_AT_ONCE = 200
_LONGEST_GATHERING = 0.002  # seconds
_PATIENCE = 5.0  # seconds after which a token that is not recorded is not given
_COLUMNS = ", ".join(COLUMNS)
_JSON_COLUMNS = (COLUMNS.index("reasons"), COLUMNS.index("details"))
_WRITTEN = "agentauth.lane_written"  # ids, of all tenants of a batch: only its last statement's answer is read
_RECORD = f"""
PREPARE lane (json) AS WITH asked AS (
    SELECT (one.value ->> 'credential')::uuid AS credential_id, event.*
    FROM json_array_elements($1) AS one, json_populate_record(NULL::audit_event, one.value) AS event
), event AS (
    INSERT INTO audit_event ({_COLUMNS}) SELECT {_COLUMNS} FROM asked a
    WHERE EXISTS (SELECT FROM tenants_tenant t WHERE t.id = a.tenant_id AND t.suspended_at IS NULL)
    AND EXISTS (SELECT FROM agents_agent g WHERE g.tenant_id = a.tenant_id AND g.id = a.agent_id
        AND g.state = 'active' AND (g.valid_until IS NULL OR g.valid_until > now()))
    AND EXISTS (SELECT FROM agents_credential c WHERE c.tenant_id = a.tenant_id AND c.id = a.credential_id
        AND c.agent_id = a.agent_id AND c.retired_at IS NULL AND (c.expires_at IS NULL OR c.expires_at > now()))
    AND EXISTS (SELECT FROM grants_grant p WHERE p.tenant_id = a.tenant_id AND p.id = a.grant_id
        AND p.ended_at IS NULL AND p.expires_at > now())
    AND EXISTS (SELECT FROM resources_resource r WHERE r.tenant_id = a.tenant_id AND r.id = a.resource_id
        AND r.state = 'published')
    RETURNING id, tenant_id
), queued AS (
    INSERT INTO audit_unsequenced (id, tenant_id) SELECT id, tenant_id FROM event RETURNING id
)
SELECT set_config('{_WRITTEN}', concat(current_setting('{_WRITTEN}', true), ',', string_agg(id::text, ',')), true)
FROM queued
"""

Row = tuple[Any, ...]


class Unrecorded(Exception):
    """It could not be written down, so it does not happen."""


class _Waiting:
    """One event and whoever waits for it: `done` is held until its outcome is known."""

    __slots__ = ("credential_id", "done", "outcome", "row")

    def __init__(self, row: Row, credential_id: UUID) -> None:
        self.row, self.credential_id = row, credential_id
        self.outcome: bool | None = None  # None: not recorded
        self.done = threading.Lock()
        self.done.acquire()


class Ledger:
    """One writer thread: what came while it wrote is written next, together."""

    def __init__(self) -> None:
        self._waiting: SimpleQueue[_Waiting] = SimpleQueue()
        self._db: psycopg.Connection[tuple[object, ...]] | None = None
        self._stale = False
        self._last = 1, 0.0  # how many, and how many seconds it took
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def record(self, row: Row, credential_id: UUID) -> bool:
        """True once this event is committed, False if what it stands on has ended. Raises Unrecorded."""
        if self._thread is None:
            self._ensure_started()
        mine = _Waiting(row, credential_id)
        self._waiting.put(mine)
        if not mine.done.acquire(timeout=_PATIENCE) or mine.outcome is None:
            raise Unrecorded
        return mine.outcome

    def reconnect(self) -> None:
        """Before the next event: the database was away."""
        self._stale = True

    def _ensure_started(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="oauth-ledger", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            batch = self._gather()
            began = time.monotonic()
            try:
                written = self._write(batch)
                for one in batch:
                    one.outcome = str(one.row[0]) in written
            except Exception as problem:
                log.error("tokens cannot be recorded: %s", str(problem).strip().splitlines()[:1])
                self._drop_connection()
            for one in batch:
                one.done.release()
            self._last = len(batch), time.monotonic() - began

    def _gather(self) -> list[_Waiting]:
        """What waits now. As many as the last time are worth a moment, shorter than the commit that it saves."""
        batch = [self._waiting.get()]
        size, duration = self._last
        until = time.monotonic() + min(duration / 2, _LONGEST_GATHERING)
        with suppress(Empty):
            while len(batch) < MOST_AT_ONCE:
                left = until - time.monotonic()
                if left > 0 and len(batch) < size:
                    batch.append(self._waiting.get(timeout=left))
                else:
                    batch.append(self._waiting.get_nowait())
        return batch

    def _write(self, batch: list[_Waiting]) -> frozenset[str]:
        """One round trip, one transaction; the ids that were written. Tenant by tenant: row-level security shows one
        at a time. A query of several statements is one transaction, committed when its answer is here."""
        if self._stale:
            self._drop_connection()
        if self._db is None:
            self._db = connect("agentauth-lane")
            self._db.execute(_RECORD)
            self._stale = False
        by_tenant: dict[UUID, list[dict[str, Any]]] = {}
        for one in batch:
            by_tenant.setdefault(one.row[1], []).append(_as_object(one.row, one.credential_id))
        escape = Escaping(self._db.pgconn).escape_literal
        said = []
        for tenant_id, events in by_tenant.items():
            said.append(b"SELECT set_config('%b', '%b', true)" % (TENANT_SETTING.encode(), str(tenant_id).encode()))
            said.append(b"EXECUTE lane (%b)" % bytes(escape(orjson.dumps(events))))
        said.append(b"SELECT current_setting('%b', true)" % _WRITTEN.encode())
        answer = self._db.pgconn.exec_(b"; ".join(said))
        if answer.status != ExecStatus.TUPLES_OK:
            raise psycopg.OperationalError(answer.error_message.decode(errors="replace"))
        return frozenset((answer.get_value(0, 0) or b"").decode().split(","))

    def _drop_connection(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            with suppress(Exception):
                db.close()


def _as_object(row: Row, credential_id: UUID) -> dict[str, Any]:
    found = dict(zip(COLUMNS, row, strict=True))
    for at in _JSON_COLUMNS:
        found[COLUMNS[at]] = orjson.Fragment(row[at])
    found["credential"] = credential_id
    return found
