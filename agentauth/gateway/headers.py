"""Which headers pass, in either direction. Whatever could name a person or carry a right stays outside."""

import re
from collections.abc import Iterable

RawHeaders = Iterable[tuple[bytes, bytes]]
Pairs = list[tuple[str, str]]

_NAME = re.compile(rb"[A-Za-z0-9][A-Za-z0-9-]*\Z")  # no underscore: CGI reads it as a hyphen
_VALUE = re.compile(rb"[\x20-\x7e\t]*\Z")


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_HOP_BY_HOP = _names(
    "connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding upgrade"
    " http2-settings"
)
_NEVER_IN = _HOP_BY_HOP | _names(
    "host content-length expect via forwarded x-http-method x-real-ip true-client-ip x-wap-profile x-api-key dpop"
    " date server front-end-https destination"
)
# Names that servers behind proxies take for an identity, an address, a right, or another path or method
_TELLING = re.compile(
    r"auth|token|secret|cookie|credential|passw|session|user|email|login|account|forward|remote|client|real-ip"
    r"|original|rewrite|upstream|override|assert|identity|principal|subject|group|role|tenant|organi[sz]ation|scope"
    r"|api-?key|access-?key|(?:^|-)key$|sso|saml|jwt|oidc|impersonat|on-behalf|delegat|envoy|internal|accel|sendfile"
    r"|^x-amzn?-|^x-goog-|^x-ms-|^cf-|^x-url|^x-host|^x-path|^x-uri|^remote-|^proxy|^x-consumer|^x-webauth"
)
_HARMLESS = frozenset(("user-agent", "idempotency-key", "x-client-name", "sec-websocket-key"))

_NEVER_OUT = _HOP_BY_HOP | _names(
    "set-cookie set-cookie2 www-authenticate proxy-authentication-info authentication-info server date via alt-svc"
    " strict-transport-security content-security-policy content-security-policy-report-only x-content-type-options"
    " clear-site-data service-worker-allowed public-key-pins refresh report-to reporting-endpoints nel x-sendfile"
    " dpop-nonce location content-location sourcemap x-sourcemap x-frame-options origin-agent-cluster"
)
_NEVER_OUT_PREFIXES = (
    "access-control-",
    "cross-origin-",
    "agentauth-",
    "x-accel-",
    "x-amz-meta-",
    "proxy-",
    "surrogate-",
)


class BadHeader(ValueError):
    """The message says what is wrong with it, for whoever sent it."""


def inbound(raw: RawHeaders, *, own: Iterable[str] = ()) -> Pairs:
    """What goes upstream of a caller's headers. `own`: names that the gateway sets itself. Raises BadHeader."""
    pairs = list(raw)
    dropped = _nominated(pairs) | {name.lower() for name in own}
    passed = []
    for name_bytes, value in pairs:
        if not _NAME.match(name_bytes):
            continue
        name = name_bytes.decode("ascii").lower()
        if name in dropped or name in _NEVER_IN or name.startswith("agentauth"):
            continue
        if name not in _HARMLESS and _TELLING.search(name):
            continue
        if not _VALUE.match(value):
            raise BadHeader(f"The header {name} has a character that is not allowed.")
        passed.append((name, value.decode("ascii")))
    return passed


def outbound(raw: RawHeaders) -> list[tuple[bytes, bytes]]:
    """What goes back of an upstream's headers. Cookies, redirects and policies of another origin do not."""
    pairs = list(raw)
    dropped = _nominated(pairs)
    passed = []
    for name_bytes, value in pairs:
        name = name_bytes.decode("latin-1").lower()
        if name in dropped or name in _NEVER_OUT or name.startswith(_NEVER_OUT_PREFIXES):
            continue
        if b"\r" in value or b"\n" in value or b"\0" in value:
            continue
        passed.append((name_bytes.lower(), value))
    return passed


def _nominated(pairs: list[tuple[bytes, bytes]]) -> set[str]:
    """Headers named in Connection (RFC 9110 §7.6.1) are for this hop only."""
    named = set()
    for name, value in pairs:
        if name.lower() == b"connection":
            named |= {part.strip().lower() for part in value.decode("latin-1").split(",")}
    return named


def one(raw: RawHeaders, name: bytes) -> str | None:
    """The value of a header that may come once; None if it is absent. Raises BadHeader if it comes twice."""
    found = [value for key, value in raw if key.lower() == name]
    if len(found) > 1:
        raise BadHeader(f"The header {name.decode()} came more than once.")
    return found[0].decode("latin-1").strip() if found else None
