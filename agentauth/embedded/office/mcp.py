"""The office's MCP side, in both eras: 2026-07-28 (each request stands alone) and 2025 (`initialize` and a session)."""

import asyncio
import secrets
from base64 import b64decode
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from agentauth.embedded.office.door import Caller
from agentauth.embedded.office.rooms import House, NotPossible
from agentauth.embedded.office.wire import Receive, Send, reply, stream

MODERN = "2026-07-28"
LEGACY = ("2025-11-25", "2025-06-18", "2025-03-26")
_META = "io.modelcontextprotocol/"
_SERVER = {"name": "office", "title": "Office", "version": "1"}
_HEADER_MISMATCH, _UNSUPPORTED = -32020, -32022
_INVALID_REQUEST, _NO_METHOD, _INVALID_PARAMS, _PARSE_ERROR = -32600, -32601, -32602, -32700
_TICK = 0.5  # seconds
_LONGEST_WATCH = 600  # seconds
_MOST_SESSIONS = 1000

_ROOM = {"type": "string", "enum": ["meeting", "library", "studio", "finance"], "description": "Which room."}
TOOLS: list[dict[str, Any]] = [
    {
        "name": "list_rooms",
        "title": "List rooms",
        "description": "The rooms of the office and their bookings.",
        "inputSchema": {"type": "object", "properties": {}, "additionalProperties": False},
        "annotations": {"readOnlyHint": True, "openWorldHint": False},
    },
    {
        "name": "book_room",
        "title": "Book a room",
        "description": "Book a room for some minutes.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "room": _ROOM,
                "start": {"type": "string", "format": "date-time", "description": "Default: now."},
                "minutes": {"type": "integer", "minimum": 5, "maximum": 480, "default": 30},
                "title": {"type": "string", "maxLength": 80},
            },
            "required": ["room"],
            "additionalProperties": False,
        },
        "annotations": {"readOnlyHint": False, "destructiveHint": False, "openWorldHint": False},
    },
    {
        "name": "enter_meeting_room",
        "title": "Enter the meeting room",
        "description": "Open the door of the meeting room.",
        "inputSchema": {"type": "object", "properties": {}, "additionalProperties": False},
        "annotations": {"readOnlyHint": False, "destructiveHint": False, "openWorldHint": False},
    },
    {
        "name": "enter_finance",
        "title": "Enter the finance department",
        "description": "Open the door of the finance department.",
        "inputSchema": {"type": "object", "properties": {}, "additionalProperties": False},
        "annotations": {"readOnlyHint": False, "openWorldHint": False},
    },
    {
        "name": "watch_rooms",
        "title": "Watch the rooms",
        "description": "Report on the rooms twice a second, for as long as asked.",
        "inputSchema": {
            "type": "object",
            "properties": {"seconds": {"type": "number", "minimum": 0, "maximum": _LONGEST_WATCH, "default": 10}},
            "additionalProperties": False,
        },
        "annotations": {"readOnlyHint": True, "openWorldHint": False},
    },
]


