"""An organisation's sign-in provider, as an agent sees it: for a person's id token it writes a letter (ID-JAG)."""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from tests.flows.document_host import DocumentHost

ID_JAG = "urn:ietf:params:oauth:token-type:id-jag"


class IdentityProvider:
    """Publishes its metadata and keys at `web`, and exchanges tokens there (RFC 8693). It allows all that is asked."""

    def __init__(self, web: DocumentHost, path: str) -> None:
        self.issuer = web.base + path
        self.letters: list[dict[str, Any]] = []
        self._key = ec.generate_private_key(ec.SECP256R1())
        jwk = dict(ECAlgorithm.to_jwk(self._key.public_key(), as_dict=True)) | {"kid": "one", "use": "sig"}
        web.publish(f"{path}/jwks", {"keys": [jwk]})
        web.publish(
            f"{path}/.well-known/openid-configuration",
            {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/jwks",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256"],
            },
        )
        web.answers[f"{path}/token"] = self._exchange

    def id_token(self, client_id: str, email: str) -> str:
        """What the person's sign-in at the provider gave the client."""
        return self._sign({"sub": email.partition("@")[0], "aud": client_id, "email": email}, "JWT")

    def letter(self, client_id: str, id_token: str, *, audience: str, resource: str, scope: str | None) -> str:
        person = jwt.decode(id_token, self._key.public_key(), algorithms=["ES256"], audience=client_id)
        said = {name: person[name] for name in ("sub", "email")} | {"email_verified": True, "jti": str(uuid4())}
        said |= {"client_id": client_id, "aud": audience, "resource": resource}
        self.letters.append(said | ({"scope": scope} if scope else {}))
        return self._sign(self.letters[-1], "oauth-id-jag+jwt")

    def _exchange(self, asked: dict[str, str]) -> dict[str, Any]:
        assert asked["requested_token_type"] == ID_JAG
        letter = self.letter(
            asked["client_id"],
            asked["subject_token"],
            audience=asked["audience"],
            resource=asked["resource"],
            scope=asked.get("scope"),
        )
        return {"access_token": letter, "issued_token_type": ID_JAG, "token_type": "N_A", "expires_in": 60}

    def _sign(self, claims: dict[str, Any], typ: str) -> str:
        now = int(time.time())
        said = claims | {"iss": self.issuer, "iat": now, "auth_time": now, "exp": now + 60}
        return jwt.encode(said, self._key, algorithm="ES256", headers={"kid": "one", "typ": typ})
