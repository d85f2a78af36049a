"""Introspection answers as a signed JWT (RFC 9701), for who must be able to show later what we said."""

import time
from collections.abc import Mapping
from typing import Any

from agentauth.keys.addresses import issuer
from agentauth.keys.ring import RingError
from agentauth.keys.signing import NoSigningKey, sign
from agentauth.oauth.door import Answer
from agentauth.oauth.errors import TemporarilyUnavailable
from tenants.models import Tenant

TYPE = "token-introspection+jwt"
MEDIA_TYPE = f"application/{TYPE}"


def is_wanted(accept: str) -> bool:
    """§4: named in Accept, and not less wanted than JSON (RFC 9110 §12.5.1)."""
    weights = _weights(accept)
    return 0.0 < weights.get(MEDIA_TYPE, 0.0) >= weights.get("application/json", 0.0)


def signed(tenant: Tenant, said: Mapping[str, Any], *, audience: str) -> Answer:
    """`said` in a JWT for `audience`, the one who asked. In the tenant's transaction.

    §5: no `sub` and no `exp` at the top, so that nobody can use it as an access token (§8.1).
    """
    claims = {"iss": issuer(tenant), "aud": audience, "iat": int(time.time()), "token_introspection": dict(said)}
    try:
        return Answer(sign(tenant.id, claims, TYPE), media_type=MEDIA_TYPE)
    except (NoSigningKey, RingError):
        raise TemporarilyUnavailable("Nothing can be signed here now.", reason="no_signing_key") from None


def _weights(accept: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for one in accept.lower().split(",")[:20]:
        name, *parameters = (part.strip() for part in one.split(";"))
        weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        try:
            found[name] = min(max(float(weight), 0.0), 1.0)
        except ValueError:
            found[name] = 0.0
    return found
