"""Tidying by the clock: what has run out is refused when read; here its row goes, a day later, in small slices."""

from datetime import timedelta

from celery import shared_task
from django.db import connection, transaction
from django.utils.timezone import now

from tenants.models import SignInLink, Tenant
from tenants.rls import in_tenant

KEPT = timedelta(days=1)  # beyond the end, so that a late replay is still told from an unknown code
SLICE = 5000  # rows per transaction: locks are short, nobody waits
_ENDS = {
    "oauth_authorizationcode": "expires_at",
    "oauth_backchannelrequest": "expires_at",
    "oauth_devicerequest": "expires_at",
    "oauth_pushedrequest": "expires_at",
    "oauth_refreshtoken": "family_expires_at",
    "oauth_spentonce": "expires_at",
}


@shared_task
def sweep_spent() -> int:
    """Remove codes, refresh tokens, single-use marks and sign-in links that ended long ago. Returns how many."""
    removed = sum(_sweep(tenant, table, ends) for tenant in Tenant.objects.all() for table, ends in _ENDS.items())
    with transaction.atomic():
        links, _ = SignInLink.objects.filter(expires_at__lt=now() - KEPT).delete()
    return removed + links


def _sweep(tenant: Tenant, table: str, ends: str) -> int:
    removed = 0
    while True:
        with in_tenant(tenant.id), connection.cursor() as cursor:
            cursor.execute(
                f"DELETE FROM {table} WHERE ctid = ANY (ARRAY("
                f"SELECT ctid FROM {table} WHERE tenant_id = %s AND {ends} < %s LIMIT %s FOR UPDATE SKIP LOCKED))",
                [tenant.id, now() - KEPT, SLICE],
            )
            found = int(cursor.rowcount)
        removed += found
        if found < SLICE:
            return removed
