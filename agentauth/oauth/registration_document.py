"""The JSON that a client says of itself (RFC 7591 §3.1, RFC 7592 §2.2, or its own document): read in one way only."""

from typing import Any

from agentauth.grants.arguments import BadJSON, read_json
from agentauth.oauth.door import Call
from agentauth.oauth.errors import InvalidClientMetadata, UnsupportedMediaType


def read_registration_body(call: Call) -> dict[str, Any]:
    """The body of a registration or of its change. Raises UnsupportedMediaType, InvalidClientMetadata."""
    if call.content_type.partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedMediaType("Send application/json.", reason="wrong_content_type")
    return parsed(call.body)


def parsed(body: bytes) -> dict[str, Any]:
    """One object, each name in it once, all of it text that can be kept. Raises InvalidClientMetadata."""
    try:
        document = read_json(body)
    except BadJSON:
        raise InvalidClientMetadata("The client metadata is not JSON that has one reading.") from None
    if not isinstance(document, dict):
        raise InvalidClientMetadata("The client metadata is not a JSON object.")
    if b"\\u0000" in body:
        raise InvalidClientMetadata("The client metadata is not text.")
    return document
