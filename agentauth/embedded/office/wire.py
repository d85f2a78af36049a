"""Plain ASGI: reading a body, answering with JSON, answering with a stream."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

import orjson

from agentauth.embedded.office.rooms import NotPossible

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_MOST_BYTES = 256 * 1024


async def read_body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > _MOST_BYTES:
            raise NotPossible(413, "That is too much to read.")
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            return bytes(body)


async def reply(send: Send, status: int, content: object, headers: dict[str, str] | None = None) -> None:
    await reply_bytes(send, status, orjson.dumps(content), headers)


async def reply_bytes(send: Send, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
    named = {"content-type": "application/json", "content-length": str(len(body))} | (headers or {})
    raw = [(name.encode(), value.encode()) for name, value in named.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


async def stream(
    send: Send, receive: Receive, chunks: AsyncIterator[bytes], media_type: str = "text/event-stream"
) -> None:
    """Send until the chunks end or the listener has gone."""
    headers = [
        (b"content-type", media_type.encode()),
        (b"cache-control", b"no-store"),
        (b"x-accel-buffering", b"no"),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    gone = asyncio.ensure_future(_until_gone(receive))
    try:
        async for chunk in chunks:
            if gone.done():
                return
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        gone.cancel()
        with suppress(asyncio.CancelledError):
            await gone


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
