"""Where a tenant's issuer stands: at a path of the installation's host, or at a host of its own."""

from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from audit.actions import Action
from audit.record import Actor, record
from tenants.hosts import read_issuer_host
from tenants.models import Tenant
from tenants.notice import announce


def issuer_at(tenant_slug: str, issuer_host: str) -> str:
    """RFC 8414 §2. A host of its own stands at the scheme and port of the installation."""
    base = urlsplit(settings.KNOBS.base_url)
    if not issuer_host:
        return f"{settings.KNOBS.base_url}/t/{tenant_slug}"
    return f"{base.scheme}://{issuer_host}" + (f":{base.port}" if base.port else "")


def move_issuer(tenant: Tenant, host: str, *, by: Actor) -> None:
    """From now on this tenant's issuer is at `host`, or at its path when empty; tokens that name the old place end.

    In the tenant's transaction. Raises ValidationError.
    """
    host = read_issuer_host(host)
    if host == tenant.issuer_host:
        return
    before = issuer_at(tenant.slug, tenant.issuer_host)
    try:
        with transaction.atomic():
            Tenant.objects.filter(pk=tenant.pk).update(issuer_host=host)
    except IntegrityError:
        raise ValidationError("This host is the issuer of another organisation.") from None
    tenant.issuer_host = host
    record(
        Action.TENANT_CHANGED,
        tenant_id=tenant.id,
        actor=by,
        subject_kind="tenant",
        subject=str(tenant.id),
        details={"issuer": issuer_at(tenant.slug, host), "was": before},
    )
    announce(tenant.id, "config", f"tenants:{tenant.id}")
