"""Protected resource metadata (RFC 9728): whoever was refused reads here whom to ask for a token."""

from typing import Any

from agentauth.gateway.snapshot import Resource, Tenant
from agentauth.oauth.authorization_details import TYPES

PREFIX = b"/.well-known/oauth-protected-resource/"


def describe(tenant: Tenant, resource: Resource) -> dict[str, Any]:
    return {
        "resource": resource.url,
        "authorization_servers": [tenant.issuer],
        "scopes_supported": sorted(resource.scopes),
        "bearer_methods_supported": ["header"],
        "resource_name": resource.name,
        "authorization_details_types_supported": list(TYPES),
    }
