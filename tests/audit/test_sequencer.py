"""Every committed event gets exactly one place, and every head that we sign is the root over its prefix."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from django.db import connections

from audit import identity, merkle, sequencer
from audit.actions import Action
from audit.checkpoint import NoLogKey
from audit.models import Checkpoint, Event
from audit.record import INSERT, event_row
from tenants.rls import in_tenant, set_tenant
from tests.audit.writing import WRITER, as_superuser, leaves, waiting, write
from tests.cast import House

CHECKOUT = Path(__file__).resolve().parents[2]


def assert_whole(house: House) -> int:
    """Leaves are contiguous and hash the bodies; each checkpoint is signed and the root of its prefix. Returns size."""
    found = leaves(house.tenant.id)
    assert [index for index, _, _ in found] == list(range(len(found)))
    with in_tenant(house.tenant.id):
        bodies = dict(Event.objects.filter(tenant=house.tenant).values_list("id", "body"))
        checkpoints = list(Checkpoint.objects.filter(tenant=house.tenant).order_by("size"))
    assert {event for _, event, _ in found} <= bodies.keys()
    assert [digest for _, _, digest in found] == [merkle.leaf_hash(bodies[event].encode()) for _, event, _ in found]
    verifier = identity.verifier(house.tenant.slug)
    frontier = merkle.Frontier()
    for checkpoint in checkpoints:
        frontier.append(digest for _, _, digest in found[frontier.size : checkpoint.size])
        head = verifier.open_checkpoint(checkpoint.note)
        assert (head.size, head.root) == (checkpoint.size, bytes(checkpoint.root)) == (frontier.size, frontier.root())
        assert bytes(checkpoint.frontier) == frontier.encode()
    assert frontier.size == len(found)
    return len(found)


def test_each_event_gets_one_place_in_its_own_tenants_tree(acme: House, globex: House) -> None:
    mine, theirs = write(acme.tenant.id, 20), write(globex.tenant.id, 3)
    sequencer.drain()
    assert waiting() == 0
    assert assert_whole(acme) >= 20
    assert assert_whole(globex) >= 3
    assert set(mine) <= {event for _, event, _ in leaves(acme.tenant.id)}
    assert not {event for _, event, _ in leaves(acme.tenant.id)} & set(theirs)


def test_a_transaction_that_commits_late_still_gets_its_place(acme: House) -> None:
    """The trap of a watermark: the late row's id is smaller than ids that were placed before it was visible."""
    params = connections["default"].get_connection_params()
    slow = psycopg.connect(host=params["host"], dbname=params["dbname"], user=params["user"])
    slow.execute("SELECT set_config('agentauth.tenant', %s, true)", [str(acme.tenant.id)])
    late = event_row(Action.AGENT_CHANGED, tenant_id=acme.tenant.id, actor=WRITER)
    slow.execute(INSERT, late)
    later = write(acme.tenant.id, 5)
    sequencer.drain()
    assert late[0] < later[0]
    assert late[0] not in {event for _, event, _ in leaves(acme.tenant.id)}
    slow.commit()
    slow.close()
    sequencer.drain()
    assert leaves(acme.tenant.id)[-1][1] == late[0]
    assert_whole(acme)


def test_a_second_round_finds_nothing_to_do(acme: House) -> None:
    write(acme.tenant.id, 3)
    sequencer.drain()
    before = leaves(acme.tenant.id)
    assert sequencer.drain() == 0
    assert leaves(acme.tenant.id) == before


def test_the_queue_costs_each_event_one_index_and_no_check_of_its_own() -> None:
    """Every event passes through it; `audit_event`, written with it, checks the tenant."""
    with connections["owner"].cursor() as cursor:
        cursor.execute("SELECT contype, conname FROM pg_constraint WHERE conrelid = 'audit_unsequenced'::regclass")
        assert {name for kind, name in cursor.fetchall() if kind != "n"} == {"audit_unsequenced_pkey"}
        cursor.execute("SELECT count(*) FROM pg_index WHERE indrelid = 'audit_unsequenced'::regclass")
        assert cursor.fetchone() == (1,)


