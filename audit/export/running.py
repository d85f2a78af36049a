"""Doing an export in slices: each is on disk and noted in the database before the next, so a killed worker costs one.

Every slice holds the row's lock and checks that the job is still its own: two workers never write to one file,
whichever of them was delivered twice, stopped for a minute or came back from the dead.
"""

import io
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import file_digest
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
from django.db import connection
from django.utils.timezone import now

from audit.actions import Action
from audit.checkpoint import NoLogKey, NoteError
from audit.conditions import Condition, condition
from audit.export.bundle import Contents, folder_of, pack, remove
from audit.export.records import ExportFailed, Names, encode, head, leaves_of, names_of, range_of, rows_of
from audit.identity import origin, signing_key
from audit.models import Checkpoint, Export
from audit.query import QueryError
from audit.record import Actor, record
from audit.search import count_where
from audit.verify import FORMAT
from tenants.rls import in_tenant, new_id

SLICE = 5000
STALE = timedelta(seconds=20)  # a heartbeat older than this is a dead worker's
LIFETIME = timedelta(days=7)
PATIENCE_SECONDS = 60.0  # for events of the period that have no place yet
BEAT_SECONDS = 2.0
VERSION = "0.1.0"
TASK = Actor.task("export")


class NotOurs(Exception):
    """The job was cancelled, or another worker has it."""


def run_export(export_id: UUID, tenant_id: UUID) -> bool:
    """Do this export, or the rest of it. False when there is nothing to do: over, or another worker has it.

    Errors of the database are raised: the job stays as it is and is resumed by the clock.
    """
    job = _claim(export_id, tenant_id)
    if job is None:
        return False
    try:
        job.measure()
        while job.write_slice():
            pass
        job.finish()
    except NotOurs:
        job.clean_if_over()
        return False
    except (ExportFailed, NoLogKey, NoteError, OSError) as wrong:
        job.fail(str(wrong))
        return False
    return True


def in_period(since: datetime, until: datetime) -> Condition:
    return Condition("e.at >= %s AND e.at < %s", (since, until))


def _claim(export_id: UUID, tenant_id: UUID) -> "_Job | None":
    with in_tenant(tenant_id):
        export = Export.objects.select_for_update(skip_locked=True).filter(tenant_id=tenant_id, id=export_id).first()
        if export is None or export.is_over:
            return None
        alive = export.heartbeat_at is not None and export.heartbeat_at > now() - STALE
        if export.state == Export.State.RUNNING and alive:
            return None
        export.state, export.run, export.heartbeat_at = Export.State.RUNNING, new_id(), now()
        export.save(update_fields=["state", "run", "heartbeat_at"])
        return _Job(export)


@dataclass(frozen=True, slots=True)
class _Files:
    """Beside the bundle while it is made: the data so far, the names, the zip file of this run."""

    data: Path
    names: Path
    packing: Path
    bundle: Path


