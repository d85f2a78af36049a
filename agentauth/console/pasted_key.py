"""A public key as people paste it: PEM, a JWK, or a JWK set with one key."""

from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from django.core.exceptions import ValidationError
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from agentauth.agents.registering import public_part


class NotAKey(Exception):
    """What was pasted is not a public key that we take; the message says what would be."""


def public_jwk(text: str) -> dict[str, Any]:
    """The key as a JWK that `add_key` takes. Raises NotAKey."""
    text = text.strip()
    if not text:
        raise NotAKey("Paste the public key, or make one in this browser.")
    if "PRIVATE KEY" in text:
        raise NotAKey("This is a private key. Paste the public one; the private one stays with the agent.")
    try:
        return public_part(_from_pem(text) if text.startswith("-----") else _from_json(text))
    except ValidationError as wrong:
        raise NotAKey(" ".join(wrong.messages)) from None


def _from_json(text: str) -> dict[str, Any]:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise NotAKey("This is neither PEM (-----BEGIN PUBLIC KEY-----) nor a JWK ({…}).") from None
    if isinstance(found, dict) and isinstance(found.get("keys"), list):
        if len(found["keys"]) != 1:
            raise NotAKey("This set holds more than one key. Paste the one that the agent signs with.")
        found = found["keys"][0]
    if not isinstance(found, dict):
        raise NotAKey("This is not a JWK.")
    return found


def _from_pem(text: str) -> dict[str, Any]:
    try:
        key = load_pem_public_key(text.encode())
    except ValueError:
        raise NotAKey("This PEM does not hold a public key. It begins with -----BEGIN PUBLIC KEY-----.") from None
    if isinstance(key, ec.EllipticCurvePublicKey):
        return dict(ECAlgorithm.to_jwk(key, as_dict=True))
    if isinstance(key, ed25519.Ed25519PublicKey):
        return dict(OKPAlgorithm.to_jwk(key, as_dict=True))
    if isinstance(key, rsa.RSAPublicKey):
        return dict(RSAAlgorithm.to_jwk(key, as_dict=True))
    raise NotAKey("Use EC P-256, Ed25519, or RSA with at least 2048 bits.")