def test_rubbish_in_the_queue_is_thrown_out_and_holds_up_nobody(acme: House) -> None:
    placed = write(acme.tenant.id, 1)
    sequencer.drain()
    with in_tenant(acme.tenant.id), connections["default"].cursor() as cursor:
        for rubbish in (placed[0], UUID(int=1)):  # placed already; no event at all
            cursor.execute("INSERT INTO audit_unsequenced (id, tenant_id) VALUES (%s, %s)", [rubbish, acme.tenant.id])
    write(acme.tenant.id, 2)
    sequencer.drain()
    assert waiting() == 0
    assert_whole(acme)


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE audit_checkpoint SET root = sha256('x') WHERE tenant_id = %s",
        "UPDATE audit_checkpoint SET frontier = set_byte(frontier, 0, get_byte(frontier, 0) # 1) WHERE tenant_id = %s",
        "UPDATE audit_checkpoint SET note = replace(note, 'A', 'B') WHERE tenant_id = %s",
        "UPDATE audit_checkpoint SET size = size + 1 WHERE tenant_id = %s",
        "UPDATE audit_leaf SET index = index + 1000 WHERE tenant_id = %s",
    ],
)
def test_a_log_that_was_tampered_with_is_not_continued_and_the_others_are(
    acme: House, globex: House, harm: str
) -> None:
    sequencer.drain()
    as_superuser(harm, [acme.tenant.id])
    if "audit_leaf" in harm:  # the place that comes next is taken
        as_superuser(
            "UPDATE audit_leaf SET index = (SELECT max(size) FROM audit_checkpoint c WHERE c.tenant_id = %s)"
            " WHERE tenant_id = %s AND index = 1000",
            [acme.tenant.id, acme.tenant.id],
        )
    write(acme.tenant.id, 2)
    write(globex.tenant.id, 2)
    before = leaves(acme.tenant.id)
    sequencer.drain()
    assert leaves(acme.tenant.id) == before
    assert waiting() == 2
    assert_whole(globex)


def test_a_leader_notices_that_its_log_was_rolled_back(acme: House) -> None:
    """Back to an older head that was signed too, its leaves gone with it: only memory tells."""
    connection = sequencer.connect()
    places = sequencer.Places(sequencer._key(connection))
    for _ in range(2):
        write(acme.tenant.id, 1)
        sequencer.place(connection, places)
    own = {"tenant": acme.tenant.id}
    as_superuser(
        "DELETE FROM audit_checkpoint WHERE tenant_id = %(tenant)s"
        " AND size = (SELECT max(size) FROM audit_checkpoint WHERE tenant_id = %(tenant)s)",
        own,
    )
    as_superuser(
        "DELETE FROM audit_leaf WHERE tenant_id = %(tenant)s"
        " AND index = (SELECT max(index) FROM audit_leaf WHERE tenant_id = %(tenant)s)",
        own,
    )
    write(acme.tenant.id, 1)
    assert sequencer.place(connection, places) == 0
    assert acme.tenant.id in places.halted


def test_without_its_key_a_log_that_has_begun_is_not_signed_anew(acme: House, monkeypatch: pytest.MonkeyPatch) -> None:
    sequencer.drain()
    monkeypatch.setattr("agentauth.embedded.paths.secrets_dir", lambda: Path("/nonexistent"))
    write(acme.tenant.id, 1)
    with pytest.raises(NoLogKey):
        sequencer.drain()
    assert waiting() == 1


def test_who_does_not_lead_stands_by_and_takes_over(acme: House, caplog: pytest.LogCaptureFixture) -> None:
    sequencer.drain()
    params = connections["sequencer"].get_connection_params()
    leader = psycopg.connect(host=params["host"], dbname=params["dbname"], user=params["user"], autocommit=True)
    leader.execute("SELECT pg_advisory_lock(%s)", [sequencer._LEADER])
    write(acme.tenant.id, 1)
    stop, other = threading.Event(), _Aside()
    standby, drained = threading.Thread(target=sequencer.run, args=[stop]), threading.Thread(target=other.drain)
    with caplog.at_level("INFO", "audit.sequencer"):
        standby.start()
        drained.start()
        try:
            _until(lambda: "Standing by" in caplog.text)
            assert (waiting(), other.done) == (1, False)
            leader.close()
            _until(lambda: waiting() == 0)
        finally:
            leader.close()
            stop.set()
            standby.join()
            drained.join()
    assert_whole(acme)


