"""What the short lane writes, as SQL: events, and with them what a token uses up. Of what no longer stands, nothing.

Values go as arrays, a column each, in PostgreSQL's binary format, which has nothing to escape and is read fastest.
Row-level security shows one tenant at a time, so a batch goes tenant by tenant; sent as one pipeline it is one
transaction all the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import orjson
import uuid_utils

from audit.actions import Action
from audit.record import COLUMNS, event_row
from tenants.rls import TENANT_SETTING

# Of an event of ours, in the order of their cells; what else it could say stays at its default
_TOLD = {
    "id": "uuid",
    "at": "timestamptz",
    "ip": "text",
    "details": "jsonb",
    "body": "text",
    "tenant_id": "uuid",
    "action": "text",
    "actor_kind": "text",
    "actor": "text",
    "agent_id": "uuid",
    "member_id": "uuid",
    "grant_id": "uuid",
    "resource_id": "uuid",
}
_FRESH = 5  # the first of them differ from token to token
_EMPTY = ("", None, "[]")
_OID = {"uuid": 2950, "text": 25, "bytea": 17}  # as what values are sent; PostgreSQL's own, the same everywhere
_STANDS = """
    (SELECT true FROM tenants_tenant t WHERE t.id = a.tenant_id AND t.suspended_at IS NULL)
    AND (SELECT true FROM agents_agent g WHERE g.tenant_id = a.tenant_id AND g.id = a.agent_id
        AND g.state = 'active' AND (g.valid_until IS NULL OR g.valid_until > now())
        AND NOT g.dpop_bound_access_tokens AND NOT g.high_assurance)
    AND (SELECT true FROM grants_grant p WHERE p.tenant_id = a.tenant_id AND p.id = a.grant_id
        AND p.ended_at IS NULL AND p.expires_at > now())
    AND (SELECT true FROM resources_resource r WHERE r.tenant_id = a.tenant_id AND r.id = a.resource_id
        AND r.state = 'published' AND NOT r.dpop_bound_access_tokens_required)"""
_PROVEN = """
    (SELECT true FROM agents_credential c WHERE c.tenant_id = a.tenant_id AND c.id = a.credential_id
        AND c.agent_id = a.agent_id AND c.retired_at IS NULL AND (c.expires_at IS NULL OR c.expires_at > now()))"""
_COLUMNS = ", ".join(_TOLD)


def _asked(more: dict[str, str]) -> str:
    columns = _TOLD | more
    arrays = ", ".join(f"${number}::{_sent_as(kind)}[]" for number, kind in enumerate(columns.values(), 1))
    values = ", ".join(name if kind in _OID else f"{name}::{kind}" for name, kind in columns.items())
    return f"asked AS (SELECT {values} FROM unnest({arrays}) AS one ({', '.join(columns)}))"


def _sent_as(kind: str) -> str:
    return kind if kind in _OID else "text"


_WRITE = f"""
event AS (INSERT INTO audit_event ({_COLUMNS}) SELECT {_COLUMNS} FROM sound RETURNING id, tenant_id),
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
    a.credential_id IS NULL AND (SELECT true FROM agents_agent g WHERE g.tenant_id = a.tenant_id
        AND g.id = a.agent_id AND g.token_endpoint_auth_method = 'none')"""
_PERSON = """
    (SELECT true FROM tenants_member m JOIN tenants_user u ON u.id = m.user_id WHERE m.tenant_id = a.tenant_id
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

ROTATED = (*_TOLD, *_ASKED, *_ROTATES)  # the values of "rotate", in their order
PREPARED = {
    "enter": f"SELECT set_config('{TENANT_SETTING}', $1, true)",
    "tell": _TELL,
    "rotate": _ROTATE,
}


Cells = tuple[bytes, ...]  # values of one row, each with its length before it


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

    def cells(self) -> Cells:
        return tuple(_cell(kind, getattr(self, name)) for name, kind in _ROTATES.items())


@dataclass(slots=True)
class Row:
    """A token's event, what it stands on, and what it uses up."""

    id: str
    tenant_id: str
    cells: Cells
    rotation: Cells | None


class Repeated:
    """The event of a token that is issued again and again: what stays the same is put together once.

    `fixed` are arguments of `audit.record.event_row`; `credential_id` is None for a public client.
    """

    def __init__(self, credential_id: str | None, **fixed: Any) -> None:
        row = event_row(Action.TOKEN_ISSUED, **fixed)
        values = dict(zip(COLUMNS, row, strict=True))
        assert all(value in _EMPTY for name, value in values.items() if name not in _TOLD)
        self.tenant_id = str(values["tenant_id"])
        self._said = {name: said for name, said in orjson.loads(row[-1]).items() if name not in ("id", "at")}
        kept = list(_TOLD.items())[_FRESH:]
        self._kept = (*(_cell(kind, values[name]) for name, kind in kept), _cell("uuid", credential_id))

    def row(self, *, ip: str, details: dict[str, Any], rotation: Rotation | None = None) -> Row:
        """As `event_row` makes it, now."""
        id_ = uuid_utils.uuid7()
        named, at = str(id_), datetime.now(UTC).isoformat()[:-6] + "Z"
        said = self._said | {"id": named, "at": at, "ip": ip, "details": details}
        cells = (
            b"\0\0\0\x10" + id_.bytes,
            _text(at.encode()),
            _text(ip.encode()),
            _text(orjson.dumps(details)),
            _text(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)),
            *self._kept,
        )
        return Row(named, self.tenant_id, cells, rotation.cells() if rotation else None)


def commands(rows: Sequence[Row]) -> Iterator[tuple[str, list[bytes]]]:
    """The names of prepared statements and their values, in binary, to be sent in this order as one transaction."""
    by_tenant: dict[str, list[Row]] = {}
    for row in rows:
        by_tenant.setdefault(row.tenant_id, []).append(row)
    for tenant_id, mine in by_tenant.items():
        yield "enter", [tenant_id.encode()]
        told = [row.cells for row in mine if row.rotation is None]
        if told:
            yield "tell", _arrays(_ARRAYS["tell"], told)
        rotated = [row.cells + row.rotation for row in mine if row.rotation is not None]
        if rotated:
            yield "rotate", _arrays(_ARRAYS["rotate"], rotated)


def _kinds(more: dict[str, str]) -> list[int]:
    return [_OID[_sent_as(kind)] for kind in (_TOLD | more).values()]


_ARRAYS = {"tell": _kinds(_ASKED), "rotate": _kinds(_ASKED | _ROTATES)}


def _arrays(kinds: Sequence[int], rows: Sequence[Cells]) -> list[bytes]:
    return [_head(oid, len(rows)) + b"".join(cells) for oid, cells in zip(kinds, zip(*rows, strict=True), strict=True)]


@lru_cache(1024)
def _head(oid: int, length: int) -> bytes:
    """Of an array: one dimension, nulls allowed, its type, how many, counted from 1."""
    return b"".join(number.to_bytes(4) for number in (1, 1, oid, length, 1))


def _cell(kind: str, value: Any) -> bytes:
    if value is None:
        return b"\xff\xff\xff\xff"
    if kind == "uuid":
        return _text(UUID(str(value)).bytes)
    return _text(value if kind == "bytea" else str(value).encode())


def _text(value: bytes) -> bytes:
    return len(value).to_bytes(4) + value
