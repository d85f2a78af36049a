"""The database roles: in our own cluster, and in somebody else's server behind DATABASE_URL."""

from __future__ import annotations

import psycopg
import pytest

from agentauth.embedded import roles
from agentauth.embedded.lifeline import ServerUnavailable
from agentauth.embedded.paths import APP_ROLE, DATABASE, OWNER_ROLE, SEQUENCER_ROLE
from agentauth.embedded.postgres import Cluster


@pytest.fixture
def bare(cluster: Cluster) -> Cluster:
    """A server as an administrator hands it over: a database, and a user who owns it and may do nothing else."""
    cluster.durable = False
    cluster.ensure()
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {OWNER_ROLE} LOGIN".encode())
        connection.execute(f"CREATE DATABASE shop OWNER {OWNER_ROLE}".encode())
    return cluster


def test_our_own_cluster_gets_three_harmless_roles_and_again_changes_nothing(cluster: Cluster) -> None:
    cluster.ensure()
    for _round in range(2):
        roles.ensure_own(cluster.dsn())
        with psycopg.connect(cluster.dsn(DATABASE, APP_ROLE)) as connection:
            found = connection.execute(
                "SELECT rolname FROM pg_roles WHERE rolname = ANY(%s) AND rolcanlogin AND NOT rolsuper"
                " AND NOT rolbypassrls AND NOT rolcreatedb AND NOT rolcreaterole ORDER BY 1",
                [list(roles.ALL)],
            ).fetchall()
            assert found == [(APP_ROLE,), (OWNER_ROLE,), (SEQUENCER_ROLE,)]
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("CREATE TABLE mine ()")


def test_a_role_that_was_made_mighty_is_put_back(cluster: Cluster) -> None:
    cluster.ensure()
    roles.ensure_own(cluster.dsn())
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute(f"ALTER ROLE {APP_ROLE} BYPASSRLS".encode())
        roles.ensure_own(cluster.dsn())
        row = connection.execute("SELECT rolbypassrls FROM pg_roles WHERE rolname = %s", [APP_ROLE]).fetchone()
    assert row == (False,)


def test_an_owner_who_may_not_make_roles_gets_the_sql_for_an_administrator(bare: Cluster) -> None:
    owner = bare.dsn("shop", OWNER_ROLE)
    with pytest.raises(roles.RolesMissing) as refused:
        roles.ensure(owner)
    with psycopg.connect(bare.dsn("shop"), autocommit=True) as administrator:
        administrator.execute(str(refused.value).encode())
    roles.ensure(owner)
    _serves_requests(bare)


def test_an_owner_who_may_make_roles_makes_them(bare: Cluster) -> None:
    with psycopg.connect(bare.dsn(), autocommit=True) as administrator:
        administrator.execute(f"ALTER ROLE {OWNER_ROLE} CREATEROLE".encode())
    for _round in range(2):
        roles.ensure(bare.dsn("shop", OWNER_ROLE))
    _serves_requests(bare)


def test_an_old_server_is_refused(bare: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roles, "OLDEST_SERVER", 990000)
    with pytest.raises(ServerUnavailable, match="needs 99 or newer"):
        roles.ensure(bare.dsn("shop", OWNER_ROLE))


def _serves_requests(server: Cluster) -> None:
    """The owner's login, having given up its rights at once, is the runtime role and no more."""
    with psycopg.connect(server.dsn("shop", OWNER_ROLE), options=f"-c role={APP_ROLE}") as connection:
        assert connection.execute("SELECT current_user").fetchone() == (APP_ROLE,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("CREATE TABLE mine ()")
