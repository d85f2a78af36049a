"""JWTs made wrong as a case of `corpora/jwts.json` says. Written out by hand: libraries refuse to make most of them."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from jwt.algorithms import ECAlgorithm

Key = ec.EllipticCurvePrivateKey
CASES: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "corpora" / "jwts.json").read_text())
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_DEEP = "[" * 2500  # deeper than any parser goes, and still short enough for every door


@dataclass
class Good:
    """What a right token says, and the key that signs it. `keys` holds others by name: (kid, key)."""

    header: dict[str, Any]
    claims: dict[str, Any]
    key: Key
    keys: Mapping[str, tuple[str, Key]] = field(default_factory=dict)
    others: Mapping[str, str] = field(default_factory=dict)  # what stands for {name} in a case

    def token(self) -> str:
        return made(self, {})


def new_key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def jwk_of(key: Key, *, private: bool = False) -> dict[str, Any]:
    return dict(ECAlgorithm.to_jwk(key if private else key.public_key(), as_dict=True))


def made(good: Good, case: dict[str, Any]) -> str:
    """The good token, changed in exactly one way."""
    header = _changed({"alg": "ES256"} | good.header, _filled(case.get("header", {}), good))
    claims = _changed(good.claims, _filled(case.get("claims", {}), good))
    key = good.key
    match case.get("key", ""):
        case "other":
            key = new_key()
        case "embedded":
            key = new_key()
            header["jwk"] = jwk_of(key)
        case "another tenant's" | "withdrawn" as name:
            header["kid"], key = good.keys[name]
    match case.get("jwk", ""):
        case "private":
            header["jwk"] = jwk_of(key, private=True)
        case "off the curve":
            header["jwk"] = header["jwk"] | {"y": header["jwk"]["x"]}
    head = _text(header, case.get("header_text"), case.get("header_more", ""))
    body = _text(claims, case.get("text"), case.get("more", ""))
    first, second = _part(head, case.get("header_in", "utf-8")), _part(body, case.get("claims_in", "utf-8"))
    return _shaped(case.get("shape", ""), first, second, _signature(case, header, key, f"{first}.{second}"))


def _changed(what: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A change to null takes the member away."""
    return {name: value for name, value in (what | changes).items() if value is not None}


def _filled(value: Any, good: Good) -> Any:
    """Placeholders are claims of the good token and what `others` says; "+60" is seconds from now."""
    if isinstance(value, list):
        return [_filled(one, good) for one in value]
    if isinstance(value, dict):
        return {_filled(name, good): _filled(inner, good) for name, inner in value.items()}
    if not isinstance(value, str):
        return value
    if value[:1] in ("+", "-") and value[1:].isdigit():
        return int(time.time()) + int(value)
    if value[:2] in ("'+", "'-"):
        return str(int(time.time()) + int(value.strip("'")))
    if value.startswith("#"):
        return float(value[1:])
    aud = good.claims.get("aud", "")
    iss, aud = str(good.claims.get("iss", "")), str(aud[0] if isinstance(aud, list) else aud)
    known = {"iss": iss, "aud": aud, "ISS": iss.upper(), "AUD": aud.upper(), "cut_iss": iss[:-1], "cut_aud": aud[:-1]}
    for name, said in (known | {"htu": str(good.claims.get("htu", ""))} | dict(good.others)).items():
        value = value.replace("{" + name + "}", said)
    return value


def _text(value: dict[str, Any], instead: str | None, more: str) -> str:
    if instead == "DEEP":
        return _DEEP
    return json.dumps(value)[:-1] + more + "}" if instead is None else instead


def _part(text: str | bytes, encoding: str = "utf-8") -> str:
    data = text if isinstance(text, bytes) else text.encode(encoding, "surrogatepass")
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _signature(case: dict[str, Any], header: dict[str, Any], key: Key, text: str) -> str:
    how = case.get("key", "")
    if how == "nothing":
        return ""
    if how.startswith("hmac "):
        kind = "sha512" if header.get("alg") == "HS512" else "sha256"
        return _part(hmac.digest(_public(key, how.removeprefix("hmac "), header), text.encode(), kind))
    signed = text + "x" if case.get("signature") == "of another text" else text
    der = key.sign(signed.encode(), ec.ECDSA(hashes.SHA256()))
    r, s = decode_dss_signature(der)
    raw = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    zero, one = bytes(32), (1).to_bytes(32, "big")
    return _part(
        {
            "zero": zero + zero,
            "r zero": zero + one,
            "s zero": one + zero,
            "the order": _ORDER.to_bytes(32, "big") * 2,
            "DER": der,
            "short": raw[:-1],
            "long": raw + b"\0",
            "all ones": b"\xff" * 64,
        }.get(case.get("signature", ""), raw)
    )


def _public(key: Key, how: str, header: dict[str, Any]) -> bytes:
    if how == "jwk":
        return json.dumps(jwk_of(key)).encode()
    if how == "pem":
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))
    return str(header.get("kid", "")).encode() if how == "kid" else b""


def _shaped(shape: str, head: str, body: str, signature: str) -> str:
    whole = f"{head}.{body}.{signature}"
    half = len(signature) // 2
    within = signature[:half], signature[half:]
    flat = {"protected": head, "payload": body, "signature": signature}
    digest = hashlib.sha256(whole.encode()).digest()
    return {
        "": whole,
        "no signature": f"{head}.{body}",
        "empty signature": f"{head}.{body}.",
        "one part": head,
        "four parts": f"{whole}.{signature}",
        "five parts": f"{whole}.{signature}.{signature}",
        "only dots": "..",
        "empty": "",
        "padded": ".".join(part + "=" * (-len(part) % 4 or 4) for part in (head, body, signature)),
        "padded signature": whole + "==",
        "space before": "  " + whole,
        "space after": whole + "  ",
        "space within": f"{head}.{body}.{' '.join(within)}",
        "newline within": f"{head}.{body}.{within[0]}\n{within[1]}",
        "tab in signature": f"{head}.{body}.{within[0]}\t{within[1]}",
        "standard alphabet": whole.replace("-", "+").replace("_", "/") + "+/",
        "junk in signature": f"{head}.{body}.{within[0]}!*{within[1]}",
        "percent-encoded": whole.replace(".", "%2E"),
        "in quotes": f'"{whole}"',
        "json": json.dumps({"payload": body, "signatures": [{"protected": head, "signature": signature}]}),
        "json flattened": json.dumps(flat),
        "nested": f"{_part(json.dumps({'alg': 'ES256', 'cty': 'JWT'}))}.{_part(whole)}.{signature}",
        "JWE": ".".join((_part('{"alg":"dir","enc":"A128GCM","zip":"DEF"}'), "", _part(digest[:12]), body, signature)),
        "twice": f"{whole} {whole}",
        "non-ASCII": f"{head}.{body}.{within[0]}é{within[1]}",
        "NUL": f"{head}.{body}.{within[0]}\0{within[1]}",
        "half a surrogate": f"{head}.{_part(chr(0xD800))}.{signature}",
        "megabyte": f"{head}.{body}.{signature}" + "A" * 40_000,
        "not base64": "!!!.???.***",
    }[shape]
