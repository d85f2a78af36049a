"""Where an answer may be sent: what may be registered, and whether a request names exactly that. Pure.

OAuth 2.1 §2.3 and §8.4, RFC 9700 §4.1: compared byte by byte. Only the port of a loopback address may differ (RFC 8252
§7.3; `localhost` too, since real clients register it).
"""

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from agentauth.oauth.errors import InvalidRedirectUri

LOOPBACK = ("127.0.0.1", "[::1]", "localhost")
LONGEST = 500
_PLAIN = re.compile(r"(?:[A-Za-z0-9._~:/?&=+,;@!$'()*\[\]-]|%[0-9A-Fa-f]{2})+\Z")  # RFC 3986 without fragment
_LOOPBACK_URI = re.compile(
    r"http://(?P<host>127\.0\.0\.1|\[::1\]|localhost)(?::(?P<port>[0-9]{1,5}))?(?P<rest>[/?].*)?\Z"
)
_PRIVATE_SCHEME = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*):")
# What a browser runs, shows or hands on by itself instead of opening an app; `urn` leads nowhere
_NEVER = {"javascript", "data", "vbscript", "file", "blob", "about", "http", "https", "ws", "wss", "ftp", "mailto",
          "tel", "sms", "urn", "view-source", "intent", "chrome", "resource", "filesystem", "jar",
          "ms-appx"}  # fmt: skip


def require_registrable(uri: object) -> str:
    """A redirect URI as it may be registered: https anywhere, http on this computer, or an app's own scheme."""
    if not isinstance(uri, str) or not uri or len(uri) > LONGEST:
        raise InvalidRedirectUri("A redirect URI is a text of at most 500 characters.")
    if not _PLAIN.match(uri) or "*" in uri:
        raise InvalidRedirectUri("A redirect URI has no fragment, wildcard, space or unusual character.")
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError:
        raise InvalidRedirectUri("A redirect URI must be a URL.") from None
    if parts.scheme == "https":
        _check_host(uri, parts.netloc, parts.hostname or "")
    elif parts.scheme == "http":
        if not _LOOPBACK_URI.match(uri):
            raise InvalidRedirectUri("http is only for 127.0.0.1, [::1] and localhost; use https.")
    else:
        found = _PRIVATE_SCHEME.match(uri)
        if found is None or found["scheme"] in _NEVER:
            raise InvalidRedirectUri("Use https, http on this computer, or a private scheme of an app.")
    segments = parts.path.lower().replace("%2e", ".").replace("%2f", "/").replace("%5c", "/").split("/")
    if ".." in segments or "." in segments:
        raise InvalidRedirectUri("A redirect URI has no dot segments.")
    if {name for name, _, _ in (pair.partition("=") for pair in parts.query.split("&"))} & _ANSWER:
        raise InvalidRedirectUri("The query of a redirect URI must not use a name that our answer uses.")
    return uri


_ANSWER = {"code", "state", "iss", "error", "error_description", "error_uri"}


def _check_host(uri: str, netloc: str, host: str) -> None:
    if not host or "@" in netloc or "%" in netloc or host.endswith(".") or not uri.startswith("https://"):
        raise InvalidRedirectUri("The host of a redirect URI must be a plain name.")
    if not re.match(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?\Z|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?\Z", netloc):
        raise InvalidRedirectUri("The host of a redirect URI must be a plain name.")


def is_registered(uri: str, registered: Iterable[str]) -> bool:
    """Does `uri` equal a registered one? For loopback addresses the port is left out of the comparison."""
    known = list(registered)
    if uri in known:
        return True
    asked = _loopback_without_port(uri)
    return asked is not None and any(asked == _loopback_without_port(one) for one in known)


def _loopback_without_port(uri: str) -> tuple[str, str] | None:
    found = _LOOPBACK_URI.match(uri)
    if found is None or not _PLAIN.match(uri) or (found["port"] and not 0 < int(found["port"]) < 65536):
        return None
    return found["host"], found["rest"] or ""


def is_loopback(uri: str) -> bool:
    return _LOOPBACK_URI.match(uri) is not None


def shown_host(uri: str) -> str:
    """Where a person's browser goes next, in a few words: a host, or the scheme of an app."""
    parts = urlsplit(uri)
    return parts.netloc if parts.scheme in ("http", "https") else f"{parts.scheme}:"


def place_behind(uri: str) -> str:
    """The same within a sentence: back to whom?"""
    return "the program on this computer" if is_loopback(uri) else shown_host(uri)


def with_answer(uri: str, query: str) -> str:
    """`uri` with our parameters added to whatever query it was registered with (RFC 6749 §3.1.2)."""
    return f"{uri}{'&' if '?' in uri else '?'}{query}"
