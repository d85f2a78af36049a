"""What counts once: the first to write its mark has it, whoever comes second at the same moment waits and loses."""

from datetime import datetime
from uuid import UUID

from django.db import connection

from tenants.rls import new_id

_INSERT = (
    "INSERT INTO oauth_spentonce (id, tenant_id, kind, value_hash, expires_at) VALUES (%s, %s, %s, %s, %s)"
    " ON CONFLICT (tenant_id, kind, value_hash) DO NOTHING"
)


def spend_once(tenant_id: UUID, kind: str, value_hash: bytes, expires_at: datetime) -> bool:
    """True for the first caller with this kind and hash. In the tenant's transaction: a rollback gives it back.

    SQL, because the unique index decides (a read before the write would let two through).
    """
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, [new_id(), tenant_id, kind, value_hash, expires_at])
        return bool(cursor.rowcount == 1)
