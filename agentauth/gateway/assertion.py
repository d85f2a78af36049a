"""Who calls, told to the upstream: a token of seconds, signed by the tenant, in the shape of a transaction token.

The agent's own token never goes upstream. The upstream verifies this one with the tenant's published keys.
"""

import time
from base64 import urlsafe_b64encode
from functools import lru_cache

import orjson
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from agentauth.gateway.intent import Intent
from agentauth.gateway.snapshot import Resource, Tenant
from agentauth.keys.signing import Signer

HEADER = "AgentAuth-Assertion"
SECONDS = 30
_ES256 = ec.ECDSA(hashes.SHA256())


def assertion(tenant: Tenant, resource: Resource, intent: Intent) -> str:
    """The header's value: a JWS of typ `txntoken+jwt` over who calls for whom, under which grant, doing what."""
    assert tenant.signer is not None
    who, now = intent.principal, int(time.time())
    claims: dict[str, object] = {
        "iss": tenant.issuer,
        "sub": str(who.member_id or who.chain[-1]),
        "aud": resource.origin,
        "iat": now,
        "exp": now + SECONDS,
        "jti": str(intent.call_id),
        "call_id": str(intent.call_id),
        "tenant": tenant.slug,
        "grant_id": str(who.grant_id),
        "client_id": who.client_id,
        "resource": resource.url,
        "operation": intent.operation,
    }
    act: dict[str, object] | None = None
    for iss, sub in reversed(who.strangers):  # RFC 8693 §4.1: an actor of another issuer is `iss` and `sub` together
        act = {"iss": iss, "sub": sub} | ({"act": act} if act else {})
    for agent in reversed(who.chain if who.member_id else who.chain[:-1]):
        act = {"sub": str(agent)} | ({"act": act} if act else {})
    if act:
        claims["act"] = act
    return _signed(tenant.signer, orjson.dumps(claims))


def _signed(signer: Signer, claims: bytes) -> str:
    """RFC 7515 §3.1, RFC 7518 §3.4. Written out because it runs on every call: a third faster than the library."""
    text = _head(signer.kid) + b"." + urlsafe_b64encode(claims).rstrip(b"=")
    r, s = decode_dss_signature(signer.key.sign(text, _ES256))
    signature = urlsafe_b64encode(r.to_bytes(32) + s.to_bytes(32)).rstrip(b"=")
    return (text + b"." + signature).decode()


@lru_cache(maxsize=4096)
def _head(kid: str) -> bytes:
    return urlsafe_b64encode(orjson.dumps({"alg": "ES256", "kid": kid, "typ": "txntoken+jwt"})).rstrip(b"=")
