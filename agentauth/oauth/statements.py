"""What the short lane writes, as SQL: events, and with them what a token uses up. Of what no longer stands, nothing.

Values go as arrays, a column each: half of what the same rows cost the server as JSON. Row-level security shows one
tenant at a time, so a batch goes tenant by tenant; sent as one pipeline it is one transaction all the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

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
        AND g.state = 'active' AND (g.valid_until IS NULL OR g.valid_until > now()))
    AND EXISTS (SELECT FROM grants_grant p WHERE p.tenant_id = a.tenant_id AND p.id = a.grant_id
        AND p.ended_at IS NULL AND p.expires_at > now())
    AND EXISTS (SELECT FROM resources_resource r WHERE r.tenant_id = a.tenant_id AND r.id = a.resource_id
        AND r.state = 'published')
    AND EXISTS (SELECT FROM agents_credential c WHERE c.tenant_id = a.tenant_id AND c.id = a.credential_id
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

_TELL_MORE = {"credential_id": "uuid"}
_TELL = f"WITH {_asked(_TELL_MORE)}, sound AS NOT MATERIALIZED (SELECT * FROM asked a WHERE {_STANDS}), {_WRITE}"

PREPARED = {
    "enter": f"SELECT set_config('{TENANT_SETTING}', $1, true)",
    "tell": _TELL,
}


@dataclass(frozen=True, slots=True)
class Row:
    """A token's event (`audit.record.event_row`) and what it stands on."""

    event: tuple[Any, ...]
    credential_id: UUID | None

    @property
    def id(self) -> str:
        return str(self.event[0])


def commands(rows: Sequence[Row]) -> Iterator[tuple[str, list[bytes]]]:
    """The names of prepared statements and their values, to be sent in this order as one transaction."""
    by_tenant: dict[UUID, list[Row]] = {}
    for row in rows:
        by_tenant.setdefault(row.event[1], []).append(row)
    for tenant_id, mine in by_tenant.items():
        yield "enter", [str(tenant_id).encode()]
        yield "tell", [*_told(mine), _plain([row.credential_id for row in mine])]


def _told(rows: Sequence[Row]) -> Iterator[bytes]:
    columns = list(zip(*(row.event for row in rows), strict=True))
    assert all(value in _EMPTY for at in _REST for value in columns[at])
    for at, kind in zip(_AT, _TOLD.values(), strict=True):
        yield _quoted(columns[at]) if kind == "text" else _plain(columns[at])


def _plain(values: Sequence[Any]) -> bytes:
    """An array of ids or times."""
    return ("{" + ",".join("NULL" if value is None else str(value) for value in values) + "}").encode()


def _quoted(values: Sequence[str]) -> bytes:
    escaped = [value.replace("\\", "\\\\").replace('"', '\\"') for value in values]
    return ('{"' + '","'.join(escaped) + '"}').encode()
