"""Verifying a JWS with the public key of whoever signed it (RFC 7515 §5.2), whichever name its algorithm goes by. Pure.

The caller has decided already that this key may sign with this algorithm.
"""

import json
from collections.abc import Mapping
from typing import Any, Never

import jwt
from jwt.algorithms import OKPAlgorithm
from jwt.utils import base64url_decode

_OLDER = {"Ed25519": "EdDSA"}  # RFC 9864 §2.2: the first is what the second means with a key of that curve
_BRINGS_OR_WANTS = {"jwk", "jku", "x5u", "x5c", "crit", "b64"}
_JWS = jwt.PyJWS()
for _name in _OLDER:
    _JWS.register_algorithm(_name, OKPAlgorithm())


def is_plain(header: Mapping[str, Any]) -> bool:
    """Does it bring no key along, nor want what we do not know? Anything else in it is passed over (RFC 7515 §4)."""
    return not _BRINGS_OR_WANTS & set(header)


def type_in(header: Mapping[str, Any]) -> str:
    """`typ` in small letters, empty without one: a type of media whose `application/` may be left out (§4.1.9)."""
    return str(header.get("typ", "")).lower().removeprefix("application/")


def one_name(alg: str) -> str:
    """Of an algorithm with two names the older one, which keys and settings were stored with."""
    return _OLDER.get(alg, alg)


def public_key(jwk: Mapping[str, Any]) -> Any:
    """Raises jwt.PyJWTError, ValueError, TypeError for what is no key."""
    return jwt.PyJWK({name: value for name, value in jwk.items() if name != "alg"}).key


def signed_claims(token: str, key: Any, alg: str) -> dict[str, Any]:
    """The claims in `token`, signed by `key` with `alg`; nothing else about them is checked.

    Raises jwt.PyJWTError, ValueError, RecursionError.
    """
    claims = _read(_JWS.decode(token, key, algorithms=[alg]))
    _read(base64url_decode(token.partition(".")[0]))
    if not isinstance(claims, dict):
        raise jwt.DecodeError("no claims")
    return claims


def _read(text: bytes) -> Any:
    """JSON in UTF-8 and nothing else (RFC 7519 §7.2): Python takes NaN as well, and other encodings."""
    return json.loads(text.decode(), parse_constant=_no_json)


def _no_json(constant: str) -> Never:
    raise ValueError(f"{constant} is no JSON")