class _Aside:
    """`drain` in a thread of its own."""

    done = False

    def drain(self) -> None:
        sequencer.drain()
        self.done = True


@pytest.mark.parametrize("role", ["default", "sequencer"])
@pytest.mark.parametrize("table", ["audit_event", "audit_leaf", "audit_node", "audit_checkpoint"])
@pytest.mark.parametrize("act", ["UPDATE {} SET tenant_id = tenant_id", "DELETE FROM {}", "TRUNCATE {}"])
def test_no_role_of_a_running_server_may_change_or_remove_what_is_recorded(
    acme: House, role: str, table: str, act: str
) -> None:
    sequencer.drain()
    with in_tenant(acme.tenant.id, role), connections[role].cursor() as cursor, pytest.raises(Exception) as refused:
        cursor.execute(act.format(table))
    assert "permission denied" in str(refused.value)


@pytest.mark.parametrize("table", ["audit_event", "audit_leaf", "audit_checkpoint"])
def test_not_even_the_owner_changes_a_row_by_mistake(acme: House, table: str) -> None:
    sequencer.drain()
    with in_tenant(acme.tenant.id, "owner"), connections["owner"].cursor() as cursor:
        set_tenant(acme.tenant.id, "owner")
        with pytest.raises(Exception, match="append-only"):
            cursor.execute(f"DELETE FROM {table}")


class _Process:
    """A real `manage.py sequencer` against this test's database."""

    def __init__(self) -> None:
        params = connections["sequencer"].get_connection_params()
        url = f"postgresql://{params['user']}@/{params['dbname']}?host={params['host']}"
        self._environ = os.environ | {"DATABASE_URL": url, "AGENTAUTH_DATABASE_SEQUENCER_URL": url}
        self._start()

    def _start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "sequencer"], cwd=CHECKOUT, env=self._environ, stderr=subprocess.DEVNULL
        )

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def restart(self) -> None:
        self.kill()
        self._start()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)


def _until(condition: object, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.02)


def test_killed_at_any_moment_under_writers_it_loses_nothing_and_leaves_no_gap(acme: House, globex: House) -> None:
    sequencer.drain()  # a first key is there before the processes look for it
    acknowledged: dict[UUID, list[UUID]] = {acme.tenant.id: [], globex.tenant.id: []}
    stop = threading.Event()

    def keep_writing(tenant_id: UUID) -> None:
        while not stop.is_set():
            acknowledged[tenant_id] += write(tenant_id, 7)
        connections["default"].close()

    writers = [threading.Thread(target=keep_writing, args=[tenant]) for tenant in acknowledged for _ in range(2)]
    first, second = _Process(), _Process()
    for writer in writers:
        writer.start()
    try:
        for round_ in range(6):
            before = len(leaves(acme.tenant.id))
            _until(lambda before=before: len(leaves(acme.tenant.id)) > before)
            (first, second)[round_ % 2].restart()
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    _until(lambda: waiting() == 0)
    assert (first.stop(), second.stop()) == (0, 0)
    for house in (acme, globex):
        assert_whole(house)
        assert set(acknowledged[house.tenant.id]) <= {event for _, event, _ in leaves(house.tenant.id)}


def test_it_comes_back_after_the_database_threw_it_out(acme: House) -> None:
    sequencer.drain()
    running = _Process()
    try:
        for _ in range(2):
            write(acme.tenant.id, 1)
            _until(lambda: waiting() == 0)
            connections["sequencer"].close()  # ours would be thrown out with it
            as_superuser(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name LIKE '%%sequencer%%'"
            )
        write(acme.tenant.id, 1)
        _until(lambda: waiting() == 0)
    finally:
        assert running.stop() == 0
    assert_whole(acme)
