"""Reading the tools of an MCP server from its URL, whichever era it speaks.

Asked first as in 2026-07-28 (one self-contained POST, no session); a server that does not understand is asked again
with `initialize` and a session (2025-11-25 and before). What it says of its tools are claims, and hostile.
"""

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import orjson

from agentauth.outbound.fetch import Fetched, FetchFailed, fetch, outside
from agentauth.resources.drafts import MOST_OPERATIONS, Draft, DraftOperation, Unreadable, plain

MODERN = "2026-07-28"
LEGACY = "2025-11-25"
_SECONDS = 30.0  # for the whole conversation
_MOST_BYTES = 4 * 1024 * 1024
_MOST_PAGES = 50
_META = "io.modelcontextprotocol/"
_CLIENT = {"name": "AgentAuth", "version": "1"}
_IDENTITY = ("name", "title", "description", "inputSchema", "outputSchema", "annotations")


class _NotSpoken(Exception):
    """The server does not speak the era that it was asked in."""


@dataclass(slots=True)
class _Conversation:
    """One exchange of messages with one server: its headers, its session, the time that is left."""

    url: str
    headers: Mapping[str, str]
    ends: float = field(default_factory=lambda: time.monotonic() + _SECONDS)
    session: str = ""
    version: str = ""
    number: int = 0

    def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """The result of one request. Raises _NotSpoken for an error that means another era, Unreadable for others."""
        self.number += 1
        asked = self.number
        answer = self._post({"jsonrpc": "2.0", "id": asked, "method": method, "params": params}, method, asked)
        if answer.status in (401, 403):
            raise Unreadable(f"The server refused us ({answer.status}). It wants a credential, or another one.")
        message = _message(answer, asked)
        if message is None:
            if answer.status >= 500:
                raise Unreadable(f"The server failed with status {answer.status}.")
            raise _NotSpoken(f"status {answer.status}")
        error = message.get("error")
        if isinstance(error, Mapping):
            raise _NotSpoken(plain(error.get("message"), 120))
        result = message.get("result")
        if not isinstance(result, dict):
            raise Unreadable("The server answered, but not in MCP.")
        self.session = answer.headers.get("mcp-session-id", self.session)
        return result

    def tell(self, method: str) -> None:
        self._post({"jsonrpc": "2.0", "method": method}, method, None)

    def end(self) -> None:
        """Give the session back; a server may not care."""
        if self.session:
            with suppress(FetchFailed):
                fetch(self.url, method="DELETE", headers=self._headers(""), timeout=3.0, max_bytes=_MOST_BYTES)

    def _post(self, message: dict[str, Any], method: str, asked: int | None) -> Fetched:
        return fetch(
            self.url,
            method="POST",
            body=orjson.dumps(message),
            headers=self._headers(method),
            accept="application/json, text/event-stream, */*",
            max_bytes=_MOST_BYTES,
            timeout=max(0.5, self.ends - time.monotonic()),
            # A server may keep its stream open after the answer that we came for
            enough=lambda body: asked is not None and _in_stream(body, asked) is not None,
        )

    def _headers(self, method: str) -> dict[str, str]:
        sent = dict(self.headers) | {"Content-Type": "application/json"}
        if self.version:
            sent["MCP-Protocol-Version"] = self.version
        if self.version == MODERN and method:
            sent["Mcp-Method"] = method
        if self.session:
            sent["Mcp-Session-Id"] = self.session
        return sent


def read(url: str, headers: Mapping[str, str] | None = None) -> Draft:
    """The draft of an MCP server. `headers` carry the upstream credential.

    Raises FetchRefused, FetchFailed, Unreadable.
    """
    with outside():
        try:
            server, tools = _read_modern(_Conversation(url, headers or {}, version=MODERN))
        except _NotSpoken as modern:
            try:
                server, tools = _read_legacy(_Conversation(url, headers or {}))
            except _NotSpoken as legacy:
                raise Unreadable(f"This does not look like an MCP server ({legacy or modern}).") from None
    return draft_of(url, server, tools)


def draft_of(url: str, server: Mapping[str, Any], tools: Sequence[Any]) -> Draft:
    """The draft from what a server said of itself and its tools. Raises Unreadable."""
    notes: list[str] = []
    operations = list(_operations(tools, notes))
    if not operations:
        raise Unreadable("The server offers no tools.")
    return Draft(
        kind="mcp",
        name=plain(server.get("title") or server.get("name"), 80) or (urlsplit(url).hostname or ""),
        description=plain(server.get("description"), 300),
        upstream_url=url,
        operations=operations,
        notes=notes,
    )


