"""An export brings what was asked for, once, and survives a killed worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from django.db import connections
from django.utils.timezone import now

from audit import identity, sequencer
from audit.actions import Action
from audit.export import records, running, tasks
from audit.export.bundle import folder_of
from audit.export.requesting import NoBundle, NotExportable, estimate, open_bundle, request_export
from audit.models import Export
from audit.verify import verify
from tenants.rls import in_tenant, new_id
from tests.audit.writing import write
from tests.cast import House, events_of

CHECKOUT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def enqueued(monkeypatch: pytest.MonkeyPatch) -> list[tuple[UUID, UUID]]:
    """What went to the queue, which is somebody else's process."""
    sent: list[tuple[UUID, UUID]] = []
    for place in ("audit.export.requesting.enqueue", "audit.export.tasks.enqueue"):
        monkeypatch.setattr(place, lambda export, tenant: sent.append((export, tenant)))
    return sent


def order(house: House, **changes: object) -> Export:
    asked: dict[str, object] = {"since": now() - timedelta(hours=1), "until": now() + timedelta(hours=1)}
    with in_tenant(house.tenant.id):
        return request_export(house.tenant, by=house.members["cora"], **(asked | changes))  # type: ignore[arg-type]


def reread(export: Export) -> Export:
    with in_tenant(export.tenant_id):
        return Export.objects.get(id=export.id)


def bundle_of(export: Export) -> Path:
    return folder_of(export.tenant_id) / f"{export.id}.zip"


def change(export: Export, **fields: object) -> None:
    with in_tenant(export.tenant_id):
        Export.objects.filter(id=export.id).update(**fields)


@pytest.fixture
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "SLICE", 7)
    monkeypatch.setattr(records, "LEAVES_SLICE", 11)


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
@pytest.mark.parametrize("query", ["", "action:agent.changed", "-action:agent.changed", "action:call.refused"])
def test_a_finished_bundle_is_intact_and_holds_what_was_asked_for(
    acme: House, enqueued: list[tuple[UUID, UUID]], small_slices: None, kind: str, query: str
) -> None:
    write(acme.tenant.id, 30, details={"note": "ünïcode, \"quotes\", \n and 'more'"})
    export = order(acme, format=kind, query=query)
    assert enqueued == [(export.id, acme.tenant.id)]
    with in_tenant(acme.tenant.id):
        expected = estimate(acme.tenant, export.since, export.until, query)
    sequencer.drain()
    assert running.run_export(export.id, acme.tenant.id)
    done = reread(export)
    assert (done.state, done.rows_done, done.rows_total) == (Export.State.READY, expected, expected)
    found = verify(bundle_of(export), identity.verifier("acme").vkey)
    assert found.ok, str(found)
    assert (found.records, found.complete) == (expected, not query)
    assert bundle_of(export).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in folder_of(acme.tenant.id).iterdir()] == [f"{export.id}.zip"]
    with zipfile.ZipFile(bundle_of(export)) as bundle:
        manifest = json.loads(bundle.read("manifest.json"))
    assert manifest["requested_by"]["email"] == "cora@acme.example"
    assert bool(manifest["left_out"]) == bool(query)
    requested, finished = events_of(acme.tenant.id, "export.requested"), events_of(acme.tenant.id, "export.finished")
    assert [e.subject for e in requested] == [e.subject for e in finished] == [str(export.id)]
    assert finished[0].details["sha256"] == done.sha256


def test_a_second_run_of_a_finished_export_does_nothing(acme: House) -> None:
    export = order(acme)
    sequencer.drain()
    assert running.run_export(export.id, acme.tenant.id)
    before = bundle_of(export).stat()
    assert not running.run_export(export.id, acme.tenant.id)
    assert not running.run_export(new_id(), acme.tenant.id)
    assert bundle_of(export).stat() == before
    assert len(events_of(acme.tenant.id, "export.finished")) == 1


