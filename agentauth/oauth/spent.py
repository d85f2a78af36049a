"""What counts once: the first to write its mark has it, whoever comes second at the same moment waits and loses."""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection

from tenants.rls import new_id

# The same artefact twice at one moment meets in the unique index, since its end is the same; another one that bears
# its name again, later, is found by reading.
_INSERT = (
    "INSERT INTO oauth_spentonce (id, tenant_id, kind, value_hash, expires_at)"
    " SELECT %(id)s, %(tenant)s, %(kind)s, %(hash)s, %(ends)s WHERE NOT EXISTS ("
    "SELECT FROM oauth_spentonce WHERE tenant_id = %(tenant)s AND kind = %(kind)s AND value_hash = %(hash)s)"
    " ON CONFLICT DO NOTHING"
)


def spend_once(tenant_id: UUID, kind: str, value_hash: bytes, expires_at: datetime) -> bool:
    """True for the first caller with this kind and hash. In the tenant's transaction: a rollback gives it back.

    `expires_at` must follow from the artefact alone, not from the clock. SQL, because the unique index decides (a read
    before the write would let two through).
    """
    asked: dict[str, Any] = {"id": new_id(), "tenant": tenant_id, "kind": kind, "hash": value_hash, "ends": expires_at}
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, asked)
        return bool(cursor.rowcount == 1)
