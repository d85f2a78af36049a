"""The public addresses that tokens are bound to: a tenant's issuer and the resources behind the gateway."""

from django.conf import settings

from tenants.issuer import issuer_at
from tenants.models import Tenant


def issuer(tenant: Tenant) -> str:
    """RFC 8414 §2: `iss` of every token and every authorization response of this tenant."""
    return issuer_at(tenant.slug, tenant.issuer_host)


def pages_url(tenant_slug: str) -> str:
    """Where this tenant's people find its pages, wherever its issuer is."""
    return f"{settings.KNOBS.base_url}/t/{tenant_slug}"


def resource_url(tenant_slug: str, resource_slug: str) -> str:
    """RFC 8707 `resource`, RFC 9068 `aud` of what is behind the gateway."""
    return f"{settings.KNOBS.gateway_url}/{tenant_slug}/{resource_slug}"


def management_url(tenant_slug: str) -> str:
    """`aud` of our own REST API for one tenant."""
    return f"{settings.KNOBS.base_url}/api/v1/tenants/{tenant_slug}"
