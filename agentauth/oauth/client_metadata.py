"""Client metadata (RFC 7591 §2), as a registration sends it or a client's own document holds it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError

from agentauth.agents.registering import CIBA, JWT_BEARER, delivery, public_part
from agentauth.grants.arguments import is_unseen
from agentauth.oauth.client_assertion import ALGORITHMS as ASSERTION_ALGORITHMS
from agentauth.oauth.errors import InvalidClientMetadata, InvalidRedirectUri, InvalidScope
from agentauth.oauth.parameters import scope_names
from agentauth.oauth.redirect_uris import LOOPBACK, is_loopback, require_registrable

# What a client may do that nobody here registered: act for a person, under that person's consent
_DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
SELF_SERVICE_GRANTS = ("authorization_code", "refresh_token", _DEVICE, CIBA, JWT_BEARER)
_BEGINS = {"authorization_code", _DEVICE, CIBA}  # one of these a client needs
SECRET_METHODS = ("client_secret_basic", "client_secret_post")
METHODS = ("none", *SECRET_METHODS, "private_key_jwt")
SIGNED_INTROSPECTION = ("ES256",)  # RFC 9701 §6
_MOST_URIS = 30
_HERE = {host.strip("[]") for host in LOOPBACK}
_NO_ENCRYPTION = ("introspection_encrypted_response_alg", "introspection_encrypted_response_enc")
_ECHOED_TEXTS = ("client_uri", "logo_uri", "tos_uri", "policy_uri", "software_id", "software_version")
_DESCRIBES = (*_ECHOED_TEXTS, "contacts", "scope")  # nothing depends on it
_URLS = ("client_uri", "logo_uri", "tos_uri", "policy_uri")
_DEMANDS = ("dpop_bound_access_tokens", "require_pushed_authorization_requests")  # RFC 9449 §5.2, RFC 9126 §6


@dataclass(frozen=True, slots=True)
class ClientMetadata:
    """What we took of it. `echo` is the whole answer to a registration, without what we add (RFC 7591 §3.2.1)."""

    name: str
    redirect_uris: list[str]
    grant_types: list[str]
    auth_method: str
    jwks: dict[str, Any] | None
    jwks_uri: str
    echo: dict[str, Any]

    @property
    def identity(self) -> tuple[object, ...]:
        """What makes it the same client: when this changes, people are asked again."""
        return sorted(self.redirect_uris), self.auth_method, self.jwks, self.jwks_uri


def read_registration(document: Mapping[str, Any]) -> ClientMetadata:
    """RFC 7591 §3.1. Unknown members are ignored (§2); what is asked for and not possible is refused.

    A member that is null counts as left out (RFC 7592 §2.2).
    """
    document = _without_nulls(document)
    uris = [require_registrable(uri) for uri in _redirect_uris(document)]
    method = document.get("token_endpoint_auth_method", "client_secret_basic")  # the default of §2
    if method not in METHODS:
        raise InvalidClientMetadata("This token_endpoint_auth_method is not supported.")
    _check_application_type(document.get("application_type"), uris)
    _check_unused_keys(document, method)
    found = _read(document, uris, method, strict=True)
    found.echo.update(_signed_introspection(document, method))
    return found


def read_document(document: Mapping[str, Any]) -> ClientMetadata:
    """A client's own document: what we do not support in it is left aside, as long as something usable remains."""
    if any(name in document for name in ("client_secret", "client_secret_expires_at")):
        raise InvalidClientMetadata("A client document holds no secret.")
    document = _without_nulls(document)
    if not isinstance(document.get("client_name"), str) or not document["client_name"].strip():
        raise InvalidClientMetadata("The client document has no client_name.")
    return _read(document, _usable(_redirect_uris(document)), _method_of_document(document), strict=False)


