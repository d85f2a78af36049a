"""Tidying by the clock. What has run out is refused when read; a day later its whole partition is dropped."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from celery import shared_task
from django.db import connection, transaction
from django.utils.timezone import now

from agentauth.oauth.partitions import KEPT_DAYS, TABLES, Expiring
from audit.actions import Action
from audit.record import Actor, record
from tenants.models import SignInLink, Tenant
from tenants.rls import in_tenant

SWEEP = Actor.task("oauth.sweep_spent")
SLICE = 5000  # rows per transaction: locks are short, nobody waits
_ENDED = (
    "SELECT parent.relname, right(child.relname, 8) FROM pg_inherits"
    " JOIN pg_class parent ON parent.oid = inhparent JOIN pg_class child ON child.oid = inhrelid"
    " WHERE parent.relname = ANY(%s) AND child.relname ~ '_[0-9]{8}$' ORDER BY child.relname"
)


@shared_task
def sweep_spent() -> int:
    """Remove codes, refresh tokens, single-use marks and sign-in links that ended long ago. Returns how many.

    How many of each were removed is on record in each tenant.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT oauth_make_partitions()")
    removed = sum(_drop(one, first) for one, first in _partitions() if _has_ended(one, first))
    removed += sum(_sweep(tenant, one) for tenant in Tenant.objects.all() for one in TABLES)
    with transaction.atomic():
        links, _ = SignInLink.objects.filter(expires_at__lt=now() - timedelta(days=KEPT_DAYS)).delete()
    return removed + links


def _partitions() -> Iterator[tuple[Expiring, date]]:
    tables = {one.table: one for one in TABLES}
    with connection.cursor() as cursor:
        cursor.execute(_ENDED, [list(tables)])
        for table, first in cursor.fetchall():
            yield tables[table], datetime.strptime(first, "%Y%m%d").replace(tzinfo=UTC).date()


def _has_ended(one: Expiring, first: date) -> bool:
    return first + timedelta(days=one.days + one.life + KEPT_DAYS) <= now().date()


def _drop(one: Expiring, first: date) -> int:
    """Drop one partition whatever is in it, together with its line in each tenant's record. 0 if somebody is in it
    just now: then the next sweep does it."""
    held = {tenant.id: _count(tenant, one, first) for tenant in Tenant.objects.all()}
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT oauth_drop_partition(%s, %s)", [one.table, first])
        [(dropped,)] = cursor.fetchall()
        if not dropped:
            return 0
        for tenant_id, rows in held.items():
            if rows:
                with in_tenant(tenant_id):
                    _record(tenant_id, one, rows)
    return sum(held.values())


def _count(tenant: Tenant, one: Expiring, first: date) -> int:
    with in_tenant(tenant.id), connection.cursor() as cursor:
        bounds: list[Any] = [tenant.id, *(_midnight(first + timedelta(days=days)) for days in (0, one.days))]
        cursor.execute(
            f"SELECT count(*) FROM {one.table} WHERE tenant_id = %s AND {one.key} >= %s AND {one.key} < %s", bounds
        )
        return int(cursor.fetchone()[0])


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _sweep(tenant: Tenant, one: Expiring) -> int:
    """What lies in no partition of its own, row by row."""
    removed = 0
    while True:
        with in_tenant(tenant.id), connection.cursor() as cursor:
            cursor.execute(
                f"DELETE FROM {one.table} WHERE tenant_id = %s AND (tableoid, ctid) IN ("
                f"SELECT tableoid, ctid FROM {one.table} WHERE tenant_id = %s AND {one.key} < %s"
                " LIMIT %s FOR UPDATE SKIP LOCKED)",
                [tenant.id, tenant.id, now() - timedelta(days=one.days + one.life + KEPT_DAYS), SLICE],
            )
            found = int(cursor.rowcount)
            if found:
                _record(tenant.id, one, found)
        removed += found
        if found < SLICE:
            return removed


def _record(tenant_id: UUID, one: Expiring, rows: int) -> None:
    """In the tenant's transaction."""
    record(
        Action.EXPIRED_REMOVED,
        tenant_id=tenant_id,
        actor=SWEEP,
        details={"kind": one.table.removeprefix("oauth_"), "rows": rows},
    )
