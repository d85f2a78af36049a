"""Which requests the short lane may look at, and what makes two of them the same."""

import hashlib
import re
from collections.abc import Awaitable, Callable, Sequence
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
Headers = Sequence[tuple[bytes, bytes]]  # names in lower case

_FORM = FORM.encode()
_TARGET = re.compile(rb"/t/([^/?#%]+)/oauth/(token|introspect)")
# With any of these a request says more than its form does
_SAYS_MORE = {b"dpop", b"transfer-encoding", b"content-encoding", b"expect"}
_REFRESH_TOKEN = re.compile(rb"(?:(?<=^refresh_token=)|(?<=&refresh_token=))[A-Za-z0-9_-]+(?=&|\Z)")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(slots=True)
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


class Unread(Exception):
    """The client went away before its request was whole."""


def is_for_us(method: bytes, target: bytes) -> bool:
    return method == b"POST" and _TARGET.fullmatch(target) is not None


def length_of(headers: Headers) -> int | None:
    """How long the body will be; None if that, or a whole request of the lane, is not to be had from it."""
    length = next((value for name, value in headers if name == b"content-length"), b"")
    return int(length) if length.isdigit() and 0 < int(length) <= MAX_BODY else None


def read(target: bytes, headers: Headers, body: bytes, ip: str, ours: str) -> Request | None:
    """A request to an endpoint of ours, or None if it is none for the lane. `ours` is the host of our base address."""
    found, said = _TARGET.fullmatch(target), dict(headers)
    if found is None or len(said) != len(headers) or not _SAYS_MORE.isdisjoint(said):
        return None
    host, accept = said.get(b"host", b""), said.get(b"accept", b"")
    if said.get(b"content-type") != _FORM or not _is_ours(host, ours):
        return None
    if b"token-introspection+jwt" in accept.lower():  # RFC 9701 §4: another answer
        return None
    authorization = said.get(b"authorization", b"")
    read = b"\0".join((target, host, authorization, accept))
    endpoint, slug = found[2].decode(), found[1].decode("latin-1")
    return Request(endpoint, _key(read, body), read, body, authorization.decode("latin-1"), slug, ip[:45])


def again(body: bytes) -> Receive:
    """For the ordinary way, which reads it once more."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


async def whole(receive: Receive) -> bytes:
    """The body. Raises Unread."""
    message = await receive()
    body: bytes = message.get("body", b"")
    while message["type"] == "http.request" and message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
    if message["type"] != "http.request":
        raise Unread
    return body


def _key(read: bytes, body: bytes) -> bytes:
    """Of all that the ordinary way reads but the caller's address, which only the event names."""
    return hashlib.sha256(read + b"\0" + body).digest()


@lru_cache(256)
def _is_ours(host: bytes, ours: str) -> bool:
    """Under a host of its own a tenant has another issuer."""
    parts = urlsplit("//" + host.decode("latin-1"))
    return parts.hostname in _LOOPBACK or parts.netloc == ours
