"""The office as ASGI: the REST side here, the MCP side in `mcp.py`, the same rooms behind both."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from agentauth.embedded.office import mcp
from agentauth.embedded.office.door import Door, TurnedAway
from agentauth.embedded.office.rooms import House, NotPossible
from agentauth.embedded.office.wire import Receive, Scope, Send, read_body, reply, reply_bytes, stream

DOCUMENT = Path(__file__).with_name("openapi.json").read_bytes()
_TICK = 0.5  # seconds
_STREAMS = ("text/event-stream", "application/x-ndjson")


class Office:
    """The application. `key` is for tests; else it is the one in the secrets folder."""

    def __init__(self, key: str | None = None) -> None:
        self._door = Door(key)
        self._houses: dict[str, House] = defaultdict(House)
        self._sessions = mcp.Sessions()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            try:
                await self._answer(scope, headers, receive, send)
            except (TurnedAway, NotPossible) as no:
                await reply(send, no.status, {"error": no.reason})

    async def _answer(self, scope: Scope, headers: dict[str, str], receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        if method == "GET" and path == "/openapi.json":
            await reply_bytes(send, 200, DOCUMENT)
            return
        self._door.let_in(headers)
        body = await read_body(receive)
        if path.rstrip("/") == "/mcp":
            asked = mcp.Asked(method, headers, body, lambda: self._door.caller(headers), send, receive)
            await mcp.answer(asked, self._sessions, self._houses)
            return
        caller = await self._door.caller(headers)
        house = self._houses[caller.tenant]
        match method, path.strip("/").split("/"):
            case "GET", ["rooms"]:
                await reply(send, 200, {"rooms": house.rooms()})
            case "GET", ["rooms", room]:
                await reply(send, 200, house.room(room))
            case "POST", ["rooms", ("meeting" | "finance") as room, "enter"]:
                await reply(send, 200, house.enter(room, caller))
            case "POST", ["rooms", room, "book"]:
                await reply(send, 201, house.book(room, _wish(body), caller))
            case "GET", ["journal"]:
                await reply(send, 200, {"journal": list(house.journal)})
            case "GET", ["stream"]:
                lines = "ndjson" in headers.get("accept", "")
                await stream(send, receive, _ticks(house, lines), _STREAMS[lines])
            case _:
                raise NotPossible(404, "The office has nothing there.")


async def _ticks(house: House, lines: bool) -> AsyncIterator[bytes]:
    """Without end: what the clock says and how many people came in so far."""
    number = 0
    while True:
        number += 1
        tick = orjson.dumps({"tick": number, "at": datetime.now(UTC).isoformat(), "entries": len(house.journal)})
        yield tick + b"\n" if lines else b"event: tick\ndata: " + tick + b"\n\n"
        await asyncio.sleep(_TICK)


def _wish(body: bytes) -> dict[str, Any]:
    try:
        wish = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError:
        raise NotPossible(400, "The body is not JSON.") from None
    if not isinstance(wish, dict):
        raise NotPossible(422, "The body must be an object.")
    return wish


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
