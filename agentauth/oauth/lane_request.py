"""Which requests the short lane may look at, and what makes two of them the same."""

import hashlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from agentauth.oauth.parameters import MAX_BODY

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

FORM = "application/x-www-form-urlencoded"
ENDPOINTS = ("token", "introspect")
# With any of these a request says more than its form does
_SAYS_MORE = (b"dpop", b"transfer-encoding", b"content-encoding", b"expect")
_REFRESH_TOKEN = re.compile(rb"(?:(?<=^refresh_token=)|(?<=&refresh_token=))[A-Za-z0-9_-]+(?=&|\Z)")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Request:
    """One that the lane may look at, whole."""

    endpoint: str
    key: bytes
    read: bytes  # all that the ordinary way reads but the body
    body: bytes
    authorization: str
    slug: str
    ip: str

    @property
    def refresh_token(self) -> str:
        """As it stands in the body, where it stands there once and plainly; else empty."""
        found = _REFRESH_TOKEN.findall(self.body)
        return found[0].decode() if len(found) == 1 else ""

    def key_after(self, spent: str, fresh: str) -> bytes | None:
        """The key of the same request with the refresh token `fresh` in place of `spent`."""
        if not spent or not fresh or spent != self.refresh_token:
            return None
        return _key(self.read, _REFRESH_TOKEN.sub(fresh.encode(), self.body))

    async def receive(self) -> Message:
        """For the ordinary way, which reads it again."""
        return {"type": "http.request", "body": self.body, "more_body": False}


class Unread(Exception):
    """The client went away before its request was whole."""


async def read(scope: Scope, receive: Receive, ours: str) -> Request | None:
    """The request, or None if it is none for the lane; then nothing of it was received. `ours` is the host of our base
    address. Raises Unread."""
    path: str = scope["path"]
    if scope["method"] != "POST" or scope["query_string"] or not path.startswith("/t/"):
        return None
    parts = path.split("/")
    if len(parts) != 5 or parts[3] != "oauth" or parts[4] not in ENDPOINTS:
        return None
    headers = dict(scope["headers"])
    if len(headers) != len(scope["headers"]) or any(name in headers for name in _SAYS_MORE):
        return None
    length, host = headers.get(b"content-length", b""), headers.get(b"host", b"")
    if not length.isdigit() or not 0 < int(length) <= MAX_BODY or not _is_ours(host, ours):
        return None
    if headers.get(b"content-type") != FORM.encode():
        return None
    if b"token-introspection+jwt" in headers.get(b"accept", b"").lower():  # RFC 9701 §4: another answer
        return None
    body = await _whole(receive)
    authorization = headers.get(b"authorization", b"")
    read = b"\0".join((scope["raw_path"], host, authorization, headers.get(b"accept", b"")))
    ip = (scope.get("client") or ("",))[0]
    return Request(parts[4], _key(read, body), read, body, authorization.decode("latin-1"), parts[2], ip[:45])


def _key(read: bytes, body: bytes) -> bytes:
    """Of all that the ordinary way reads but the caller's address, which only the event names."""
    return hashlib.sha256(read + b"\0" + body).digest()


async def _whole(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    while message["type"] == "http.request" and message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
    if message["type"] != "http.request":
        raise Unread
    return body


@lru_cache(256)
def _is_ours(host: bytes, ours: str) -> bool:
    """Under a host of its own a tenant has another issuer."""
    parts = urlsplit("//" + host.decode("latin-1"))
    return parts.hostname in _LOOPBACK or parts.netloc == ours
