"""Keys by the clock."""

import logging

from celery import shared_task

from agentauth.keys.ring import RingError
from agentauth.keys.rotating import rotate_if_due
from audit.record import Actor
from tenants.models import Tenant
from tenants.rls import in_tenant

log = logging.getLogger(__name__)
CLOCK = Actor.task("keys.rotate_due")


@shared_task
def rotate_due() -> int:
    """Make the keys that are due, retire those that have been followed. Returns how many were made."""
    return sum(_rotate(tenant) for tenant in Tenant.objects.all())


def _rotate(tenant: Tenant) -> int:
    try:
        with in_tenant(tenant.id):
            return rotate_if_due(tenant, by=CLOCK) is not None
    except RingError as lost:  # the others' may be well; the old key goes on
        log.error("no new signing key for %s: %s", tenant.slug, lost)
        return 0
