"""DPoP proofs (RFC 9449 §4): a short JWT by which the sender of one request shows that it holds a key. Pure.

Every proof must carry a nonce of ours (§8, §9): a proof made ahead, or kept from an old log, is worth nothing.
"""

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from django.conf import settings

from agentauth.keys.compact import is_compact
from agentauth.keys.signing import thumbprint
from agentauth.keys.verifying import public_key, signed_claims, type_in
from agentauth.oauth.errors import InvalidDPoPProof, UseDPoPNonce

ALGORITHMS = ("ES256", "Ed25519", "EdDSA", "PS256", "RS256")  # RFC 9864 §2.2: the second is the third by a plainer name
CLOCKS_APART = 300  # seconds between a client's clock and ours: how fresh a proof is, the nonce says more exactly
NONCE_SECONDS = 120  # a nonce is given out for so long and good for as long again
LONGEST = 4096
_MEMBERS = {"EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x"), "RSA": ("e", "kty", "n")}
_PRIVATE = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}
_KIND = {
    "ES256": ("EC", "P-256"),
    "Ed25519": ("OKP", "Ed25519"),
    "EdDSA": ("OKP", "Ed25519"),
    "PS256": ("RSA", None),
    "RS256": ("RSA", None),
}
_RSA_BITS = (2048, 4096)
_ESCAPED = re.compile(r"%[0-9A-Fa-f]{2}")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Proof:
    """A proof that is good now. It may be used once: `mark` is what to remember of it, until `expires` (UTC)."""

    jkt: str  # RFC 7638 thumbprint of its key
    alg: str
    mark: bytes
    expires: datetime


def read_proof(presented: str, *, method: str, url: str, now: float, token: str = "") -> Proof:
    """The proof in a DPoP header, for a request with `method` to `url` (absolute) and, at a resource, this token.

    `now` is in seconds since 1970. The checks of §4.3, the nonce last: UseDPoPNonce is raised where nothing else is
    wrong, InvalidDPoPProof for all the rest.
    """
    jwk, alg = _header(presented)
    claims = _claims(presented, jwk, alg)
    if claims.get("htm") != method:
        raise InvalidDPoPProof("The proof is for another method: htm.", reason="proof_method")
    here = _plain(url)
    if here is None or not isinstance(claims.get("htu"), str) or _plain(claims["htu"]) != here:
        raise InvalidDPoPProof("The proof is for another address: htu.", reason="proof_address")
    at = claims.get("iat")
    if isinstance(at, bool) or not isinstance(at, int | float) or not now - CLOCKS_APART <= at <= now + CLOCKS_APART:
        raise InvalidDPoPProof("The proof is not from now: iat.", reason="proof_time")
    if token and not _is_hash_of(claims.get("ath"), token):
        raise InvalidDPoPProof("The proof is for another access token: ath.", reason="proof_token")
    jti = claims.get("jti")
    if not isinstance(jti, str) or not 0 < len(jti) <= 255:
        raise InvalidDPoPProof("The proof has no jti.", reason="proof_malformed")
    ends = nonce_ends(claims.get("nonce"), now)
    if ends is None:
        raise UseDPoPNonce("Use the nonce in the DPoP-Nonce header.")
    jkt = thumbprint(jwk)
    mark = hashlib.sha256("\0".join((jkt, here, jti)).encode("utf-8", "surrogatepass")).digest()  # §11.1
    return Proof(jkt, alg, mark, datetime.fromtimestamp(ends, UTC))


