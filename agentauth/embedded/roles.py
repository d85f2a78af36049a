"""The three database roles. The owner makes tables; the other two own nothing and are bound by row-level security.

What they may do with each table is said by the migrations, beside the table.
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

from agentauth.embedded.lifeline import ServerUnavailable
from agentauth.embedded.paths import APP_ROLE, DATABASE, OWNER_ROLE, SEQUENCER_ROLE

ALL = (OWNER_ROLE, APP_ROLE, SEQUENCER_ROLE)
OLDEST_SERVER = 150000
_HARMLESS = "NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION"

_Connection = psycopg.Connection[tuple[Any, ...]]


class RolesMissing(Exception):
    """The database's user may not make the roles; the text holds the SQL that an administrator must run."""


def ensure_own(superuser_dsn: str, database: str = DATABASE) -> None:
    """In a cluster of our own: the roles, who sign in as themselves, and the database that the owner owns.

    `superuser_dsn` leads to a database that is there already, such as `postgres`.
    """
    with psycopg.connect(superuser_dsn, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(hashtext('agentauth roles'))")
        for role in ALL:
            _make(connection, role, login=True)
        known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone()
        if known is None:
            statement = "CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING 'UTF8'"
            connection.execute(sql.SQL(statement).format(sql.Identifier(database), sql.Identifier(OWNER_ROLE)))
        # Still under the lock: two grants at once on the same object fail.
        with psycopg.connect(superuser_dsn, autocommit=True, dbname=database) as inside:
            _open_the_database(inside, database)


def ensure(owner_dsn: str, *, own_logins: bool = False) -> None:
    """In somebody else's server (DATABASE_URL): its user is the owner, and may become the other two.

    With `own_logins` the operator has given the two roles logins of their own, and the owner need not become them.
    Raises ServerUnavailable for a server older than PostgreSQL 15, RolesMissing when the user may not make roles.
    """
    with psycopg.connect(owner_dsn, autocommit=True) as connection:
        if connection.info.server_version < OLDEST_SERVER:
            raise ServerUnavailable(
                f"DATABASE_URL leads to PostgreSQL {connection.info.server_version // 10000}; "
                f"AgentAuth needs {OLDEST_SERVER // 10000} or newer"
            )
        me, database = connection.info.user, connection.info.dbname
        if _is_set_up(connection, database, own_logins):
            return
        try:
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(hashtext('agentauth roles'))")
                for role in (APP_ROLE, SEQUENCER_ROLE):
                    _make(connection, role, login=False)
                    if not own_logins:
                        _let_become(connection, role, me)
                _open_the_database(connection, database)
        except psycopg.errors.InsufficientPrivilege as refused:
            raise RolesMissing(administrator_sql(me, database)) from refused


def administrator_sql(owner: str, database: str) -> str:
    """What an administrator runs once when the database's user may not make roles."""
    roles = f"{APP_ROLE}, {SEQUENCER_ROLE}"
    return "\n".join(
        [
            *(f"CREATE ROLE {role} NOLOGIN {_HARMLESS};" for role in (APP_ROLE, SEQUENCER_ROLE)),
            f'GRANT {roles} TO "{owner}";',
            f'GRANT CREATE, CONNECT ON DATABASE "{database}" TO "{owner}";',
            f'GRANT CONNECT ON DATABASE "{database}" TO {roles};',
            f'GRANT CREATE, USAGE ON SCHEMA public TO "{owner}";',
            f"GRANT USAGE ON SCHEMA public TO {roles};",
        ]
    )


def _make(connection: _Connection, role: str, *, login: bool) -> None:
    found = connection.execute(
        "SELECT rolsuper, rolbypassrls, rolcanlogin FROM pg_roles WHERE rolname = %s", [role]
    ).fetchone()
    name = sql.Identifier(role)
    rights = sql.SQL(_HARMLESS + (" LOGIN" if login else ""))
    if found is None:
        connection.execute(sql.SQL("CREATE ROLE {} {}").format(name, rights))
    elif found[0] or found[1] or (login and not found[2]):
        connection.execute(sql.SQL("ALTER ROLE {} {}").format(name, rights))


def _let_become(connection: _Connection, role: str, me: str) -> None:
    """May `SET ROLE`, and gets none of the role's rights without it."""
    if _may_become(connection, role):
        return
    how = " WITH INHERIT FALSE, SET TRUE" if connection.info.server_version >= 160000 else ""
    connection.execute(sql.SQL("GRANT {} TO {}" + how).format(sql.Identifier(role), sql.Identifier(me)))


def _may_become(connection: _Connection, role: str) -> bool:
    how = "SET" if connection.info.server_version >= 160000 else "MEMBER"
    found = connection.execute("SELECT pg_has_role(current_user, %s, %s)", [role, how]).fetchone()
    return bool(found and found[0])


def _open_the_database(connection: _Connection, database: str) -> None:
    both = sql.SQL(", ").join(map(sql.Identifier, (APP_ROLE, SEQUENCER_ROLE)))
    connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(sql.Identifier(database), both))
    connection.execute(sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(both))


def _is_set_up(connection: _Connection, database: str, own_logins: bool) -> bool:
    found = connection.execute(
        "SELECT rolname FROM pg_roles WHERE rolname = ANY(%s) AND NOT rolsuper AND NOT rolbypassrls"
        " AND has_database_privilege(rolname, %s, 'CONNECT') AND has_schema_privilege(rolname, 'public', 'USAGE')",
        [[APP_ROLE, SEQUENCER_ROLE], database],
    ).fetchall()
    return len(found) == 2 and all(_may_become(connection, role) for role in (APP_ROLE, SEQUENCER_ROLE))
