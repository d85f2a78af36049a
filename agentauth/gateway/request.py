"""One request as ASGI hands it over, and the way back."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

from agentauth.gateway.answers import Answer, Headers
from agentauth.oauth.dpop import Proof, fresh_nonce

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PATIENCE = 30.0  # seconds for the next piece of a body


class TooLarge(Exception):
    """The body is longer than it may be."""


class Gone(Exception):
    """The caller has hung up."""


class Request:
    __slots__ = (
        "_receive",
        "_send",
        "began_answer",
        "headers",
        "ip",
        "is_dpop",
        "length",
        "may_end_early",
        "method",
        "more_headers",
        "proof",
        "query",
        "raw_path",
        "read_all",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
        self.raw_path = self.raw_path.partition(b"?")[0]
        self.query: bytes = scope.get("query_string", b"")
        self.headers: list[tuple[bytes, bytes]] = list(scope["headers"])
        client = scope.get("client")
        self.ip: str = client[0] if client else ""
        self.length = self._content_length()
        self.read_all = False
        self.began_answer = False
        self.may_end_early = False  # the answer is a stream of events: its end is no lie at any time
        self.more_headers: Headers = []
        self.is_dpop = False  # its token came under the scheme DPoP (RFC 9449 §7.1)
        self.proof: Proof | None = None
        self._receive, self._send = receive, send

    def _content_length(self) -> int | None:
        """As announced; None if it was not, so that the body comes in chunks or not at all."""
        for name, value in self.headers:
            if name == b"content-length" and value.isdigit():
                return int(value)
        return None

    @property
    def has_body(self) -> bool:
        return bool(self.length) or any(name == b"transfer-encoding" for name, _ in self.headers)

    async def chunks(self, most: int) -> AsyncIterator[bytes]:
        """The body piece by piece. Raises TooLarge, Gone."""
        if self.length is not None and self.length > most:
            raise TooLarge
        count = 0
        while not self.read_all:
            try:
                message = await asyncio.wait_for(self._receive(), PATIENCE)
            except TimeoutError:
                raise Gone from None
            if message["type"] == "http.disconnect":
                raise Gone
            piece = message.get("body", b"")
            self.read_all = not message.get("more_body", False)
            count += len(piece)
            if count > most:
                raise TooLarge
            if piece:
                yield piece

    async def body(self, most: int) -> bytes:
        return b"".join([piece async for piece in self.chunks(most)])

    async def hang_up(self) -> None:
        """Returns when the caller is gone. Only after the body was read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def start(self, status: int, headers: Headers) -> None:
        self.began_answer = True
        if self.is_dpop:  # RFC 9449 §8.2: the nonce for the next proof, which no cache may hand out
            headers = [pair for pair in headers if pair[0] != b"cache-control"]
            headers += [(b"cache-control", b"no-store"), (b"dpop-nonce", fresh_nonce(time.time()).encode())]
        await self._send({"type": "http.response.start", "status": status, "headers": headers + self.more_headers})

    async def write(self, piece: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": piece, "more_body": more})

    async def answer(self, answer: Answer) -> None:
        headers = [*answer.headers, (b"content-length", str(len(answer.body)).encode())]
        await self.start(answer.status, headers)
        await self.write(b"" if self.method == "HEAD" else answer.body, more=False)
