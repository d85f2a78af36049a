"""A throwaway PostgreSQL for tests: one server for all who test this checkout, one database for each of them.

Migrating takes seconds and cloning a fraction of one, so the migrated template is kept from run to run, named after
the migrations' content. The server runs as long as somebody tests.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import psycopg
from psycopg import sql

from agentauth.embedded import paths, roles
from agentauth.embedded.lifeline import ServerUnavailable, is_alive
from agentauth.embedded.postgres import Cluster

CHECKOUT = Path(__file__).resolve().parent.parent
ALIASES = {"default": paths.APP_ROLE, "owner": paths.OWNER_ROLE, "sequencer": paths.SEQUENCER_ROLE}
_KEPT_TEMPLATES = 3


class TestServer:
    """The shared server. Made by every test process; the last one to close it stops it."""

    __test__ = False

    def __init__(self) -> None:
        name = hashlib.sha256(os.fsencode(CHECKOUT)).hexdigest()[:8]
        self.folder = Path(tempfile.gettempdir()) / f"agentauth-tests-{os.geteuid()}-{name}"
        paths.make_home(self.folder)
        self.cluster = Cluster(self.folder / "postgres", durable=False)
        self._users = self._shared_lock()
        try:
            self.cluster.ensure()
        except ServerUnavailable:
            # It is not durable, so a machine that went down may have left rubbish. Nothing in it is worth keeping.
            shutil.rmtree(self.cluster.data, ignore_errors=True)
            self.cluster.ensure()
        roles.ensure_own(self.cluster.dsn())
        self._made: list[str] = []
        with self._template_lock():
            self._drop_leftovers()

    def new_database(self, migrate: Callable[[str], None]) -> str:
        """A fresh clone of the migrated template. `migrate(name)` fills a template that is not there yet."""
        with self._template_lock():
            template = self._template(migrate)
            name = f"test_{os.getpid()}_{len(self._made)}"
            self._clone(template, name)
        self._made.append(name)
        return name

    def _clone(self, template: str, name: str) -> None:
        """A template must have no session. On a busy machine one that has ended may take its time to be gone."""
        for patience in reversed(range(4)):
            try:
                self._run(
                    "CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY FILE_COPY", name, template, paths.OWNER_ROLE
                )
                return
            except psycopg.errors.ObjectInUse:
                if not patience:
                    raise

    def drop_database(self, name: str) -> None:
        """Drop a clone, ending whatever session is still in it."""
        self._run("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def close(self) -> None:
        """Drop this process' clones; stop the server if nobody else uses it."""
        for name in self._made:
            self.drop_database(name)
        self._users.close()
        with open(self.folder / "users.lock", "w") as lock, contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.cluster.stop()

    def _template(self, migrate: Callable[[str], None]) -> str:
        template = f"template_{_migrations_hash()}"
        with psycopg.connect(self.cluster.dsn(), autocommit=True) as connection:
            found = connection.execute("SELECT datistemplate FROM pg_database WHERE datname = %s", [template])
            row = found.fetchone()
            if row is not None and row[0]:
                return template
            old = connection.execute(
                "SELECT datname FROM pg_database"
                " WHERE starts_with(datname, 'template_') AND datname <> %s ORDER BY oid",
                [template],
            ).fetchall()
        for (name,) in old[: -(_KEPT_TEMPLATES - 1)]:
            self._run("ALTER DATABASE {} IS_TEMPLATE false", name)
            self.drop_database(name)
        self.drop_database(template)  # half-made: whoever migrated it was killed
        roles.ensure_own(self.cluster.dsn(), template)
        migrate(template)
        self._run("ALTER DATABASE {} IS_TEMPLATE true ALLOW_CONNECTIONS false", template)
        return template

    def _drop_leftovers(self) -> None:
        """Clones of test processes that were killed."""
        with psycopg.connect(self.cluster.dsn(), autocommit=True) as connection:
            names = connection.execute("SELECT datname FROM pg_database WHERE starts_with(datname, 'test_')").fetchall()
        for (name,) in names:
            if not is_alive(int(name.split("_")[1])):
                self.drop_database(name)

    def _run(self, statement: str, *names: str) -> None:
        with psycopg.connect(self.cluster.dsn(), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    def _shared_lock(self) -> IO[str]:
        lock = open(self.folder / "users.lock", "w")  # noqa: SIM115  # held until close()
        fcntl.flock(lock, fcntl.LOCK_SH)
        return lock

    @contextlib.contextmanager
    def _template_lock(self) -> Iterator[None]:
        with open(self.folder / "template.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class Cleaner:
    """Empties what a test has committed. Faster than Django's flush, and works although the runtime role may not."""

    def __init__(self, server: TestServer, database: str) -> None:
        # Kept: with all the partitions, a new session spends more on learning the tables than on emptying them
        self._connection = psycopg.connect(server.cluster.dsn(database), autocommit=True)
        self._connection.execute("SET session_replication_role = replica")
        self._connection.execute("SET lock_timeout = '10s'")
        self._seeded = {
            name: rows for name in self._used(self._connection) if (rows := self._rows(self._connection, name))
        }

    def close(self) -> None:
        self._connection.close()

    def clean(self) -> None:
        """Back to the template's content. Triggers that forbid it are for the product's roles, not for us."""
        connection = self._connection
        with connection.transaction():
            used = [name for name in self._used(connection) if name not in self._seeded]
            if used:  # a TRUNCATE would make new files for every partition, and takes twenty times as long
                connection.execute(sql.SQL("; ").join(sql.SQL("DELETE FROM {}").format(sql.SQL(name)) for name in used))
            for table, rows in self._seeded.items():
                if self._rows(connection, table) != rows:
                    connection.execute(sql.SQL("DELETE FROM {}").format(sql.SQL(table)))
                    for row in rows:
                        connection.execute(
                            sql.SQL("INSERT INTO {t} SELECT * FROM jsonb_populate_record(NULL::{t}, %s::jsonb)").format(
                                t=sql.SQL(table)  # from the catalogue, quoted
                            ),
                            [row],
                        )

    @staticmethod
    def _rows(connection: psycopg.Connection, table: str) -> list[str]:
        statement = sql.SQL("SELECT to_jsonb(t)::text FROM {} t ORDER BY 1").format(sql.SQL(table))
        return [row for (row,) in connection.execute(statement)]

    @staticmethod
    def _used(connection: psycopg.Connection) -> list[str]:
        """Tables that have had a row."""
        found = connection.execute(
            "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema')"
            " AND n.nspname NOT LIKE 'pg\\_%' AND pg_relation_size(c.oid) > 0"
        )
        return [name for (name,) in found]


def _migrations_hash() -> str:
    found = hashlib.sha256((CHECKOUT / "uv.lock").read_bytes())
    for room in ("agentauth", "tenants", "audit"):
        for path in sorted((CHECKOUT / room).rglob("*")):
            if (
                path.suffix == ".sql"
                or path.name == "rls.py"
                or (path.suffix == ".py" and path.parent.name == "migrations")
            ):
                found.update(str(path.relative_to(CHECKOUT)).encode() + path.read_bytes())
    return found.hexdigest()[:16]