def test_an_export_waits_until_its_events_have_their_place(acme: House, monkeypatch: pytest.MonkeyPatch) -> None:
    export = order(acme)
    monkeypatch.setattr(running, "PATIENCE_SECONDS", 0.3)
    assert not running.run_export(export.id, acme.tenant.id)
    failed = reread(export)
    assert failed.state == Export.State.FAILED
    assert "no sequencer runs" in failed.failure
    assert [event.subject for event in events_of(acme.tenant.id, "export.failed")] == [str(export.id)]

    second = order(acme)
    monkeypatch.setattr("audit.export.running.time.sleep", lambda _: sequencer.drain())
    assert running.run_export(second.id, acme.tenant.id)


@pytest.mark.parametrize("slices", [0, 1, 3])
def test_a_job_goes_on_where_its_worker_was_killed(acme: House, small_slices: None, slices: int) -> None:
    write(acme.tenant.id, 40)
    export = order(acme)
    sequencer.drain()
    dead = running._claim(export.id, acme.tenant.id)
    assert dead is not None
    dead.measure()
    for _ in range(slices):
        dead.write_slice()
    with dead.files.data.open("ab") as data:
        data.write(b"what was written but not noted\n" * 10_000)
    assert not running.run_export(export.id, acme.tenant.id), "its heart was beating a moment ago"
    change(export, heartbeat_at=now() - running.STALE * 2)
    assert running.run_export(export.id, acme.tenant.id)
    found = verify(bundle_of(export))
    assert found.ok, str(found)
    with pytest.raises(running.NotOurs):
        dead.write_slice()
    with pytest.raises(running.NotOurs):
        dead.finish()


def test_a_worker_that_comes_back_from_the_dead_writes_nothing_more(acme: House, small_slices: None) -> None:
    write(acme.tenant.id, 40)
    export = order(acme)
    sequencer.drain()
    dead = running._claim(export.id, acme.tenant.id)
    assert dead is not None
    dead.measure()
    dead.write_slice()
    change(export, heartbeat_at=now() - running.STALE * 2)
    alive = running._claim(export.id, acme.tenant.id)
    assert alive is not None
    alive.measure()
    alive.write_slice()
    before = alive.files.data.read_bytes()
    for act in (dead.write_slice, dead.finish, dead.measure):
        with pytest.raises(running.NotOurs):
            act()
    dead.fail("too late")
    assert alive.files.data.read_bytes() == before
    while alive.write_slice():
        pass
    alive.finish()
    assert verify(bundle_of(export)).ok


def test_a_job_whose_files_are_gone_begins_again(acme: House, small_slices: None) -> None:
    write(acme.tenant.id, 20)
    export = order(acme)
    sequencer.drain()
    dead = running._claim(export.id, acme.tenant.id)
    assert dead is not None
    dead.measure()
    dead.write_slice()
    dead.files.data.unlink()
    change(export, heartbeat_at=now() - running.STALE * 2)
    assert running.run_export(export.id, acme.tenant.id)
    assert verify(bundle_of(export)).ok


def test_the_clock_enqueues_what_nobody_works_on(acme: House, enqueued: list[tuple[UUID, UUID]]) -> None:
    lost, dead, alive, fresh = (order(acme) for _ in range(4))
    enqueued.clear()
    change(lost, requested_at=now() - timedelta(seconds=11))
    change(dead, state=Export.State.RUNNING, heartbeat_at=now() - timedelta(seconds=21))
    change(alive, state=Export.State.RUNNING, heartbeat_at=now())
    assert tasks.resume_stalled() == 2
    assert {export for export, _ in enqueued} == {lost.id, dead.id}
    assert tasks.resume_stalled() == 0, "not again at once"
    change(lost, heartbeat_at=now() - timedelta(seconds=61))
    assert tasks.resume_stalled() == 1
    assert reread(fresh).state == Export.State.QUEUED


