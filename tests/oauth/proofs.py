"""A holder of a key that proves it as RFC 9449 §4 says, and can be told to say something wrong."""

from __future__ import annotations

import hashlib
import json
import time
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import OKPAlgorithm, get_default_algorithms

from agentauth.keys.signing import thumbprint
from agentauth.oauth.dpop import fresh_nonce

JWS = jwt.PyJWS()
JWS.register_algorithm("Ed25519", OKPAlgorithm())


def new_key(alg: str = "ES256") -> Any:
    if alg in ("EdDSA", "Ed25519"):
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP256R1()) if alg == "ES256" else rsa.generate_private_key(65537, 2048)


@dataclass
class Holder:
    """One key. `proof` makes a good proof with a nonce of now; changes of None leave a member out."""

    alg: str = "ES256"
    key: Any = None
    jwk: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.key = self.key or new_key(self.alg)
        kind = get_default_algorithms()["EdDSA" if self.alg == "Ed25519" else self.alg]
        made = json.loads(kind.to_jwk(self.key.public_key()))
        self.jwk = {name: made[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in made}

    @property
    def jkt(self) -> str:
        return thumbprint(self.jwk)

    def proof(
        self, method: str, url: str, *, token: str = "", header: dict[str, Any] | None = None, **changes: Any
    ) -> str:
        now = time.time()
        claims: dict[str, Any] = {"jti": uuid4().hex, "htm": method, "htu": url, "iat": int(now)}
        claims["nonce"] = fresh_nonce(now)
        if token:
            claims["ath"] = urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).rstrip(b"=").decode()
        said = {name: value for name, value in (claims | changes).items() if value is not None}
        head = {"typ": "dpop+jwt", "jwk": self.jwk} | (header or {})
        text = json.dumps(said).encode()
        return JWS.encode(text, self.key, self.alg, headers={n: v for n, v in head.items() if v is not None})