def digest_of(tool: Mapping[str, Any]) -> str:
    """SHA-256 over what a tool is and says of itself: an admin reviewed exactly this."""
    said = {name: tool[name] for name in _IDENTITY if name in tool}
    return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _read_modern(conversation: _Conversation) -> tuple[Mapping[str, Any], list[Any]]:
    envelope = {
        f"{_META}protocolVersion": MODERN,
        f"{_META}clientInfo": _CLIENT,
        f"{_META}clientCapabilities": {},
    }
    tools, first = _all_pages(conversation, {"_meta": envelope})
    meta = first.get("_meta")
    server = meta.get(f"{_META}serverInfo") if isinstance(meta, Mapping) else None
    return (server if isinstance(server, Mapping) else {}), tools


def _read_legacy(conversation: _Conversation) -> tuple[Mapping[str, Any], list[Any]]:
    hello = conversation.ask("initialize", {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": _CLIENT})
    spoken = hello.get("protocolVersion")
    conversation.version = spoken if isinstance(spoken, str) and len(spoken) < 20 and spoken.isascii() else LEGACY
    try:
        conversation.tell("notifications/initialized")
        tools, _ = _all_pages(conversation, {})
    finally:
        conversation.end()
    server = hello.get("serverInfo")
    return (server if isinstance(server, Mapping) else {}), tools


def _all_pages(conversation: _Conversation, params: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    found: list[Any] = []
    first: dict[str, Any] | None = None
    cursor: str | None = None
    for _ in range(_MOST_PAGES):
        page = conversation.ask("tools/list", params | ({"cursor": cursor} if cursor else {}))
        first = first or page
        tools = page.get("tools")
        if not isinstance(tools, list):
            raise Unreadable("The server's list of tools is not a list.")
        found.extend(tools)
        if len(found) > MOST_OPERATIONS:
            raise Unreadable(f"The server offers more than {MOST_OPERATIONS} tools.")
        following = page.get("nextCursor")
        if not isinstance(following, str) or not following or following == cursor:
            return found, first
        cursor = following
    raise Unreadable(f"The server's list of tools has more than {_MOST_PAGES} pages.")


def _operations(tools: Sequence[Any], notes: list[str]) -> Iterator[DraftOperation]:
    seen: set[str] = set()
    for tool in tools:
        name = tool.get("name") if isinstance(tool, Mapping) else None
        if not isinstance(name, str) or not 1 <= len(name) <= 128 or not (name.isascii() and name.isprintable()):
            notes.append(f"A tool without a proper name is left out ({plain(name, 40) or 'no name'}).")
            continue
        if name in seen:
            # Whoever calls it cannot know which one answers
            raise Unreadable(f"The server offers two tools named {name}.")
        seen.add(name)
        claims = tool.get("annotations")
        claims = claims if isinstance(claims, Mapping) else {}
        yield DraftOperation(
            key=name,
            tool=name,
            summary=plain(tool.get("description") or tool.get("title"), 300),
            says_read_only=_flag(claims, "readOnlyHint"),
            says_destructive=_flag(claims, "destructiveHint"),
            digest=digest_of(tool),
        )


def _flag(claims: Mapping[str, Any], name: str) -> bool | None:
    value = claims.get(name)
    return value if isinstance(value, bool) else None


def _message(answer: Fetched, asked: int) -> Mapping[str, Any] | None:
    """The JSON-RPC answer to request `asked`, from a JSON body or a stream of events."""
    if answer.media_type == "text/event-stream":
        return _in_stream(answer.body + b"\n\n", asked)
    try:
        message = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(message, Mapping):
        return None
    mine = message.get("id") == asked or (message.get("id") is None and "error" in message)
    return message if mine and message.get("jsonrpc") == "2.0" else None


def _in_stream(body: bytes, asked: int) -> Mapping[str, Any] | None:
    *events, _ = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n\n")
    for event in events:
        lines = (line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:"))
        try:
            message = orjson.loads(b"\n".join(lines))
        except orjson.JSONDecodeError:
            continue
        if isinstance(message, Mapping) and message.get("id") == asked and "method" not in message:
            return message
    return None
