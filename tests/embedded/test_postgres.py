"""The embedded PostgreSQL: durable, on a socket only, for one user only, and back after kill -9."""

from __future__ import annotations

import os
import pwd
import signal
import stat
from pathlib import Path
from typing import Any
from unittest import mock

import psycopg
import pytest

from agentauth.embedded import postgres_binaries, write_ahead
from agentauth.embedded.lifeline import ServerUnavailable, is_alive
from agentauth.embedded.postgres import Cluster


def _one(cluster: Cluster, statement: str) -> Any:
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return row[0]


def test_it_is_durable_and_listens_on_a_socket_only(cluster: Cluster) -> None:
    cluster.ensure()
    for setting, value in {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "data_checksums": "on",
        "listen_addresses": "",
    }.items():
        assert _one(cluster, f"SELECT current_setting('{setting}')") == value, setting


def test_files_of_its_log_are_there_before_they_are_needed_and_made_once(cluster: Cluster) -> None:
    cluster.ensure()
    ahead = "SELECT count(*) FROM pg_ls_waldir() WHERE name > pg_walfile_name(pg_current_wal_lsn())"
    assert _one(cluster, ahead) >= write_ahead.FILES - 2
    reached = _one(cluster, "SELECT pg_walfile_name(pg_current_wal_lsn())")
    cluster.stop()
    cluster.ensure()
    assert _one(cluster, "SELECT pg_walfile_name(pg_current_wal_lsn())") == reached


def test_a_full_disk_is_left_alone(cluster: Cluster) -> None:
    with mock.patch.object(write_ahead, "_ROOM", 1 << 62):
        cluster.ensure()
    assert _one(cluster, "SELECT count(*) FROM pg_ls_waldir()") <= 2


def test_only_our_user_may_sign_in_and_only_as_our_roles(cluster: Cluster) -> None:
    cluster.ensure()
    assert stat.S_IMODE(cluster.socket_dir.stat().st_mode) == 0o700
    rules = (cluster.data / "pg_hba.conf").read_text().split()
    assert rules == ["local", "all", "all", "peer", "map=agentauth"]
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute("CREATE ROLE somebody LOGIN")
    with pytest.raises(psycopg.OperationalError, match="Peer authentication failed"):
        psycopg.connect(cluster.dsn(user="somebody"))


def test_what_is_committed_survives_kill_9(cluster: Cluster) -> None:
    cluster.ensure()
    with psycopg.connect(cluster.dsn()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS value")
    killed = cluster.pid()
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    cluster.ensure()
    assert cluster.pid() != killed
    assert _one(cluster, "SELECT value FROM kept") == 7


def test_ensuring_twice_keeps_the_same_server(cluster: Cluster) -> None:
    cluster.ensure()
    before = cluster.pid()
    Cluster(cluster.folder, copies=cluster.copies).ensure()
    assert cluster.pid() == before


def test_stopping_stops_and_stopping_again_is_fine(cluster: Cluster) -> None:
    cluster.ensure()
    pid = cluster.pid()
    assert pid is not None
    cluster.stop()
    assert not is_alive(pid)
    cluster.stop()


def test_an_interrupted_initdb_is_done_again(cluster: Cluster) -> None:
    half = cluster.data / "half"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    cluster.ensure()
    assert _one(cluster, "SELECT 1") == 1
    assert not half.exists()


def test_a_pid_file_that_names_somebody_elses_process_is_not_believed(cluster: Cluster) -> None:
    cluster.ensure()
    cluster.stop()
    (cluster.data / "postmaster.pid").write_text(f"{os.getpid()}\n{cluster.data}\n0\n5432\n\n\n0 0\n")
    assert cluster.pid() is None
    cluster.stop()  # must not signal us


def test_data_of_another_major_version_is_refused(cluster: Cluster) -> None:
    cluster.data.mkdir(parents=True)
    (cluster.data / "PG_VERSION").write_text("12\n")
    with pytest.raises(ServerUnavailable, match=r"made by PostgreSQL 12.*restore a backup"):
        cluster.ensure()


def test_a_folder_that_the_system_user_cannot_reach_is_named_and_left_alone(reachable_folder: Path) -> None:
    private = reachable_folder / "private"
    private.mkdir(mode=0o700)
    cluster = Cluster(private / "cluster")
    cluster.__dict__["_user"] = pwd.getpwnam("nobody")  # as if we were root
    with pytest.raises(ServerUnavailable, match=r"cannot pass through .*private: choose another place"):
        cluster._require_reachable()
    assert stat.S_IMODE(private.stat().st_mode) == 0o700


def test_without_any_postgresql_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setattr("shutil.which", lambda _name: None)
    monkeypatch.setattr(Path, "glob", lambda *_: iter(()))
    monkeypatch.setattr(postgres_binaries, "_is_musl", lambda: True)
    with pytest.raises(ServerUnavailable, match=r"musl.*set DATABASE_URL"):
        postgres_binaries.find_binaries()