def test_a_cancelled_export_stops_and_leaves_nothing(acme: House, small_slices: None) -> None:
    write(acme.tenant.id, 20)
    export = order(acme)
    sequencer.drain()
    job = running._claim(export.id, acme.tenant.id)
    assert job is not None
    job.measure()
    job.write_slice()
    with in_tenant(acme.tenant.id):
        assert export.cancel(by=acme.members["cora"])
        assert not export.cancel(by=acme.members["cora"])
    with pytest.raises(running.NotOurs):
        job.write_slice()
    job.clean_if_over()
    assert reread(export).state == Export.State.CANCELLED
    assert list(folder_of(acme.tenant.id).iterdir()) == []
    (event,) = events_of(acme.tenant.id, "export.cancelled")
    assert event.member_id == acme.members["cora"].id


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"since": now() + timedelta(minutes=5)}, "since"),
        ({"since": now() - timedelta(hours=1), "until": now() - timedelta(hours=2)}, "since"),
        ({"query": "decision:maybe"}, "query"),
        ({"query": "agent:nobody"}, "query"),
        ({"format": "pdf"}, "format"),
    ],
)
def test_a_wrong_order_is_refused_and_says_what_to_change(acme: House, changes: dict[str, object], field: str) -> None:
    with pytest.raises(NotExportable) as refused:
        order(acme, **changes)
    assert refused.value.field == field
    assert events_of(acme.tenant.id, "export.requested") == []


def test_fetching_is_recorded_and_ends_when_the_bundle_expires(acme: House) -> None:
    export = order(acme)
    cora = acme.members["cora"]
    with in_tenant(acme.tenant.id), pytest.raises(NoBundle):
        open_bundle(export, by=cora)
    sequencer.drain()
    running.run_export(export.id, acme.tenant.id)
    with in_tenant(acme.tenant.id):
        assert open_bundle(reread(export), by=cora) == bundle_of(export)
    (event,) = events_of(acme.tenant.id, "export.downloaded")
    assert (event.actor, event.subject) == (str(cora.id), str(export.id))
    change(export, expires_at=now() - timedelta(seconds=1))
    with in_tenant(acme.tenant.id), pytest.raises(NoBundle):
        open_bundle(reread(export), by=cora)
    (folder_of(acme.tenant.id) / f"{new_id()}.part").touch()
    assert tasks.remove_expired() == 2
    assert list(folder_of(acme.tenant.id).iterdir()) == []


def test_a_tenants_export_holds_nothing_of_another(acme: House, globex: House) -> None:
    theirs = {str(event) for event in write(globex.tenant.id, 5)}
    export = order(acme)
    sequencer.drain()
    running.run_export(export.id, acme.tenant.id)
    with zipfile.ZipFile(bundle_of(export)) as bundle:
        text = bundle.read("events.jsonl").decode() + bundle.read("names.json").decode()
    assert not [event for event in theirs if event in text]
    assert "globex" not in text
    assert not running.run_export(export.id, globex.tenant.id), "nor is it theirs to run"


def test_a_killed_worker_process_loses_no_export(acme: House) -> None:
    """A real process, killed in the middle of writing; the next one brings the same bundle to its end."""
    write(acme.tenant.id, 400, action=Action.CALL_ALLOWED)
    export = order(acme, query="action:call.allowed")
    sequencer.drain()
    params = connections["default"].get_connection_params()
    url = f"postgresql://{params['user']}@/{params['dbname']}?host={params['host']}"
    script = (
        "import django; django.setup()\n"
        "from uuid import UUID; from audit.export import running\n"
        "running.SLICE = 3\n"
        f"running.run_export(UUID('{export.id}'), UUID('{acme.tenant.id}'))\n"
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=CHECKOUT,
        env=os.environ | {"DATABASE_URL": url, "AGENTAUTH_DATABASE_APP_URL": url},
    )
    deadline = time.monotonic() + 30
    while not 0 < reread(export).rows_done < 400:
        assert time.monotonic() < deadline
        assert worker.poll() is None
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    left = reread(export)
    assert left.state == Export.State.RUNNING
    assert 0 < left.rows_done < 400
    change(export, heartbeat_at=now() - running.STALE * 2)
    assert tasks.resume_stalled() == 1
    assert running.run_export(export.id, acme.tenant.id)
    found = verify(bundle_of(export))
    assert found.ok, str(found)
    assert found.records == 400
