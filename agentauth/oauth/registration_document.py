"""The JSON that a client sends about itself (RFC 7591 §3.1, RFC 7592 §2.2)."""

from typing import Any

import orjson

from agentauth.oauth.door import Call
from agentauth.oauth.errors import InvalidClientMetadata, UnsupportedMediaType


def read_json(call: Call) -> dict[str, Any]:
    if call.content_type.partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedMediaType("Send application/json.", reason="wrong_content_type")
    try:
        document = orjson.loads(call.body)
    except orjson.JSONDecodeError:
        raise InvalidClientMetadata("The body is not JSON.") from None
    if not isinstance(document, dict):
        raise InvalidClientMetadata("The body is not a JSON object.")
    if b"\\u0000" in call.body:
        raise InvalidClientMetadata("The metadata is not text.")
    return document