def _read(document: Mapping[str, Any], uris: list[str], method: str, *, strict: bool) -> ClientMetadata:
    jwks, jwks_uri = _keys(document, method)
    grants = _texts(document, "grant_types", ["authorization_code"])
    usable = [grant for grant in SELF_SERVICE_GRANTS if grant in grants]
    told = _delivery(document, method, strict=strict) if CIBA in usable else {}
    usable = [grant for grant in usable if grant != CIBA or told]
    usable = [grant for grant in usable if grant != JWT_BEARER or method != "none"]  # for who proves itself
    if not _BEGINS & set(usable):
        raise InvalidClientMetadata("A client that registers itself needs the grant authorization_code or device_code.")
    redirects = "authorization_code" in usable
    if redirects and "code" not in _texts(document, "response_types", ["code"]):
        raise InvalidClientMetadata("The response type must be code.")
    name, kind = clean_name(document.get("client_name"), uris), document.get("application_type")
    echo: dict[str, Any] = {
        "client_name": name,
        "redirect_uris": uris,
        "grant_types": usable,
        "response_types": ["code"] if redirects else [],
        "token_endpoint_auth_method": method,
        "application_type": kind if kind in ("web", "native") else _kind_of(uris),
        "id_token_signed_response_alg": "ES256",  # whatever was asked for; OpenID clients expect RS256 unless told
    }
    if method == "private_key_jwt":
        echo |= _assertion_algorithm(document, strict=strict)
    echo |= told | _described(document, strict=strict)
    echo |= {name: _flag(document, name) for name in _DEMANDS if name in document}
    if jwks:
        echo["jwks"] = jwks
    if jwks_uri:
        echo["jwks_uri"] = jwks_uri
    return ClientMetadata(name, uris, usable, method, jwks, jwks_uri, echo)


def _without_nulls(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if value is not None}


def _described(document: Mapping[str, Any], *, strict: bool) -> dict[str, Any]:
    """What is only there to be read: wrong in a registration it is refused, in a client's own document left aside."""
    found: dict[str, Any] = {}
    for name in (name for name in _DESCRIBES if name in document):
        try:
            found[name] = _description(document, name)
        except InvalidClientMetadata:
            if strict:
                raise
    return found


def _description(document: Mapping[str, Any], name: str) -> Any:
    if name == "scope":
        return _scope(document["scope"])
    return _texts(document, name, []) if name == "contacts" else _text(document, name)


def clean_name(name: Any, uris: list[str]) -> str:
    """A name as people read it: no control or direction marks, no letters that show nothing. It proves nothing."""
    if name is not None and not isinstance(name, str):
        raise InvalidClientMetadata("client_name must be text.")
    plain = "".join(" " if is_unseen(c) else c for c in name or "")
    plain = " ".join(plain.split())[:80]
    host = urlsplit(uris[0]).hostname if uris else None
    return plain or f"Unnamed client of {host or 'this computer'}"[:80]


def _redirect_uris(document: Mapping[str, Any]) -> list[Any]:
    uris = document.get("redirect_uris")
    grants = document.get("grant_types")
    named = grants if isinstance(grants, list) else []
    if not uris and "authorization_code" not in named and (_DEVICE in named or CIBA in named):
        return []  # §2: needed by flows with a redirect
    if not isinstance(uris, list) or not uris:
        raise InvalidRedirectUri("redirect_uris must be a list with at least one URI.")
    if len(uris) > _MOST_URIS:
        raise InvalidRedirectUri("redirect_uris has too many entries.")
    return uris


def _usable(uris: list[Any]) -> list[str]:
    found = []
    for uri in uris:
        try:
            found.append(require_registrable(uri))
        except InvalidRedirectUri:
            continue
    if uris and not found:
        raise InvalidRedirectUri("The client document has no redirect URI that can be used.")
    return found


def _check_application_type(kind: Any, uris: list[str]) -> None:
    """OpenID Registration §2: `web` means https on some server, never this computer; that is `native`."""
    if kind not in (None, "web", "native"):
        raise InvalidClientMetadata("application_type is web or native.")
    if kind == "web" and any(not uri.startswith("https://") or urlsplit(uri).hostname in _HERE for uri in uris):
        raise InvalidRedirectUri("A web application uses https redirect URIs; register as native instead.")


def _kind_of(uris: list[str]) -> str:
    return "native" if not uris or any(is_loopback(uri) or not uri.startswith("https://") for uri in uris) else "web"


def _method_of_document(document: Mapping[str, Any]) -> str:
    """The method it names, else one of those it says it could use, else none; a shared secret is impossible here."""
    has_keys = "jwks" in document or "jwks_uri" in document
    named = document.get("token_endpoint_auth_method", "private_key_jwt" if has_keys else "none")
    if named in SECRET_METHODS or named == "client_secret_jwt":
        raise InvalidClientMetadata("A client document cannot use a shared secret.")
    if named in ("none", "private_key_jwt"):
        return str(named)
    others = document.get("token_endpoint_auth_methods_supported")
    for method in ("private_key_jwt", "none"):
        if isinstance(others, list) and method in others:
            return method
    raise InvalidClientMetadata("The token_endpoint_auth_method of the client document is not supported.")