class Sessions:
    """Legacy sessions: id → the version that was agreed."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, str] = OrderedDict()

    def begin(self, version: str) -> str:
        session = secrets.token_urlsafe(24)
        self._open[session] = version
        while len(self._open) > _MOST_SESSIONS:
            self._open.popitem(last=False)
        return session

    def end(self, session: str) -> bool:
        return self._open.pop(session, None) is not None

    def __contains__(self, session: str) -> bool:
        return session in self._open


class _Error(Exception):
    """A JSON-RPC error, with its HTTP status."""

    def __init__(self, status: int, code: int, message: str, data: object = None) -> None:
        super().__init__(message)
        self.status = status
        self.error = {"code": code, "message": message} | ({"data": data} if data is not None else {})


@dataclass(slots=True)
class Asked:
    """One HTTP request to the endpoint."""

    http_method: str
    headers: Mapping[str, str]
    body: bytes
    caller: Callable[[], Awaitable[Caller]]  # who calls for whom, or TurnedAway
    send: Send
    receive: Receive
    number: str | int = ""
    modern: bool = False

    async def result(self, result: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        await reply(self.send, 200, {"jsonrpc": "2.0", "id": self.number, "result": result}, headers)


async def answer(asked: Asked, sessions: Sessions, houses: Mapping[str, House]) -> None:
    """Answer one request to `/mcp`. Only `tools/call` acts for somebody, so only it needs the assertion."""
    send = asked.send
    if asked.http_method == "DELETE":
        ended = sessions.end(asked.headers.get("mcp-session-id", ""))
        await reply(send, 200 if ended else 404, {})
        return
    if asked.http_method != "POST":
        await reply(send, 405, {"error": "POST only."}, {"allow": "POST, DELETE"})
        return
    number: object = None
    try:
        message = _message(asked.body)
        number = message.get("id")
        asked.modern = _is_modern(asked.headers, message)
        if "id" not in message:
            await reply(send, 202, {})
            return
        if not isinstance(number, str | int) or isinstance(number, bool):
            raise _Error(400, _INVALID_REQUEST, "The id must be a text or a number.")
        asked.number = number
        method, params = message["method"], message.get("params") or {}
        if not asked.modern and method != "initialize":
            _require_session(asked.headers, sessions)
        if method == "tools/call":
            caller = await asked.caller()
            await _call(asked, params, caller, houses[caller.tenant])
            return
        extra: dict[str, str] = {}
        result = _listed(asked.modern, method, params, sessions, extra)
    except _Error as wrong:
        await reply(send, wrong.status, {"jsonrpc": "2.0", "id": number, "error": wrong.error})
        return
    await asked.result(result, extra)


def _listed(
    modern: bool, method: str, params: dict[str, Any], sessions: Sessions, extra: dict[str, str]
) -> dict[str, Any]:
    """Everything that answers at once. `extra` takes response headers."""
    cached = {"resultType": "complete", "ttlMs": 60_000, "cacheScope": "public"}
    if modern and method == "server/discover":
        return cached | {
            "supportedVersions": [MODERN, *LEGACY],
            "capabilities": {"tools": {}},
            "_meta": {f"{_META}serverInfo": _SERVER},
        }
    if method == "tools/list":
        listed: dict[str, Any] = {"tools": TOOLS}
        return listed | cached | {"_meta": {f"{_META}serverInfo": _SERVER}} if modern else listed
    if not modern and method == "initialize":
        wanted = params.get("protocolVersion")
        version = wanted if wanted in LEGACY else LEGACY[0]
        extra["mcp-session-id"] = sessions.begin(version)
        return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": _SERVER}
    if not modern and method == "ping":
        return {}
    raise _Error(404 if modern else 200, _NO_METHOD, f"The office does not know {method[:60]}.")


async def _call(asked: Asked, params: dict[str, Any], caller: Caller, house: House) -> None:
    name, wishes = params.get("name"), params.get("arguments") or {}
    tool = next((tool for tool in TOOLS if tool["name"] == name), None)
    if tool is None or not isinstance(wishes, dict):
        raise _bad(asked, "There is no such tool, or its arguments are no object.")
    if unknown := wishes.keys() - tool["inputSchema"]["properties"].keys():
        raise _bad(asked, f"{name} takes no {min(unknown)[:60]}.")
    if name == "watch_rooms":
        seconds = wishes.get("seconds", 10)
        if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds <= _LONGEST_WATCH:
            raise _bad(asked, f"“seconds” must be from 0 to {_LONGEST_WATCH}.")
        await stream(asked.send, asked.receive, _watched(asked, params, seconds, house))
        return
    try:
        result = _done(_do(str(name), wishes, caller, house), asked.modern)
    except NotPossible as no:
        result = _done({"error": no.reason}, asked.modern, failed=True)
    await asked.result(result)


def _bad(asked: Asked, why: str) -> _Error:
    return _Error(400 if asked.modern else 200, _INVALID_PARAMS, why)


def _do(name: str, wishes: dict[str, Any], caller: Caller, house: House) -> dict[str, Any]:
    if name == "list_rooms":
        return {"rooms": house.rooms()}
    if name == "book_room":
        return house.book(str(wishes.get("room", "")), wishes, caller)
    return house.enter("meeting" if name == "enter_meeting_room" else "finance", caller)


async def _watched(asked: Asked, params: dict[str, Any], seconds: float, house: House) -> AsyncIterator[bytes]:
    """A slow answer: progress if it was asked for, then the result."""
    meta = params.get("_meta")
    token = meta.get("progressToken") if isinstance(meta, dict) else None
    steps = int(seconds / _TICK)
    for step in range(1, steps + 1):
        await asyncio.sleep(_TICK)
        said = {"progress": step, "total": steps, "message": f"{len(house.journal)} entries so far"}
        if token is None:
            yield b": still watching\n\n"
        else:
            progress = {"progressToken": token} | said
            yield _event({"jsonrpc": "2.0", "method": "notifications/progress", "params": progress})
    result = _done({"rooms": house.rooms(), "watched": seconds}, asked.modern)
    yield _event({"jsonrpc": "2.0", "id": asked.number, "result": result})


def _done(content: dict[str, Any], modern: bool, *, failed: bool = False) -> dict[str, Any]:
    text = {"type": "text", "text": orjson.dumps(content, option=orjson.OPT_INDENT_2).decode()}
    result: dict[str, Any] = {"content": [text], "structuredContent": content, "isError": failed}
    return result | {"resultType": "complete"} if modern else result


def _event(message: dict[str, Any]) -> bytes:
    return b"event: message\ndata: " + orjson.dumps(message) + b"\n\n"


def _message(body: bytes) -> dict[str, Any]:
    try:
        message = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise _Error(400, _PARSE_ERROR, "The body is not JSON.") from None
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0" or not isinstance(message.get("method"), str):
        raise _Error(400, _INVALID_REQUEST, "The body must be one JSON-RPC request or notification.")
    if not isinstance(message.get("params", {}), dict):
        raise _Error(400, _INVALID_PARAMS, "The parameters must be an object.")
    return message


def _is_modern(headers: Mapping[str, str], message: dict[str, Any]) -> bool:
    """Which era: the envelope in the body says so, and the headers must say the same."""
    meta = (message.get("params") or {}).get("_meta")
    version = meta.get(f"{_META}protocolVersion") if isinstance(meta, dict) else None
    header = headers.get("mcp-protocol-version", "")
    if version is None and (header in LEGACY or not header or message["method"] == "initialize"):
        return False
    if "id" not in message and header == MODERN:
        return True  # a notification carries no envelope
    if version is None and header != MODERN:
        raise _Error(400, _UNSUPPORTED, "This version is not spoken here.", _spoken(header))
    if header != version:
        raise _Error(400, _HEADER_MISMATCH, "MCP-Protocol-Version and the request say different versions.")
    if version != MODERN:
        raise _Error(400, _UNSUPPORTED, "This version is not spoken here.", _spoken(version))
    if headers.get("mcp-method") != message["method"]:
        raise _Error(400, _HEADER_MISMATCH, "Mcp-Method and the request name different methods.")
    if message["method"] == "tools/call":
        named = _plain(headers.get("mcp-name", ""))
        if named != (message.get("params") or {}).get("name"):
            raise _Error(400, _HEADER_MISMATCH, "Mcp-Name and the request name different tools.")
    return True


def _spoken(requested: object) -> dict[str, object]:
    return {"supported": [MODERN, *LEGACY], "requested": str(requested)[:40]}


def _plain(value: str) -> str:
    if value.startswith("=?base64?") and value.endswith("?="):
        try:
            return b64decode(value[9:-2], validate=True).decode()
        except ValueError:
            return ""
    return value


def _require_session(headers: Mapping[str, str], sessions: Sessions) -> None:
    session = headers.get("mcp-session-id")
    if session is None:
        raise _Error(400, _INVALID_REQUEST, "Begin with initialize.")
    if session not in sessions:
        raise _Error(404, _INVALID_REQUEST, "This session is over.")
