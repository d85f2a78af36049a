"""What an MCP server says on its way back: JSON-RPC messages, whole or one by one, each looked at before it passes."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import orjson

from agentauth.gateway.forward import UpstreamProblem, pieces
from agentauth.gateway.mcp_message import Message
from agentauth.gateway.sse import Event, Reader, TooLong

# What we refuse is not announced, so that no client asks for it
_NOT_OFFERED = ("resources", "prompts", "completions", "tasks")

Transform = Callable[[Any], Any]
"""What is done to a result before the client has it."""


def without_what_we_refuse(result: Any) -> Any:
    if not isinstance(result, dict) or not isinstance(result.get("capabilities"), dict):
        return result
    offered = {name: value for name, value in result["capabilities"].items() if name not in _NOT_OFFERED}
    return {**result, "capabilities": offered}


def whole_answer(body: bytes, message: Message, transform: Transform) -> bytes:
    value = _read(body)
    if not isinstance(value, dict):
        raise UpstreamProblem(502, "Upstream answered badly", "The upstream's answer is not one JSON-RPC message.")
    if "method" not in value and value.get("id") != message.id and not (value.get("id") is None and "error" in value):
        raise UpstreamProblem(502, "Upstream answered badly", "The upstream answered another question.")
    if "result" not in value:
        return body
    return orjson.dumps({**value, "result": transform(value["result"])})


def looked_at(event: Event, message: Message, transform: Transform, *, is_listening: bool) -> Event | None:
    """The event as it may pass, or None. Events that carry nothing (ids to resume from, keep-alives) pass."""
    text = event.text()
    if not text.strip():
        return event
    value = _read(text)
    if not isinstance(value, dict):
        raise UpstreamProblem(502, "Upstream answered badly", "The upstream's stream is not of JSON-RPC messages.")
    is_answer = "result" in value or "error" in value
    if is_answer and not is_listening and value.get("id") != message.id:
        return None  # an answer to somebody else's question
    if "result" in value:
        event.data = [orjson.dumps({**value, "result": transform(value["result"])})]
    return event


def _read(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise UpstreamProblem(502, "Upstream answered badly", "The upstream's answer is not JSON.") from None


async def events(response: aiohttp.ClientResponse, most: int) -> AsyncIterator[Event]:
    reader = Reader(most)
    try:
        async for piece in pieces(response, patient=True):
            for event in reader.feed(piece):
                yield event
    except TooLong:
        raise UpstreamProblem(502, "Upstream answered badly", "The upstream sent an event that is too long.") from None