def fresh_nonce(now: float) -> str:
    """What to send in DPoP-Nonce (§8). Nobody can know it before its time; nothing of it is stored."""
    return _nonce_of(int(now) // NONCE_SECONDS)


def nonce_ends(nonce: Any, now: float) -> int | None:
    """When a nonce of ours ends, in seconds since 1970; None if it is not one, or no longer."""
    if not isinstance(nonce, str) or not nonce.isascii():
        return None
    current = int(now) // NONCE_SECONDS
    for number in (current, current - 1):
        if hmac.compare_digest(nonce, _nonce_of(number)):
            return (number + 2) * NONCE_SECONDS
    return None


def _header(presented: str) -> tuple[dict[str, Any], str]:
    """The key that came with it, public parts only, and the algorithm (§4.2)."""
    if len(presented) > LONGEST:
        raise InvalidDPoPProof("The proof is too long.", reason="proof_malformed")
    try:
        if not is_compact(presented):
            raise ValueError
        header = jwt.get_unverified_header(presented)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise InvalidDPoPProof("Send one DPoP header that holds one JWT.", reason="proof_malformed") from None
    jwk, alg = header.get("jwk"), header.get("alg")
    if type_in(header) != "dpop+jwt" or "crit" in header or header.get("b64", True) is not True:
        raise InvalidDPoPProof("The proof is of another type: typ is dpop+jwt.", reason="proof_type")
    if alg not in ALGORITHMS:
        raise InvalidDPoPProof(f"The algorithm is one of {', '.join(ALGORITHMS)}.", reason="proof_algorithm")
    kty, crv = _KIND[alg]
    if not isinstance(jwk, dict) or jwk.get("kty") != kty or jwk.get("crv") != crv or jwk.get("alg", alg) != alg:
        raise InvalidDPoPProof("The proof brings no key that fits its algorithm: jwk.", reason="proof_key")
    if kty == "RSA" and len(str(jwk.get("e"))) > 6:  # an exponent that keeps us busy
        raise InvalidDPoPProof("The exponent of the key is too large: jwk.", reason="proof_key")
    if _PRIVATE & set(jwk):
        raise InvalidDPoPProof("The proof holds a private key. It is no longer secret.", reason="proof_private_key")
    return {name: jwk.get(name) for name in _MEMBERS[kty]}, alg


def _claims(presented: str, jwk: dict[str, Any], alg: str) -> dict[str, Any]:
    try:
        return signed_claims(presented, _public_key(*jwk.items()), alg)
    except jwt.InvalidSignatureError:
        raise InvalidDPoPProof("The proof is not signed by its key.", reason="proof_signature") from None
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        raise InvalidDPoPProof("The proof or its key cannot be read.", reason="proof_malformed") from None


@lru_cache(maxsize=4096)
def _public_key(*members: tuple[str, str]) -> Any:
    """Kept, since a client's key comes with each of its requests."""
    key = public_key(dict(members))
    if isinstance(key, RSAPublicKey) and not _RSA_BITS[0] <= key.key_size <= _RSA_BITS[1]:
        raise ValueError("this RSA key is too short, or so long that it keeps us busy")
    return key


def _is_hash_of(said: Any, token: str) -> bool:
    digest = urlsafe_b64encode(hashlib.sha256(token.encode("ascii", "replace")).digest()).rstrip(b"=").decode()
    return isinstance(said, str) and said.isascii() and hmac.compare_digest(said, digest)


def _plain(url: str) -> str | None:
    """§4.3 no. 9: without query and fragment, after the normalisation of RFC 3986 §6.2.2 and §6.2.3."""
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme.lower(), parts.hostname, parts.port
    except ValueError:
        return None
    if scheme not in _PORTS or not host or "@" in parts.netloc or any(ord(c) < 0x21 for c in url):
        return None
    named = f"[{host}]" if ":" in host else host
    where = f":{port}" if port not in (None, _PORTS[scheme]) else ""
    return f"{scheme}://{named}{where}{_ESCAPED.sub(_unescaped, parts.path) or '/'}"


def _unescaped(found: re.Match[str]) -> str:
    character = chr(int(found[0][1:], 16))
    return character if _UNRESERVED.fullmatch(character) else found[0].upper()


@lru_cache(maxsize=4)
def _nonce_of(number: int) -> str:
    return urlsafe_b64encode(hmac.digest(_nonce_key(), number.to_bytes(8), hashlib.sha256)[:18]).decode()


@cache
def _nonce_key() -> bytes:
    return hashlib.sha256(b"agentauth dpop nonce\0" + settings.SECRET_KEY.encode()).digest()
