"""The queue's side of exports. Losing the queue loses nothing: the clock finds every order that nobody works on."""

from datetime import timedelta
from uuid import UUID

from celery import shared_task
from django.db.models import Q
from django.utils.timezone import now

from audit.export.bundle import folder_of, remove
from audit.export.running import STALE, run_export
from audit.models import Export
from audit.queue import hand_over
from audit.tasks import tenant_ids
from tenants.rls import in_tenant

UNHEARD = timedelta(seconds=10)  # an order that no worker has taken by then may have been lost
AGAIN = timedelta(seconds=60)  # until it is enqueued once more


def enqueue(export_id: UUID, tenant_id: UUID) -> None:
    """Raises what the queue raises when it is down, without waiting for it."""
    hand_over(run, str(export_id), str(tenant_id))


@shared_task(name="audit.export.tasks.run")
def run(export_id: str, tenant_id: str) -> bool:
    return run_export(UUID(export_id), UUID(tenant_id))


@shared_task(name="audit.export.tasks.resume_stalled")
def resume_stalled() -> int:
    """Enqueue again what a dead worker left, and what no worker ever took. Returns how many."""
    found = 0
    for tenant_id in tenant_ids():
        for export_id in _stalled_in(tenant_id):
            enqueue(export_id, tenant_id)
            found += 1
    return found


@shared_task(name="audit.export.tasks.remove_expired")
def remove_expired() -> int:
    """Delete bundles whose time is over, and what is left of jobs that ended otherwise. Returns how many files."""
    return sum(_remove_in(tenant_id) for tenant_id in tenant_ids())


def _stalled_in(tenant_id: UUID) -> list[UUID]:
    """Back in the queue: whoever still holds one of these finds that it is no longer theirs."""
    mine = Export.objects.filter(tenant_id=tenant_id)
    with in_tenant(tenant_id):
        dead = mine.filter(state=Export.State.RUNNING, heartbeat_at__lt=now() - STALE)
        # Of a queued order, `heartbeat_at` is when it was last enqueued
        unheard = Q(heartbeat_at=None, requested_at__lt=now() - UNHEARD) | Q(heartbeat_at__lt=now() - AGAIN)
        waited = mine.filter(unheard, state=Export.State.QUEUED)
        found = [
            *dead.select_for_update(skip_locked=True).values_list("id", flat=True),
            *waited.select_for_update(skip_locked=True).values_list("id", flat=True),
        ]
        mine.filter(id__in=found).update(state=Export.State.QUEUED, run=None, heartbeat_at=now())
    return found


def _remove_in(tenant_id: UUID) -> int:
    removed = 0
    with in_tenant(tenant_id):
        over = Export.objects.filter(tenant_id=tenant_id, state=Export.State.READY, expires_at__lt=now())
        for export in over.exclude(bundle="").select_for_update(skip_locked=True):
            remove(folder_of(tenant_id) / export.bundle)
            export.bundle = ""
            export.save(update_fields=["bundle"])
            removed += 1
        wanted = {
            str(found)
            for found in Export.objects.filter(
                tenant_id=tenant_id, state__in=[Export.State.QUEUED, Export.State.RUNNING]
            ).values_list("id", flat=True)
        }
        for path in folder_of(tenant_id).iterdir():
            if path.suffix != ".zip" and path.name.split(".")[0] not in wanted:
                remove(path)
                removed += 1
    return removed
