"""The keys of a trusted issuer: where it publishes them (OpenID Connect Discovery §4, RFC 7517), or as pasted.

Fetched only by the guarded fetcher and never while a transaction is open: `learn` asks, `known` only looks.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import jwt

from agentauth.agents.models import TrustedIssuer
from agentauth.oauth.kept import Kept, Unreadable

_PARTS = {"EC": ("crv", "x", "y"), "OKP": ("crv", "x"), "RSA": ("n", "e")}
_CURVES = ("P-256", "P-384", "Ed25519")
_MOST = 100
_USES = {TrustedIssuer.Kind.SPIFFE: ("jwt-svid",)}  # JWT-SVID §5.3: other keys of a bundle are for other things
_WELL_KNOWN = "/.well-known/openid-configuration"

Keys = list[dict[str, Any]]


def learn(issuer: TrustedIssuer, *, kid: str | None = None) -> None:
    """Have its keys at hand, asking again when they are old or `kid` is not among them. Never fails."""
    with suppress(Unreadable):
        uri = _address(issuer)
        if uri:
            _sets.get(uri, enough=lambda keys: kid is None or any(key.get("kid") == kid for key in keys))


def known(issuer: TrustedIssuer) -> Keys:
    """Its keys as far as we have them."""
    if issuer.keys_from == TrustedIssuer.KeysFrom.PASTED:
        found = usable(issuer.jwks)
    else:
        uri = issuer.jwks_uri
        if issuer.keys_from == TrustedIssuer.KeysFrom.DISCOVERY:
            uri = _configurations.known(issuer.issuer + _WELL_KNOWN) or ""
        found = _sets.known(uri) or []
    return for_purpose(found, issuer.kind)


def published(issuer: str) -> tuple[str, Keys]:
    """Where `issuer` publishes its keys, and which: asked now. Raises Unreadable."""
    uri = _configurations.fetch(issuer + _WELL_KNOWN)
    return uri, _sets.fetch(uri)


def published_at(uri: str) -> Keys:
    """The key set at `uri`, asked now. Raises Unreadable."""
    return _sets.fetch(uri)


def for_purpose(keys: Keys, kind: str) -> Keys:
    """Those that sign what we read of an issuer of this kind."""
    uses = _USES.get(TrustedIssuer.Kind(kind), (None, "sig"))
    return [{name: value for name, value in key.items() if name != "use"} for key in keys if key.get("use") in uses]


def usable(document: Any) -> Keys:
    """The public keys of a key set that we can use, others left out. Raises ValueError with a sentence."""
    keys = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(keys, list):
        raise ValueError('A key set is a JSON object with a list called "keys".')
    if len(keys) > _MOST:
        raise ValueError(f"More than {_MOST} keys are not read.")
    if any(isinstance(key, dict) and not {"d", "p", "q", "k"}.isdisjoint(key) for key in keys):
        raise ValueError("This key set holds a private key or a shared secret. Only public keys belong in it.")
    return [key for key in map(_usable, keys) if key]


def _usable(key: Any) -> dict[str, Any] | None:
    parts = _PARTS.get(str(key.get("kty"))) if isinstance(key, dict) else None
    if parts is None or not all(isinstance(key.get(part), str) for part in parts):
        return None
    if key.get("crv", "P-256") not in _CURVES:
        return None
    kept = {name: key[name] for name in ("kty", *parts)}
    kept |= {name: key[name] for name in ("kid", "alg", "use") if isinstance(key.get(name), str)}
    try:
        read = jwt.PyJWK({name: value for name, value in kept.items() if name not in ("alg", "use")}).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    return kept if key["kty"] != "RSA" or read.key_size >= 2048 else None


def _address(issuer: TrustedIssuer) -> str:
    if issuer.keys_from == TrustedIssuer.KeysFrom.DISCOVERY:
        return _configurations.get(issuer.issuer + _WELL_KNOWN)
    return issuer.jwks_uri


def _read_configuration(url: str, document: Any) -> str:
    """§4.3: what names another issuer than the one asked is somebody else's."""
    issuer = url.removesuffix(_WELL_KNOWN)
    said = document if isinstance(document, dict) else {}
    if said.get("issuer") != issuer:
        shown = str(said.get("issuer", "nobody"))[:200]
        raise ValueError(f"Its OpenID configuration names the issuer {shown}. Write it exactly so, or not at all.")
    uri = said.get("jwks_uri")
    if not isinstance(uri, str) or not uri.isprintable() or len(uri) > 500:
        raise ValueError("Its OpenID configuration names no jwks_uri.")
    return uri


_configurations: Kept[str] = Kept(_read_configuration)
_sets: Kept[Keys] = Kept(lambda _, document: usable(document))


def forget() -> None:
    """Every copy, as in a new process."""
    _configurations.forget()
    _sets.forget()
