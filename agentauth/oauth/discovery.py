"""Authorization server metadata (RFC 8414) and OpenID discovery, per tenant. Says what works, and all of it."""

from collections.abc import Mapping
from typing import Any

from agentauth.agents.models import TrustedIssuer
from agentauth.agents.registering import DELIVERY_MODES
from agentauth.keys.addresses import issuer
from agentauth.keys.signing import jwks as public_key_set
from agentauth.oauth.authorization_details import TYPES
from agentauth.oauth.authorization_request import PROTOCOL_SCOPES
from agentauth.oauth.client_assertion import ALGORITHMS
from agentauth.oauth.client_metadata import SIGNED_INTROSPECTION
from agentauth.oauth.door import open_document
from agentauth.oauth.dpop import ALGORITHMS as PROOF_ALGORITHMS
from agentauth.oauth.grants import GRANT_TYPES, jwt_bearer
from agentauth.oauth.trust.issuers import kinds_trusted
from agentauth.policy.conditions.sign_in import LEVELS
from tenants.models import Tenant
from tenants.rls import in_tenant

_CLIENT_AUTHENTICATION = ["none", "client_secret_basic", "client_secret_post", "private_key_jwt"]
# No permissions: each resource names its own (RFC 9728 §2). offline_access is taken too, but not announced: a refresh
# token comes with its grant type, and MCP clients that see it here have the person asked anew each time
_SCOPES = [name for name in PROTOCOL_SCOPES if name != "offline_access"]


@open_document
def metadata(tenant: Tenant) -> Mapping[str, Any]:
    """The same document for RFC 8414 §3 and OpenID Connect Discovery §4: clients ask for either."""
    here, trusted = issuer(tenant), kinds_trusted(tenant)
    proofs = _CLIENT_AUTHENTICATION + (["spiffe_jwt"] if TrustedIssuer.Kind.SPIFFE in trusted else [])
    document: dict[str, Any] = {
        "issuer": here,
        "authorization_endpoint": f"{here}/oauth/authorize",
        "pushed_authorization_request_endpoint": f"{here}/oauth/par",
        "device_authorization_endpoint": f"{here}/oauth/device_authorization",
        "backchannel_authentication_endpoint": f"{here}/oauth/bc-authorize",
        "backchannel_token_delivery_modes_supported": list(DELIVERY_MODES),
        "backchannel_user_code_parameter_supported": False,
        "token_endpoint": f"{here}/oauth/token",
        "jwks_uri": f"{here}/oauth/jwks.json",
        "revocation_endpoint": f"{here}/oauth/revoke",
        "introspection_endpoint": f"{here}/oauth/introspect",
        "userinfo_endpoint": f"{here}/oauth/userinfo",
        "scopes_supported": _SCOPES,
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": [name for name in GRANT_TYPES if trusted or name != jwt_bearer.GRANT_TYPE],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": proofs,
        "token_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS),
        "revocation_endpoint_auth_methods_supported": proofs,
        "revocation_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS),
        "introspection_endpoint_auth_methods_supported": proofs[1:],  # not public clients (RFC 7662 §2.1)
        "introspection_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS),
        "introspection_signing_alg_values_supported": list(SIGNED_INTROSPECTION),
        "dpop_signing_alg_values_supported": list(PROOF_ALGORITHMS),
        "authorization_response_iss_parameter_supported": True,
        "authorization_details_types_supported": list(TYPES),
        "acr_values_supported": list(LEVELS),
        "client_id_metadata_document_supported": tenant.open_registration,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
        "claims_parameter_supported": False,
        "claims_supported": ["sub", "name", "email", "auth_time", "acr"],
        "prompt_values_supported": ["none", "login", "consent", "select_account"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    }
    if TrustedIssuer.Kind.ENTERPRISE in trusted:  # draft-ietf-oauth-identity-assertion-authz-grant §7.2
        document["authorization_grant_profiles_supported"] = [jwt_bearer.GRANT_PROFILE]
    if tenant.open_registration:
        document["registration_endpoint"] = f"{here}/oauth/register"
    return document


@open_document
def jwks(tenant: Tenant) -> Mapping[str, Any]:
    """RFC 7517 §5: the keys that sign and those that still verify."""
    with in_tenant(tenant.id):
        return public_key_set(tenant.id)
