"""Reading what callers send: strict JSON, strict fields, strict queries. The unknown is refused, never ignored."""

from typing import Any, TypeVar

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from rest_framework import serializers
from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser
from rest_framework.request import Request

from agentauth.grants.arguments import BadJSON, read_json

_DEPTH = 40


class StrictJSONParser(JSONParser):
    """RFC 8259 read strictly: one object that has one reading, and nothing in it that PostgreSQL cannot hold."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        most = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        sent = stream.read(most + 1)
        if len(sent) > most:
            raise RequestDataTooBig
        try:
            read = read_json(sent)
        except BadJSON as wrong:
            raise ParseError(str(wrong)) from None
        if not isinstance(read, dict):
            raise ParseError("Send one JSON object.")
        _require_holdable(read, _DEPTH)
        return read


def _require_holdable(value: Any, depth: int) -> None:
    if depth == 0:
        raise ParseError("The JSON is nested too deeply.")
    match value:
        case str():
            if "\x00" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
                raise ParseError("Text may not contain NUL or half a surrogate pair.")
        case dict():
            for name, inner in value.items():
                _require_holdable(name, depth - 1)
                _require_holdable(inner, depth - 1)
        case list():
            for inner in value:
                _require_holdable(inner, depth - 1)


class Strict(serializers.Serializer[Any]):
    """A serializer that names the fields that it does not know instead of dropping them."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            unknown = sorted(str(name) for name in data if name not in self.fields or self.fields[name].read_only)
            if unknown:
                known = ", ".join(name for name, field in self.fields.items() if not field.read_only) or "none"
                raise serializers.ValidationError(
                    {name: [f"There is no such field. Known: {known}."] for name in unknown}
                )
        return super().to_internal_value(data)


S = TypeVar("S", bound=Strict)


class Text(serializers.CharField):
    """A text that must be a JSON string: numbers and booleans are not quietly turned into one."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class Nothing(Strict):
    """For acts that take no fields."""


def body(request: Request, shape: type[Strict], *, partial: bool = False) -> dict[str, Any]:
    """The request's JSON as `shape` says; `partial`: any of its fields may be left out, and none gets its default.

    Raises ValidationError naming each wrong field.
    """
    reader = shape(data=request.data)
    if partial:  # DRF's own `partial` would hold for what lies inside the fields too
        for field in reader.fields.values():
            field.required, field.default = False, serializers.empty
    reader.is_valid(raise_exception=True)
    read: dict[str, Any] = reader.validated_data
    return read


def query(request: Request, shape: type[Strict]) -> dict[str, Any]:
    """The query string as `shape` says; a parameter may occur once."""
    repeated = [name for name, values in request.query_params.lists() if len(values) > 1]
    if repeated:
        raise serializers.ValidationError({name: ["Give this once."] for name in repeated})
    if any("\x00" in value for value in request.query_params.values()):
        raise ParseError("The query may not contain NUL.")
    reader = shape(data=request.query_params.dict())
    reader.is_valid(raise_exception=True)
    read: dict[str, Any] = reader.validated_data
    return read
