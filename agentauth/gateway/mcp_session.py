"""Sessions of MCP servers belong to who opened them: a client holds the server's id with a seal that fits only them."""

import hashlib
import hmac
from base64 import urlsafe_b64encode
from functools import cache

from django.conf import settings

SESSION = b"mcp-session-id"


def sealed(upstream: str, owner: str) -> str:
    """What the client is given for the server's id."""
    return f"{_seal(upstream, owner)}.{upstream}"


def opened(held: str, owner: str) -> str:
    """The server's id in what a client holds; empty if it is not theirs."""
    seal, _, upstream = held.partition(".")
    return upstream if hmac.compare_digest(seal.encode(), _seal(upstream, owner).encode()) else ""


def _seal(upstream: str, owner: str) -> str:
    digest = hmac.digest(_key(), f"{owner}\0{upstream}".encode("utf-8", "replace"), hashlib.sha256)
    return urlsafe_b64encode(digest[:18]).decode()


@cache
def _key() -> bytes:
    return hashlib.sha256(b"agentauth mcp session\0" + settings.SECRET_KEY.encode()).digest()
