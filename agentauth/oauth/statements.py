"""What the short lane writes, as SQL: events, and with them what a token uses up. Of what no longer stands, nothing.

Values go as arrays, a column each: half of what the same rows cost the server as JSON. Row-level security shows one
tenant at a time, so a batch goes tenant by tenant; sent as one pipeline it is one transaction all the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from audit.record import COLUMNS
from tenants.rls import TENANT_SETTING

# Of an event of ours; what else it could say stays at its default
_TOLD = {
    "id": "uuid",
    "tenant_id": "uuid",
    "at": "timestamptz",
    "action": "text",
    "actor_kind": "text",
    "actor": "text",
    "agent_id": "uuid",
    "member_id": "uuid",
    "grant_id": "uuid",
    "resource_id": "uuid",
    "ip": "text",
    "details": "text",
    "body": "text",
}
_AT = tuple(COLUMNS.index(name) for name in _TOLD)
_REST = tuple(at for at in range(len(COLUMNS)) if at not in _AT)
_EMPTY = ("", None, "[]")
_STANDS = """
    EXISTS (SELECT FROM tenants_tenant t WHERE t.id = a.tenant_id AND t.suspended_at IS NULL)
    AND EXISTS (SELECT FROM agents_agent g WHERE g.tenant_id = a.tenant_id AND g.id = a.agent_id
        AND g.state = 'active' AND (g.valid_until IS NULL OR g.valid_until > now())
        AND NOT g.dpop_bound_access_tokens AND NOT g.high_assurance)
    AND EXISTS (SELECT FROM grants_grant p WHERE p.tenant_id = a.tenant_id AND p.id = a.grant_id
        AND p.ended_at IS NULL AND p.expires_at > now())
    AND EXISTS (SELECT FROM resources_resource r WHERE r.tenant_id = a.tenant_id AND r.id = a.resource_id
        AND r.state = 'published')"""
_PROVEN = """
    EXISTS (SELECT FROM agents_credential c WHERE c.tenant_id = a.tenant_id AND c.id = a.credential_id
        AND c.agent_id = a.agent_id AND c.retired_at IS NULL AND (c.expires_at IS NULL OR c.expires_at > now()))"""
_INSERT = ", ".join(_TOLD)
_SELECT = ", ".join(f"a.{name}::jsonb" if name == "details" else f"a.{name}" for name in _TOLD)


def _asked(more: dict[str, str]) -> str:
    columns = _TOLD | more
    arrays = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(columns.values(), 1))
    return f"asked AS (SELECT * FROM unnest({arrays}) AS one ({', '.join(columns)}))"


_WRITE = f"""
event AS (INSERT INTO audit_event ({_INSERT}) SELECT {_SELECT} FROM sound a RETURNING id, tenant_id),
queued AS (INSERT INTO audit_unsequenced (id, tenant_id) SELECT id, tenant_id FROM event RETURNING id)
SELECT string_agg(id::text, ',') AS written FROM queued"""

_ASKED = {"credential_id": "uuid"}
_TELL = f"WITH {_asked(_ASKED)}, sound AS (SELECT * FROM asked a WHERE {_STANDS} AND {_PROVEN}), {_WRITE}"

# OAuth 2.1 §4.3.1 in one statement: a token good for nothing but this is spent, the next one of its family is there.
# Whoever ends a family holds its lock (`families.py`) while reading which tokens it has, so we must hold it until our
# commit; and never wait for it, nor for a row, because others' tokens are in the same commit.
_ROTATES = {
    "token_hash": "bytea",
    "next_hash": "bytea",
    "family": "uuid",
    "family_scope": "text",
    "auth_time": "timestamptz",
    "acr": "text",
    "family_ends": "timestamptz",
    "next_ends": "timestamptz",
    "next_id": "uuid",
    "jti": "uuid",
}
_PUBLIC = """
    a.credential_id IS NULL AND EXISTS (SELECT FROM agents_agent g WHERE g.tenant_id = a.tenant_id
        AND g.id = a.agent_id AND g.token_endpoint_auth_method = 'none')"""
_PERSON = """
    EXISTS (SELECT FROM tenants_member m JOIN tenants_user u ON u.id = m.user_id WHERE m.tenant_id = a.tenant_id
        AND m.id = a.member_id AND m.deactivated_at IS NULL AND u.is_active)"""
_ROTATE = f"""
WITH {_asked(_ASKED | _ROTATES)},
held AS (
    SELECT a.id, r.id AS row_id FROM asked a JOIN oauth_refreshtoken r
    ON r.tenant_id = a.tenant_id AND r.token_hash = a.token_hash AND r.family_expires_at = a.family_ends
    WHERE {_STANDS} AND ({_PROVEN} OR {_PUBLIC}) AND {_PERSON}
    AND r.family = a.family AND r.agent_id = a.agent_id AND r.grant_id = a.grant_id
    AND r.spent_at IS NULL AND r.revoked_at IS NULL AND least(r.expires_at, r.family_expires_at) > now()
    AND pg_try_advisory_xact_lock(hashtextextended(a.family::text, 0))
    FOR UPDATE OF r SKIP LOCKED
),
spent AS (
    UPDATE oauth_refreshtoken r SET spent_at = now() FROM held h JOIN asked a ON a.id = h.id
    WHERE r.tenant_id = a.tenant_id AND r.id = h.row_id AND r.family_expires_at = a.family_ends RETURNING h.id
),
sound AS (SELECT a.* FROM asked a JOIN spent s ON s.id = a.id),
next AS (
    INSERT INTO oauth_refreshtoken (id, tenant_id, token_hash, family, agent_id, grant_id, resource_id, scope,
        auth_time, acr, created_at, expires_at, family_expires_at, access_jti, authorization_details, jkt)
    SELECT next_id, tenant_id, next_hash, family, agent_id, grant_id, resource_id, family_scope,
        auth_time, acr, now(), next_ends, family_ends, jti, '[]', '' FROM sound
), {_WRITE}"""

PREPARED = {
    "enter": f"SELECT set_config('{TENANT_SETTING}', $1, true)",
    "tell": _TELL,
    "rotate": _ROTATE,
}


@dataclass(frozen=True, slots=True)
class Rotation:
    """A refresh token that is used up and the next of its family. Times are in UTC."""

    token_hash: bytes
    next_hash: bytes
    family: str
    family_scope: str
    auth_time: datetime
    acr: str
    family_ends: datetime
    next_ends: datetime
    next_id: str
    jti: str


@dataclass(frozen=True, slots=True)
class Row:
    """A token's event (`audit.record.event_row`), what it stands on, and what it uses up."""

    event: tuple[Any, ...]
    credential_id: str | None  # None: a public client
    rotation: Rotation | None = None

    @property
    def id(self) -> str:
        return str(self.event[0])