class _Job:
    """One run of an export by one worker."""

    def __init__(self, export: Export) -> None:
        self.id, self.tenant_id, self.run = export.id, export.tenant_id, export.run
        folder = folder_of(export.tenant_id)
        self.files = _Files(
            data=folder / f"{export.id}.part",
            names=folder / f"{export.id}.names",
            packing=folder / f"{export.id}.{export.run}.packing",
            bundle=folder / f"{export.id}.zip",
        )
        self._names: Names | None = None
        self._wanted: Condition | None = None
        self._beaten = time.monotonic()

    def own(self) -> Export:
        """The row, locked and still ours. Raises NotOurs."""
        export = Export.objects.select_for_update().filter(tenant_id=self.tenant_id, id=self.id).first()
        if export is None or export.state != Export.State.RUNNING or export.run != self.run:
            raise NotOurs
        return export

    def measure(self) -> None:
        """Fix what is looked through, once: the checkpoint, the range of leaves, how many rows, whose names."""
        self._await_places()
        with in_tenant(self.tenant_id):
            export = self.own()
            if export.tree_size is not None and self._can_go_on(export):
                return
            newest = Checkpoint.objects.filter(tenant_id=self.tenant_id).order_by("-size").first()
            export.tree_size = newest.size if newest else 0
            first, last, rows = range_of(self.tenant_id, self.wanted(export), export.tree_size)
            if not export.query and first is not None and last is not None:
                rows = last - first + 1
            export.first_index, export.end_index = first, None if last is None else last + 1
            export.rows_total, export.rows_done, export.bytes_done, export.last_index = rows, 0, 0, None
            export.heartbeat_at = now()
            names = orjson.dumps(
                names_of(self.tenant_id, self.wanted(export)), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS
            )
            _write_synced(self.files.names, names)
            _write_synced(self.files.data, head(export.format))
            export.bytes_done = len(head(export.format))
            export.save()

    def write_slice(self) -> bool:
        """The next slice of leaves into the data file, noted in the same transaction. False after the last one."""
        with in_tenant(self.tenant_id):
            export = self.own()
            if export.first_index is None or export.end_index is None:
                return False
            start = export.first_index if export.last_index is None else export.last_index + 1
            if start >= export.end_index:
                return False
            stop = min(start + SLICE, export.end_index)
            wanted = self.wanted(export) if export.query else Condition("true")
            rows = rows_of(self.tenant_id, wanted, start, stop)
            written = encode(export.format, rows, self.names())
            with self.files.data.open("r+b") as data:
                data.truncate(export.bytes_done)  # what a killed worker wrote and could not note any more
                data.seek(export.bytes_done)
                data.write(written)
                data.flush()
                os.fsync(data.fileno())
            export.last_index, export.heartbeat_at = stop - 1, now()
            export.rows_done += len(rows)
            export.bytes_done += len(written)
            export.save(update_fields=["last_index", "rows_done", "bytes_done", "heartbeat_at"])
            return stop < export.end_index

    def finish(self) -> None:
        """Pack what was written; the bundle gets its name in the transaction that says it is ready."""
        with in_tenant(self.tenant_id):
            export = self.own()
            contents = self._contents(export)
        pack(self.files.packing, contents, signing_key(), self.beat)
        with self.files.packing.open("rb") as file:
            digest = file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        with in_tenant(self.tenant_id):
            export = self.own()
            export.state, export.finished_at, export.expires_at = Export.State.READY, now(), now() + LIFETIME
            export.bundle, export.sha256 = self.files.bundle.name, digest
            export.size_bytes = self.files.packing.stat().st_size
            export.heartbeat_at = now()
            export.save()
            self._record(export, Action.EXPORT_FINISHED, {"rows": export.rows_done, "sha256": digest})
            self.files.packing.replace(self.files.bundle)
        remove(self.files.data, self.files.names)

    def fail(self, why: str) -> None:
        """Say so to who ordered it, and leave nothing lying about."""
        try:
            with in_tenant(self.tenant_id):
                export = self.own()
                export.state, export.finished_at, export.failure = Export.State.FAILED, now(), why
                export.save(update_fields=["state", "finished_at", "failure"])
                self._record(export, Action.EXPORT_FAILED, {"failure": why})
        except NotOurs:
            self.clean_if_over()
            return
        remove(self.files.data, self.files.names, self.files.packing)

    def clean_if_over(self) -> None:
        """After a cancellation nothing stays; where another worker goes on, only this run's own file goes."""
        remove(self.files.packing)
        with in_tenant(self.tenant_id):
            export = Export.objects.select_for_update().filter(tenant_id=self.tenant_id, id=self.id).first()
            if export is None or export.state in (Export.State.CANCELLED, Export.State.FAILED):
                remove(self.files.data, self.files.names)

    def beat(self) -> None:
        """We are alive; noted every two seconds. Raises NotOurs."""
        if time.monotonic() - self._beaten < BEAT_SECONDS:
            return
        with in_tenant(self.tenant_id):
            export = self.own()
            export.heartbeat_at = now()
            export.save(update_fields=["heartbeat_at"])
        self._beaten = time.monotonic()

    def names(self) -> Names:
        if self._names is None:
            self._names = orjson.loads(self.files.names.read_bytes())
        return self._names

    def wanted(self, export: Export) -> Condition:
        """What a record must fulfil beside its place in the range. Raises ExportFailed."""
        if self._wanted is None:
            try:
                self._wanted = condition(self.tenant_id, export.query, asked_at=export.requested_at)
            except QueryError as wrong:  # it could be understood when it was ordered: a name has changed since
                raise ExportFailed(f"The query can no longer be understood: {wrong}") from wrong
            self._wanted &= in_period(export.since, export.until)
        return self._wanted

    def _can_go_on(self, export: Export) -> bool:
        """The files of the run before are as far as it had noted."""
        data, names = self.files.data, self.files.names
        return names.is_file() and data.is_file() and data.stat().st_size >= export.bytes_done

    def _await_places(self) -> None:
        """Until all events of the period have their place: what is not in the log cannot be proved."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            with in_tenant(self.tenant_id):
                export = self.own()
                if export.tree_size is not None:
                    return
                waiting = _number(
                    "SELECT count(*) FROM audit_unsequenced q JOIN audit_event e ON e.tenant_id = q.tenant_id"
                    " AND e.id = q.id WHERE q.tenant_id = %s AND e.at < %s",
                    [self.tenant_id, export.until],
                )
                export.heartbeat_at = now()
                export.save(update_fields=["heartbeat_at"])
            if not waiting:
                return
            if time.monotonic() > deadline:
                raise ExportFailed(f"{waiting} events of the period have no place in the log yet: no sequencer runs.")
            time.sleep(0.1)

    def _contents(self, export: Export) -> Contents:
        with connection.cursor() as cursor:
            cursor.execute("SELECT slug, name FROM tenants_tenant WHERE id = %s", [self.tenant_id])
            slug, tenant_name = cursor.fetchone()
            cursor.execute(
                "SELECT u.name, u.email FROM tenants_member m JOIN tenants_user u ON u.id = m.user_id WHERE m.id = %s",
                [export.requested_by],
            )
            name, email = cursor.fetchone() or ("", "")
        checkpoint = Checkpoint.objects.filter(tenant_id=self.tenant_id, size=export.tree_size or 0).first()
        # An installation that has moved: what was signed under the old name stays under it
        own = checkpoint.note.split("\n", 1)[0] if checkpoint else origin(slug)
        left_out = []
        if export.query:
            others = count_where(
                Condition("e.tenant_id = %s", (self.tenant_id,)) & in_period(export.since, export.until)
            )
            left_out.append(
                {"what": "records of the period that do not fit the query", "count": others - export.rows_done}
            )
        about = {
            "format": FORMAT,
            "made_at": _text(now()),
            "made_by": f"AgentAuth {VERSION}",
            "requested_by": {"member": str(export.requested_by), "name": name, "email": email},
            "requested_at": _text(export.requested_at),
            "tenant": {"id": str(self.tenant_id), "slug": slug, "name": tenant_name},
            "origin": own,
            "vkey": signing_key().verifier(own).vkey,
            "since": _text(export.since),
            "until": _text(export.until),
            "query": export.query,
            "data": export.format,
            "complete": not export.query,
            "rows": export.rows_total,
            "first_index": export.first_index,
            "last_index": None if export.end_index is None else export.end_index - 1,
            "tree_size": export.tree_size,
            "root": bytes(checkpoint.root).hex() if checkpoint else file_digest(io.BytesIO(), "sha256").hexdigest(),
            "left_out": left_out,
        }
        return Contents(
            tenant_name=tenant_name,
            data=self.files.data,
            names=self.files.names.read_bytes(),
            note=checkpoint.note if checkpoint else "",
            leaves=leaves_of(self.tenant_id, export.tree_size or 0),
            about=about,
        )

    def _record(self, export: Export, action: Action, details: dict[str, Any]) -> None:
        record(
            action,
            tenant_id=self.tenant_id,
            actor=TASK,
            member_id=export.requested_by,
            subject_kind="export",
            subject=str(self.id),
            details=details,
        )


def _write_synced(path: Path, data: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _number(statement: str, parameters: list[Any]) -> int:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        found: int = cursor.fetchone()[0]
        return found
