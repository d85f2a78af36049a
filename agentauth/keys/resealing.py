"""Rotating the key ring: a new key first, then whatever is sealed at rest is sealed under it, row by row.

It may stop anywhere and go on later: a row that the newest key has sealed is left alone, all keys of the ring go on
opening until somebody has the former ones forgotten.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from django.apps import apps
from django.db import models
from django.db.models.functions import Substr

from agentauth.keys import ring
from agentauth.keys.sealed import SealedField
from audit.actions import Action
from audit.record import Actor, record
from tenants.models import Tenant
from tenants.rls import in_tenant

SLICE = 200  # rows per transaction


@dataclass(frozen=True, slots=True)
class Resealed:
    """Of one tenant: how many were sealed anew, and how many could not be opened."""

    tenant: Tenant
    done: int
    lost: int


def sealed_columns() -> list[tuple[type[models.Model], SealedField]]:
    """Every column of ours that holds a ciphertext of the ring."""
    return [
        (model, field)
        for model in apps.get_models()
        for field in model._meta.local_fields
        if isinstance(field, SealedField)
    ]


def add_key() -> str:
    """A new key that seals from now on. Returns its id. Raises RingError."""
    fresh = ring.new_entry()
    ring.put([fresh, *ring.entries()])
    return fresh["id"]


def reseal(*, by: Actor) -> Iterator[Resealed]:
    """Every tenant's, each on record when it is done. Raises RingError without a ring."""
    newest = ring.entries()[0]["id"]
    for tenant in Tenant.objects.order_by("slug"):
        done = lost = 0
        for model, field in sealed_columns():
            moved, stuck = _column(tenant, model, field, newest)
            done, lost = done + moved, lost + stuck
        if done or lost:
            with in_tenant(tenant.id):
                record(
                    Action.RING_ROTATED,
                    tenant_id=tenant.id,
                    actor=by,
                    subject_kind="ring",
                    subject=newest,
                    details={"sealed_anew": done, "not_opened": lost},
                )
        yield Resealed(tenant, done, lost)


def in_use() -> Counter[str]:
    """By the id of the key: how much it has sealed that is still there, over all tenants."""
    found: Counter[str] = Counter()
    for tenant in Tenant.objects.all():
        with in_tenant(tenant.id):
            for model, field in sealed_columns():
                key_id = Substr(field.name, 1, 4, output_field=models.BinaryField())
                rows = _rows(tenant, model, field).values_list(key_id).annotate(models.Count("pk"))
                found.update({ring.sealed_by(sealed): count for sealed, count in rows})
    return found


def forget_former() -> list[str]:
    """Take every key but the newest off the ring; returns their ids. Raises RingError while one seals something."""
    newest, *former = [entry["id"] for entry in ring.entries()]
    used = in_use()
    if holding := [one for one in former if used[one]]:
        raise ring.RingError(f"still in use: {', '.join(f'{one} ({used[one]} rows)' for one in holding)}")
    ring.put([entry for entry in ring.entries() if entry["id"] == newest])
    return former


def _column(tenant: Tenant, model: type[models.Model], field: SealedField, newest: str) -> tuple[int, int]:
    """How many rows were sealed anew, and how many do not open."""
    done = lost = 0
    after = None
    while True:
        with in_tenant(tenant.id):
            rows = _rows(tenant, model, field).order_by("pk").select_for_update()
            page = list((rows.filter(pk__gt=after) if after else rows)[:SLICE].values_list("pk", field.name))
            tried = [_row(tenant, model, field, *row) for row in page if ring.sealed_by(row[1]) != newest]
        done, lost = done + sum(tried), lost + tried.count(False)
        if len(page) < SLICE:
            return done, lost
        after = page[-1][0]


def _row(tenant: Tenant, model: type[models.Model], field: SealedField, pk: UUID, sealed: bytes) -> bool:
    try:
        plain = ring.unseal(sealed, tenant_id=tenant.id, row_id=pk, purpose=field.purpose)
    except ring.RingError:
        return False
    anew = ring.seal(plain, tenant_id=tenant.id, row_id=pk, purpose=field.purpose)
    model._default_manager.filter(tenant_id=tenant.id, pk=pk).update(**{field.name: anew})
    return True


def _rows(tenant: Tenant, model: type[models.Model], field: SealedField) -> models.QuerySet[models.Model]:
    there = model._default_manager.filter(tenant_id=tenant.id).exclude(**{field.name: None})
    return there.exclude(**{field.name: b""})