def _keys(document: Mapping[str, Any], method: str) -> tuple[dict[str, Any] | None, str]:
    jwks, uri = document.get("jwks"), document.get("jwks_uri")
    if method != "private_key_jwt":
        return None, ""
    if (jwks is None) == (uri is None):  # §2: MUST NOT both be present
        raise InvalidClientMetadata("private_key_jwt needs either jwks or jwks_uri.")
    if uri is not None:
        if not isinstance(uri, str) or not uri.startswith("https://") or len(uri) > 500 or not uri.isprintable():
            raise InvalidClientMetadata("jwks_uri must be an https URL.")
        return None, uri
    return {"keys": public_keys(jwks)}, ""


def _check_unused_keys(document: Mapping[str, Any], method: str) -> None:
    """§2: keys that will not be used must be right all the same; they are not kept."""
    if method != "private_key_jwt" and {"jwks", "jwks_uri"} & set(document):
        _keys(document, "private_key_jwt")


def _assertion_algorithm(document: Mapping[str, Any], *, strict: bool) -> dict[str, str]:
    """OpenID Registration §2: the only algorithm that its assertions are signed with."""
    alg = document.get("token_endpoint_auth_signing_alg")
    if alg in ASSERTION_ALGORITHMS:
        return {"token_endpoint_auth_signing_alg": alg}
    if alg is not None and strict:
        raise InvalidClientMetadata(f"token_endpoint_auth_signing_alg is one of {', '.join(ASSERTION_ALGORITHMS)}.")
    return {}


def _signed_introspection(document: Mapping[str, Any], method: str) -> dict[str, str]:
    """RFC 9701 §6: signed yes, with the one algorithm that we have; encrypted no."""
    if any(name in document for name in _NO_ENCRYPTION):
        raise InvalidClientMetadata("Introspection answers are not encrypted here.")
    alg = document.get("introspection_signed_response_alg")
    if alg is None:
        return {}
    if alg not in SIGNED_INTROSPECTION or method == "none":
        raise InvalidClientMetadata(f"introspection_signed_response_alg is {', '.join(SIGNED_INTROSPECTION)}.")
    return {"introspection_signed_response_alg": alg}


def public_keys(jwks: Any) -> list[dict[str, Any]]:
    """The usable signing keys of a JWK set, public parts only."""
    keys = jwks.get("keys") if isinstance(jwks, dict) else None
    if not isinstance(keys, list) or not 0 < len(keys) <= 20:
        raise InvalidClientMetadata("A key set is an object with a list of keys.")
    found = []
    for key in keys:
        try:
            found.append(public_part(key))
        except (ValidationError, ValueError, KeyError, TypeError) as wrong:
            if isinstance(key, dict) and any(part in key for part in ("d", "p", "q", "k")):
                raise InvalidClientMetadata("The key set holds a private key.") from wrong
    if not found:
        raise InvalidClientMetadata("The key set has no key that can be used: EC P-256, Ed25519 or RSA of 2048 bits.")
    return found


def _delivery(document: Mapping[str, Any], method: str, *, strict: bool) -> dict[str, str]:
    """OpenID Connect CIBA Core §4. A mode left out is poll; nothing for who cannot use it, a public client first."""
    if method == "none":
        return {}
    mode = document.get("backchannel_token_delivery_mode", "poll")
    try:
        return delivery(mode, document.get("backchannel_client_notification_endpoint"))
    except ValidationError as wrong:
        if not strict:
            return {}
        (name, texts), *_ = wrong.message_dict.items()
        raise InvalidClientMetadata(f"{name}: {texts[0]}") from None


def _scope(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 4096:
        raise InvalidClientMetadata("scope must be text.")
    try:
        return " ".join(scope_names(value))
    except InvalidScope as wrong:  # RFC 7591 §3.2.2 knows this code and the one of redirects
        raise InvalidClientMetadata(wrong.description) from None


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document[name]
    if not isinstance(value, str) or len(value) > 500 or not value.isprintable():
        raise InvalidClientMetadata(f"{name} must be text of at most 500 characters.")
    if name in _URLS and not value.startswith(("https://", "http://")):
        raise InvalidClientMetadata(f"{name} must be a web address.")
    return value


def _flag(document: Mapping[str, Any], name: str) -> bool:
    value = document[name]
    if not isinstance(value, bool):
        raise InvalidClientMetadata(f"{name} is true or false.")
    return value


def _texts(document: Mapping[str, Any], name: str, default: list[str]) -> list[str]:
    value = document.get(name, default)
    if not isinstance(value, list) or len(value) > 30 or not all(isinstance(v, str) and len(v) <= 200 for v in value):
        raise InvalidClientMetadata(f"{name} must be a list of texts.")
    return value
