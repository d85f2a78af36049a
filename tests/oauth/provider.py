"""Somebody else's issuer with keys of its own: an identity provider, a place where machines run, a trust domain."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from agentauth.agents.models import TrustedIssuer
from agentauth.agents.trusting import trust_issuer
from agentauth.keys.addresses import issuer as our_issuer
from tenants.rls import in_tenant
from tests.cast import House
from tests.oauth.proofs import JWS

IDP = "https://idp.acme.example"
ACTIONS = "https://token.actions.githubusercontent.com"
CLUSTER = "https://kubernetes.default.svc.cluster.local"
DOMAIN = "spiffe://acme.example"
LONG = "x" * 4000


@dataclass
class Provider:
    """An issuer; its key is made once and its private half never leaves here."""

    issuer: str = IDP
    kid: str = "one"
    key: Any = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    use: str = "sig"

    @property
    def alg(self) -> str:
        if isinstance(self.key, ed25519.Ed25519PrivateKey):
            return "Ed25519"
        return "RS256" if isinstance(self.key, rsa.RSAPrivateKey) else "ES256"

    @property
    def jwk(self) -> dict[str, Any]:
        kinds: dict[str, Any] = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "Ed25519": OKPAlgorithm}
        return dict(kinds[self.alg].to_jwk(self.key.public_key(), as_dict=True)) | {"kid": self.kid, "use": self.use}

    @property
    def jwks(self) -> dict[str, Any]:
        return {"keys": [self.jwk]}

    def trusted_by(self, house: House, kind: str = "enterprise", **said: Any) -> TrustedIssuer:
        fields: dict[str, Any] = {"keys_from": "pasted", "jwks": self.jwks, "name": "Acme SSO"}
        with in_tenant(house.tenant.id):
            return trust_issuer(house.tenant, by=house.owner, kind=kind, issuer=self.issuer, **fields | said)

    def sign(self, claims: dict[str, Any], header: dict[str, Any] | None = None, *, key: str = "") -> str:
        """A JWT. `key` signs it wrongly: other, none, hmac pem, hmac jwk, embedded."""
        said = {name: value for name, value in claims.items() if value is not None}
        head: dict[str, Any] = {"kid": self.kid} | (header or {})
        if key == "none":
            return jwt.encode(said, "", algorithm="none", headers=head)
        if key.startswith("hmac"):
            return _hmac(said, head, self._public(key))
        signer = ec.generate_private_key(ec.SECP256R1()) if key in ("other", "embedded") else self.key
        if key == "embedded":
            head["jwk"] = dict(ECAlgorithm.to_jwk(signer.public_key(), as_dict=True))
        alg = "ES256" if key in ("other", "embedded") else self.alg
        return JWS.encode(json.dumps(said).encode(), signer, alg, headers=head)

    def _public(self, key: str) -> bytes:
        if key == "hmac jwk":
            return json.dumps(self.jwk).encode()
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return bytes(self.key.public_key().public_bytes(serialization.Encoding.PEM, form))


def _hmac(claims: dict[str, Any], header: dict[str, Any], secret: bytes) -> str:
    """Written out: libraries refuse to sign with what looks like a public key."""
    import hmac
    from base64 import urlsafe_b64encode

    def part(value: Any) -> str:
        return urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    text = f"{part(header | {'alg': 'HS256'})}.{part(claims)}"
    return text + "." + urlsafe_b64encode(hmac.digest(secret, text.encode(), "sha256")).rstrip(b"=").decode()


def at(value: Any) -> Any:
    """Times in a corpus are written "+60": seconds from now."""
    if isinstance(value, str) and value[:1] in "+-" and value[1:].isdigit():
        return int(time.time()) + int(value)
    return value


def times(lifetime: int = 300) -> dict[str, Any]:
    now = int(time.time())
    return {"iat": now, "exp": now + lifetime, "jti": str(uuid4())}


def us(house: House) -> str:
    return our_issuer(house.tenant)


def spoiled(
    provider: Provider, house: House, claims: dict[str, Any], header: dict[str, Any], case: dict[str, Any]
) -> str:
    """A good token made bad as a case of `corpora/foreign_tokens.json` says."""

    def filled(value: Any) -> Any:
        if isinstance(value, str):
            return at(value.replace("{us}", us(house)).replace("{issuer}", provider.issuer).replace("{long}", LONG))
        if isinstance(value, list):
            return [filled(one) for one in value]
        return {name: filled(one) for name, one in value.items()} if isinstance(value, dict) else value

    changed = claims | {name: filled(value) for name, value in case.get("claims", {}).items()}
    return provider.sign(changed, header | case.get("header", {}), key=case.get("key", ""))
