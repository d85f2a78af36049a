"""The records of an export: which there are, as the database has them, and as they stand in the data file."""

import csv
import io
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import orjson
from django.db import connection

from audit.conditions import Condition
from audit.models import Export
from audit.verify import COLUMNS, csv_row
from tenants.rls import in_tenant

LEAVES_SLICE = 50_000
_BOM = b"\xef\xbb\xbf"  # without it, spreadsheets take UTF-8 for something older

Names = dict[str, dict[str, str]]
Record = tuple[int, str, str]
"""Index, leaf hash in hex, body."""


class ExportFailed(Exception):
    """It cannot be done; the text is for who ordered it."""


def range_of(tenant_id: UUID, wanted: Condition, tree_size: int) -> tuple[int | None, int | None, int]:
    """First and last place of what is wanted among the first `tree_size`, and how many records that is."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT min(l.index), max(l.index), count(*) FROM audit_event e"
            " JOIN audit_leaf l ON l.tenant_id = e.tenant_id AND l.event_id = e.id"
            f" WHERE l.tenant_id = %s AND l.index < %s AND {wanted.sql}",
            [tenant_id, tree_size, *wanted.parameters],
        )
        first, last, rows = cursor.fetchone()
    return first, last, rows


def rows_of(tenant_id: UUID, wanted: Condition, start: int, stop: int) -> list[Record]:
    """Index, leaf hash and body. The bounds on id let the planner open one month's partition, not all."""
    places = "FROM audit_leaf WHERE tenant_id = %s AND index >= %s AND index < %s"
    place: list[Any] = [tenant_id, start, stop]
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT (SELECT event_id {places} ORDER BY event_id LIMIT 1),"
            f" (SELECT event_id {places} ORDER BY event_id DESC LIMIT 1)",
            place * 2,
        )
        lowest, highest = cursor.fetchone()
        cursor.execute(
            "SELECT l.index, encode(l.hash, 'hex'), e.body FROM audit_leaf l"
            " JOIN audit_event e ON e.tenant_id = l.tenant_id AND e.id = l.event_id"
            " WHERE l.tenant_id = %s AND l.index >= %s AND l.index < %s"
            f" AND e.tenant_id = %s AND e.id BETWEEN %s AND %s AND {wanted.sql} ORDER BY l.index",
            [*place, tenant_id, lowest, highest, *wanted.parameters],
        )
        return list(cursor.fetchall())


def names_of(tenant_id: UUID, wanted: Condition) -> Names:
    """Who the ids in these records are called now."""
    sources = {
        "agents": ("agent_id", "SELECT n.id, n.name FROM agents_agent n"),
        "people": (
            "member_id",
            "SELECT n.id, u.name || ' <' || u.email || '>' FROM tenants_member n"
            " JOIN tenants_user u ON u.id = n.user_id",
        ),
        "resources": ("resource_id", "SELECT n.id, n.name FROM resources_resource n"),
    }
    names: Names = {}
    with connection.cursor() as cursor:
        for kind, (column, source) in sources.items():
            cursor.execute(
                f"{source} WHERE n.tenant_id = %s AND n.id IN"
                f" (SELECT DISTINCT e.{column} FROM audit_event e WHERE {wanted.sql})",
                [tenant_id, *wanted.parameters],
            )
            names[kind] = {str(key): name for key, name in cursor}
    return names


def leaves_of(tenant_id: UUID, size: int) -> Iterator[bytes]:
    """All leaf hashes, slice by slice. Raises ExportFailed for a log with gaps. Outside a transaction."""
    for start in range(0, size, LEAVES_SLICE):
        stop = min(start + LEAVES_SLICE, size)
        with in_tenant(tenant_id), connection.cursor() as cursor:
            cursor.execute(
                "SELECT string_agg(hash, ''::bytea ORDER BY index) FROM audit_leaf"
                " WHERE tenant_id = %s AND index >= %s AND index < %s",
                [tenant_id, start, stop],
            )
            found = bytes(cursor.fetchone()[0] or b"")
        if len(found) != 32 * (stop - start):
            raise ExportFailed(f"The log is damaged: leaves between {start} and {stop - 1} are missing.")
        yield found


def head(kind: str) -> bytes:
    return _BOM + ",".join(COLUMNS).encode() + b"\r\n" if kind == Export.Format.CSV else b""


def encode(kind: str, rows: list[Record], names: Names) -> bytes:
    """Records as they stand in the data file; `body` goes in as it was hashed, to the byte."""
    if kind == Export.Format.CSV:
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        for index, leaf, body in rows:
            writer.writerow(csv_row(index, leaf, body, _event(body), names))
        return text.getvalue().encode()
    return b"".join(
        b'{"index":%d,"leaf_hash":"%s","event":%s}\n' % (index, leaf.encode(), body.encode())
        for index, leaf, body in rows
    )


def _event(body: str) -> dict[str, Any]:
    """Whoever broke a body in the database must not stop the export that would show it."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