def commands(rows: Sequence[Row]) -> Iterator[tuple[str, list[bytes]]]:
    """The names of prepared statements and their values, to be sent in this order as one transaction."""
    by_tenant: dict[str, list[Row]] = {}
    for row in rows:
        by_tenant.setdefault(str(row.event[1]), []).append(row)
    for tenant_id, mine in by_tenant.items():
        yield "enter", [tenant_id.encode()]
        told = [row for row in mine if row.rotation is None]
        if told:
            yield "tell", list(_told(told))
        rotated = [row for row in mine if row.rotation is not None]
        if rotated:
            yield "rotate", [*_told(rotated), *_rotated([row.rotation for row in rotated if row.rotation])]


def _told(rows: Sequence[Row]) -> Iterator[bytes]:
    columns = list(zip(*(row.event for row in rows), strict=True))
    assert all(value in _EMPTY for at in _REST for value in columns[at])
    for at, kind in zip(_AT, _TOLD.values(), strict=True):
        yield _quoted(columns[at]) if kind == "text" else _plain(columns[at])
    yield _plain([row.credential_id for row in rows])


def _rotated(rotations: Sequence[Rotation]) -> Iterator[bytes]:
    for name, kind in _ROTATES.items():
        values = [getattr(one, name) for one in rotations]
        if kind == "bytea":
            yield _quoted([f"\\x{value.hex()}" for value in values])
        else:
            yield _quoted(values) if kind == "text" else _plain([f'"{value}"' for value in values])


def _plain(values: Sequence[Any]) -> bytes:
    """An array of ids or times."""
    return ("{" + ",".join("NULL" if value is None else str(value) for value in values) + "}").encode()


def _quoted(values: Sequence[str]) -> bytes:
    escaped = [value.replace("\\", "\\\\").replace('"', '\\"') for value in values]
    return ('{"' + '","'.join(escaped) + '"}').encode()
