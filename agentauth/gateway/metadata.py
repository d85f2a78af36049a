"""Protected resource metadata (RFC 9728): whoever was refused reads here whom to ask for a token."""

from typing import Any

from agentauth.gateway.snapshot import Resource, Tenant
from agentauth.oauth.authorization_details import TYPES
from agentauth.oauth.dpop import ALGORITHMS

PREFIX = b"/.well-known/oauth-protected-resource/"


def describe(tenant: Tenant, resource: Resource) -> dict[str, Any]:
    said = {
        "resource": resource.url,
        "authorization_servers": [tenant.issuer],
        "scopes_supported": sorted(resource.scopes),
        "bearer_methods_supported": ["header"],
        "resource_name": resource.name,
        "dpop_signing_alg_values_supported": list(ALGORITHMS),
        "dpop_bound_access_tokens_required": resource.bound_tokens_only,  # elsewhere an agent may say it of itself
        "authorization_details_types_supported": list(TYPES),
    }
    return {name: value for name, value in said.items() if value != []}  # §3.2: what has no values is left out
