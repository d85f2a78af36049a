"""One JSON-RPC message of MCP over Streamable HTTP, and the rules of its era: 2026-07-28, or one with `initialize`.

Decided is always on the parsed body. Headers that repeat parts of it must repeat them exactly, in either era, so that
no server behind us can read another call from them.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Any

from agentauth.gateway.answers import Answer, rpc_error
from agentauth.gateway.headers import RawHeaders, one
from agentauth.grants.arguments import BadJSON, read_json

MODERN = ("2026-07-28",)
LEGACY = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
META = "io.modelcontextprotocol/"
NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}

PARSE_ERROR, INVALID_REQUEST, INVALID_PARAMS = -32700, -32600, -32602
HEADER_MISMATCH, UNSUPPORTED_VERSION = -32020, -32022

_KEYS = {"jsonrpc", "id", "method", "params", "result", "error"}
_PARAMS_THAT_COUNT = {"name", "arguments", "uri", "_meta", "cursor"}
_METHOD = re.compile(r"[A-Za-z0-9_/.$-]{1,128}\Z")
_LONGEST_ID = 256
_SENTINEL = re.compile(r"=\?base64\?(.*)\?=\Z")


class Rejected(Exception):
    """Not a message that may be looked at any further; carries the answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Message:
    method: str  # empty for a response to something that the server asked
    id: Any
    params: dict[str, Any]
    is_modern: bool
    version: str  # as the header says, empty if it does not

    @property
    def is_request(self) -> bool:
        return bool(self.method) and self.id is not None


def read_message(body: bytes, headers: RawHeaders) -> Message:
    """The message if it follows the rules of its era. Raises Rejected, headers.BadHeader."""
    try:
        value = read_json(body)
    except BadJSON as problem:
        raise Rejected(rpc_error(400, PARSE_ERROR, str(problem), None)) from None
    if isinstance(value, list):
        raise Rejected(rpc_error(400, INVALID_REQUEST, "Batches are not accepted.", None))
    if not isinstance(value, dict) or value.get("jsonrpc") != "2.0" or not set(value) <= _KEYS:
        raise Rejected(rpc_error(400, INVALID_REQUEST, "This is not a JSON-RPC 2.0 message.", None))
    return _in_its_era(value, _id(value), headers)


def _id(value: dict[str, Any]) -> Any:
    """A string or an integer, or None where there is none. `null` is not an id (JSON-RPC 2.0 §4)."""
    if "id" not in value:
        return None
    found = value["id"]
    if isinstance(found, bool) or not isinstance(found, str | int) or len(str(found)) > _LONGEST_ID:
        raise Rejected(rpc_error(400, INVALID_REQUEST, "The id must be a string or an integer.", None))
    return found


def _in_its_era(value: dict[str, Any], message_id: Any, headers: RawHeaders) -> Message:
    method, params = value.get("method"), value.get("params", {})
    answers = [name for name in ("result", "error") if name in value]
    if "method" not in value:
        if len(answers) != 1 or message_id is None or "params" in value:
            raise _bad(message_id, INVALID_REQUEST, "This is neither a request nor a response.")
        return Message("", message_id, {}, is_modern=False, version=_version(headers, message_id))
    if not isinstance(method, str) or not _METHOD.match(method) or answers:
        raise _bad(message_id, INVALID_REQUEST, "This is neither a request nor a response.")
    if not isinstance(params, dict):
        raise _bad(message_id, INVALID_PARAMS, "params must be an object.")
    for key in params:
        if key not in _PARAMS_THAT_COUNT and key.casefold() in _PARAMS_THAT_COUNT:
            raise _bad(
                message_id, INVALID_PARAMS, f"params has “{key[:40]}”, which some servers would take for another key."
            )
    meta = params.get("_meta", {})
    if not isinstance(meta, dict):
        raise _bad(message_id, INVALID_PARAMS, "params._meta must be an object.")
    header = one(headers, b"mcp-protocol-version") or ""
    inner = meta.get(f"{META}protocolVersion")
    is_modern = inner is not None or header > max(LEGACY)
    if is_modern and message_id is not None:
        _check_envelope(meta, inner, header, message_id)
    _check_mirrors(method, params, headers, message_id, required=is_modern and message_id is not None)
    if is_modern:
        spoken = inner if inner is not None else header
        if spoken not in MODERN:
            data = {"supported": [*MODERN], "requested": spoken}
            raise _bad(message_id, UNSUPPORTED_VERSION, "This protocol version is not supported.", data)
    else:
        _version(headers, message_id)
    return Message(method, message_id, params, is_modern, header)


def _version(headers: RawHeaders, message_id: Any) -> str:
    header = one(headers, b"mcp-protocol-version") or ""
    if header and header not in (*LEGACY, *MODERN):
        raise _bad(message_id, INVALID_REQUEST, f"This protocol version is not supported; {', '.join(LEGACY)} are.")
    return header


def _check_envelope(meta: dict[str, Any], inner: Any, header: str, message_id: Any) -> None:
    """2026-07-28, basic: every request says its version and what its client can do."""
    missing = [name for name in ("protocolVersion", "clientCapabilities") if f"{META}{name}" not in meta]
    if missing:
        raise _bad(message_id, INVALID_PARAMS, f"params._meta lacks {', '.join(META + name for name in missing)}.")
    if header != inner:
        raise _bad(message_id, HEADER_MISMATCH, "MCP-Protocol-Version does not say what params._meta says.")


def _check_mirrors(
    method: str, params: dict[str, Any], headers: RawHeaders, message_id: Any, *, required: bool
) -> None:
    """2026-07-28, Streamable HTTP: Mcp-Method and Mcp-Name repeat the body. In other eras: if they come, likewise."""
    said = one(headers, b"mcp-method")
    if said != method and (required or said is not None):
        raise _bad(message_id, HEADER_MISMATCH, "Mcp-Method does not say what the body says.")
    said = one(headers, b"mcp-name")
    key = NAMED.get(method)
    wanted = params.get(key) if key else None
    if said is None and (not required or wanted is None):
        return
    if said is None or wanted is None or _decoded(said) != wanted:
        raise _bad(message_id, HEADER_MISMATCH, "Mcp-Name does not say what the body says.")


def _decoded(value: str) -> str | None:
    """A header's value, out of its Base64 sentinel if it is in one; None if that is broken."""
    wrapped = _SENTINEL.match(value)
    if wrapped is None:
        return value
    try:
        inner = base64.b64decode(wrapped[1], validate=True)
        return inner.decode("utf-8") if base64.b64encode(inner).decode() == wrapped[1] else None
    except (binascii.Error, UnicodeDecodeError):
        return None


def _bad(message_id: Any, code: int, text: str, data: Any = None) -> Rejected:
    return Rejected(rpc_error(400, code, text, message_id, data))
