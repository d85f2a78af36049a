"""Do these grants stand, and will they until we are done?"""

from collections.abc import Collection
from uuid import UUID

from django.db import connection

# FOR SHARE: whoever ends one of these waits for our commit, so its revocation is not before our token.
# The ORM has no such lock, and an exclusive one would make exchanges under one grant wait for each other.
_STAND = (
    "SELECT id FROM grants_grant WHERE tenant_id = %s AND id = ANY(%s) AND ended_at IS NULL AND expires_at > now()"
    " ORDER BY id FOR SHARE"
)


def still_stand(tenant_id: UUID, grants: Collection[UUID]) -> bool:
    """In the tenant's transaction; until its end nobody ends them."""
    with connection.cursor() as cursor:
        cursor.execute(_STAND, [tenant_id, list(grants)])
        return len(cursor.fetchall()) == len(set(grants))
