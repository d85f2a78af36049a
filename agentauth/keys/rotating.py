"""Rotating a tenant's signing keys: by the clock, on demand, or because the present one is trusted no longer.

By the clock a key is published `LEAD` before it signs, so that whoever keeps a copy of the key set has it in time. A
key that signs no more goes on verifying for `OVERLAP`; its private part is destroyed at once.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection
from django.db.models import Q, QuerySet
from django.utils.timezone import now

from agentauth.keys.models import SigningKey
from agentauth.keys.signing import create_key, forget
from audit.actions import Action
from audit.record import Actor, record
from tenants.models import Revocation, Tenant
from tenants.notice import announce
from tenants.revocation import Ended, lift, live_tokens, revoke

LEAD = timedelta(hours=24)
OVERLAP = timedelta(hours=24)  # longer than any token lives


@dataclass(frozen=True, slots=True)
class Schedule:
    """What is next, for people. Times are UTC."""

    signing: SigningKey | None
    coming: SigningKey | None  # published already, signs later
    next_at: datetime | None  # when another key begins to sign; None when only on demand


def rotate(tenant_id: UUID, *, by: Actor) -> SigningKey:
    """A new key that signs from now on; the old ones verify for `OVERLAP`. In the tenant's transaction."""
    _lock(tenant_id)
    fresh = create_key(tenant_id, by=by)
    _retire(_live(tenant_id).exclude(pk=fresh.pk), by=by, verifies_until=now() + OVERLAP)
    forget(tenant_id)
    return fresh


def distrust(tenant_id: UUID, *, by: Actor) -> Ended:
    """A new key, and whatever another one ever signed counts for nothing from now on. In the tenant's transaction.

    Refresh tokens are not signed and go on: their clients get tokens of the new key with them.
    """
    _lock(tenant_id)
    tokens = live_tokens(tenant_id)
    fresh = create_key(tenant_id, by=by)
    published = SigningKey.objects.filter(tenant_id=tenant_id).filter(Q(unpublish_at=None) | Q(unpublish_at__gt=now()))
    _retire(published.exclude(pk=fresh.pk), by=by, verifies_until=now(), distrusted=True)
    # The keys are gone from every verifier; this ends what runs under their tokens already, such as open streams
    at = revoke(tenant_id, Revocation.Kind.TENANT, tenant_id)
    lift(tenant_id, Revocation.Kind.TENANT, tenant_id)
    forget(tenant_id)
    return Ended(grants=0, tokens=tokens, at=at)


def rotate_if_due(tenant: Tenant, *, by: Actor) -> SigningKey | None:
    """What the clock asks for; doing it twice changes nothing. Returns the key it made. In the tenant's transaction."""
    _lock(tenant.id)
    keys = list(_live(tenant.id).order_by("-signs_from"))
    signing = next((key for key in keys if key.signs_from <= now()), None)
    if signing is not None:
        former = [key.pk for key in keys if key.signs_from < signing.signs_from]
        _retire(SigningKey.objects.filter(pk__in=former), by=by, verifies_until=now() + OVERLAP)
    days = timedelta(days=tenant.key_rotation_days)
    if not days or not keys or keys[0].signs_from + days > now() + LEAD:
        return None
    return create_key(tenant.id, by=by, signs_from=now() + LEAD)


def schedule(tenant: Tenant) -> Schedule:
    """In the tenant's transaction."""
    keys = list(_live(tenant.id).order_by("-signs_from"))
    signing = next((key for key in keys if key.signs_from <= now()), None)
    coming = keys[0] if keys and keys[0].signs_from > now() else None
    next_at = coming.signs_from if coming else None
    if next_at is None and signing is not None and tenant.key_rotation_days:
        next_at = max(signing.signs_from + timedelta(days=tenant.key_rotation_days), now() + LEAD)
    return Schedule(signing, coming, next_at)


def set_rotation(tenant: Tenant, days: int, *, by: Actor) -> None:
    """Every so many days, or 0 for on demand only. In the tenant's transaction."""
    if days == tenant.key_rotation_days:
        return
    before, tenant.key_rotation_days = tenant.key_rotation_days, days
    tenant.save(update_fields=["key_rotation_days"])
    record(
        Action.TENANT_CHANGED,
        tenant_id=tenant.id,
        actor=by,
        subject_kind="tenant",
        subject=str(tenant.id),
        details={"key_rotation_days": days, "was": before},
    )


def _live(tenant_id: UUID) -> QuerySet[SigningKey]:
    return SigningKey.objects.filter(tenant_id=tenant_id, retired_at=None)


def _retire(keys: QuerySet[SigningKey], *, by: Actor, verifies_until: datetime, distrusted: bool = False) -> None:
    for key in keys:
        key.retired_at = key.retired_at or now()
        key.unpublish_at, key.sealed_private = verifies_until, b""
        key.save(update_fields=["retired_at", "unpublish_at", "sealed_private"])
        record(
            Action.KEY_DISTRUSTED if distrusted else Action.KEY_RETIRED,
            tenant_id=key.tenant_id,
            actor=by,
            subject_kind="key",
            subject=key.kid,
            details={"verifies_until": verifies_until.isoformat()},
        )
        announce(key.tenant_id, "config", f"keys:{key.id}")


def _lock(tenant_id: UUID) -> None:
    """One at a time, until the end of the transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"signing keys of {tenant_id}"])
