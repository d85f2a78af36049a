"""Making and using a tenant's signing keys (ES256, RFC 7518 §3.4).

Private keys are opened once per process and kept; a new key is heard of by its row, read again every `_FRESH` seconds.
"""

import hashlib
import time
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from django.db.models import Q
from django.utils.timezone import now

from agentauth.keys import ring
from agentauth.keys.models import SigningKey
from audit.actions import Action
from audit.record import Actor, record
from tenants.notice import announce
from tenants.rls import new_id

PURPOSE = "signing"
_FRESH = 1.0  # seconds
_ES256 = ec.ECDSA(hashes.SHA256())


class NoSigningKey(Exception):
    """This tenant has no key that may sign; issuing stops, nothing else does."""


@dataclass(frozen=True, slots=True)
class Signer:
    kid: str
    key: ec.EllipticCurvePrivateKey


_signers: dict[UUID, tuple[float, Signer]] = {}


def create_key(tenant_id: UUID, *, by: Actor, signs_from: datetime | None = None) -> SigningKey:
    """A new key, published at once; it signs from now on, or from `signs_from`. In the tenant's transaction."""
    private = ec.generate_private_key(ec.SECP256R1())
    public_jwk = _public_jwk(private.public_key())
    key = SigningKey(id=new_id(), tenant_id=tenant_id, kid=public_jwk["kid"], public_jwk=public_jwk)
    key.signs_from = signs_from or key.created_at
    der = private.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    key.sealed_private = ring.seal(der, tenant_id=tenant_id, row_id=key.id, purpose=PURPOSE)
    key.save(force_insert=True)
    record(
        Action.KEY_CREATED,
        tenant_id=tenant_id,
        actor=by,
        subject_kind="key",
        subject=key.kid,
        details={"signs_from": key.signs_from.isoformat()},
    )
    announce(tenant_id, "config", f"keys:{key.id}")
    return key


def forget(tenant_id: UUID) -> None:
    """Read the key that signs anew when next needed."""
    _signers.pop(tenant_id, None)


def signer(tenant_id: UUID) -> Signer:
    """The key that signs now. In the tenant's transaction. Raises NoSigningKey, ring.RingError."""
    known = _signers.get(tenant_id)
    if known and known[0] > time.monotonic():
        return known[1]
    row = SigningKey.objects.filter(tenant_id=tenant_id, retired_at=None, signs_from__lte=now()).order_by("-signs_from")
    key = row.first()
    if key is None:
        raise NoSigningKey(tenant_id)
    if known and known[1].kid == key.kid:
        found = known[1]
    else:
        der = ring.unseal(key.sealed_private, tenant_id=tenant_id, row_id=key.id, purpose=PURPOSE)
        private = serialization.load_der_private_key(der, None)
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        found = Signer(key.kid, private)
    _signers[tenant_id] = (time.monotonic() + _FRESH, found)
    return found


def sign(tenant_id: UUID, claims: dict[str, Any], typ: str) -> str:
    """A compact JWS over `claims`, header `typ` (RFC 9068: `at+jwt`)."""
    return signed_by(signer(tenant_id), claims, typ)


def signed_by(by: Signer, claims: dict[str, Any], typ: str) -> str:
    """The same, with the key at hand. Written out because it is on the hot path: a third less than PyJWT's encode."""
    header = orjson.dumps({"alg": "ES256", "kid": by.kid, "typ": typ})
    signed = _base64url(header) + b"." + _base64url(orjson.dumps(claims))
    r, s = decode_dss_signature(by.key.sign(signed, _ES256))
    return (signed + b"." + _base64url(r.to_bytes(32) + s.to_bytes(32))).decode()  # RFC 7518 §3.4: R ‖ S


def public_keys(tenant_id: UUID) -> dict[str, dict[str, Any]]:
    """The published keys by `kid`: those that sign and those that still verify."""
    rows = SigningKey.objects.filter(tenant_id=tenant_id).filter(Q(unpublish_at=None) | Q(unpublish_at__gt=now()))
    return {key.kid: key.public_jwk for key in rows}


def jwks(tenant_id: UUID) -> dict[str, Any]:
    """RFC 7517 §5."""
    return {"keys": list(public_keys(tenant_id).values())}


def thumbprint(jwk: dict[str, Any]) -> str:
    """RFC 7638, of an EC, OKP or RSA key."""
    needed = {"EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x"), "RSA": ("e", "kty", "n")}[jwk["kty"]]
    digest = hashlib.sha256(orjson.dumps({name: jwk[name] for name in needed}, option=orjson.OPT_SORT_KEYS)).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


def _base64url(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


def _public_jwk(public: ec.EllipticCurvePublicKey) -> dict[str, str]:
    numbers = public.public_numbers()
    x, y = (urlsafe_b64encode(n.to_bytes(32)).rstrip(b"=").decode() for n in (numbers.x, numbers.y))
    jwk = {"kty": "EC", "crv": "P-256", "x": x, "y": y, "alg": "ES256", "use": "sig"}
    return jwk | {"kid": thumbprint(jwk)}
