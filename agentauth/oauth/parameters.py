"""Reading what a client sent, strictly: every parameter once, nothing over-long, nothing that is not text. Pure."""

from collections.abc import Iterator, Mapping
from urllib.parse import parse_qsl

from agentauth.oauth.errors import (
    InvalidRequest,
    InvalidScope,
    InvalidTarget,
    OAuthError,
    RequestTooLarge,
    UnsupportedMediaType,
)

MAX_BODY = 64 * 1024
_MAX_FIELDS = 64
_LONGEST = 2048
_LONGER = {
    "assertion": 8192,
    "client_assertion": 8192,
    "token": 8192,
    "subject_token": 8192,
    "actor_token": 8192,
    "state": 4096,
    "scope": 4096,
    "authorization_details": 8192,
    "client_id": 500,
    "redirect_uri": 500,
}
_MAY_REPEAT = ("resource", "audience")  # RFC 8707 §2, RFC 8693 §2.1


class Parameters(Mapping[str, str]):
    """What was sent, each name once. An empty value counts as left out (RFC 6749 §3.1, §3.2).

    `flaws` says what is wrong with which name; such a name has no value here.
    """

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._values: dict[str, str] = {}
        self.resources: list[str] = []
        self.audiences: list[str] = []
        self.flaws: dict[str, OAuthError] = {}
        seen: set[str] = set()
        for name, value in pairs:
            if len(value) > _LONGER.get(name, _LONGEST):
                self._flaw(name, "is too long", "parameter_too_long")
            elif "\0" in value or "\0" in name:
                self._flaw(name, "is not text", "not_text")
            elif name in _MAY_REPEAT:
                found = self.resources if name == "resource" else self.audiences
                found += [value] if value else []
            elif name in seen:  # RFC 6749 §3.1: MUST NOT be included more than once
                self._flaw(name, "came twice", "repeated_parameter")
            elif value and name not in self.flaws:
                self._values[name] = value
            seen.add(name)

    def _flaw(self, name: str, what: str, reason: str) -> None:
        self._values.pop(name, None)
        self.flaws[name] = InvalidRequest(f"The parameter {_shown(name)} {what}.", reason=reason)

    def sound(self) -> "Parameters":
        """Itself, or the first flaw raised."""
        for flaw in self.flaws.values():
            raise flaw
        return self

    @property
    def resource(self) -> str:
        """RFC 8707 §2 allows several; a token of ours is for one, so two different ones are refused, none chosen."""
        if len(set(self.resources)) > 1:
            raise InvalidTarget("Ask for one resource at a time.")
        return self.resources[0] if self.resources else ""

    def require(self, name: str) -> str:
        value = self._values.get(name)
        if value is None:
            raise InvalidRequest(f"The parameter {name} is missing.", reason="missing_parameter")
        return value

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def from_form(body: bytes, content_type: str) -> Parameters:
    """The body of a POST (RFC 6749 §3.2: `application/x-www-form-urlencoded`, UTF-8)."""
    return from_query(form_text(body, content_type)).sound()


def form_text(body: bytes, content_type: str) -> str:
    """The form as it was written, unread. Raises UnsupportedMediaType, RequestTooLarge, InvalidRequest."""
    if content_type.partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise UnsupportedMediaType("Send application/x-www-form-urlencoded.", reason="wrong_content_type")
    if len(body) > MAX_BODY:
        raise RequestTooLarge("The request is too large.", reason="body_too_large")
    try:
        return body.decode("ascii")
    except UnicodeDecodeError:
        raise InvalidRequest("The body is not form-encoded.", reason="not_text") from None


def from_query(query: str) -> Parameters:
    """A query string, or a body written like one. What is wrong with it is in `flaws`, for who can answer it."""
    if len(query) > MAX_BODY:
        raise RequestTooLarge("The request is too large.", reason="body_too_large")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except (UnicodeDecodeError, ValueError):
        raise InvalidRequest("The request is not form-encoded.", reason="not_text") from None
    return Parameters(pairs)


def scope_names(value: str) -> tuple[str, ...]:
    """RFC 6749 §3.3: names parted by single spaces, each of printable ASCII without quote and backslash; order kept."""
    names = [name for name in value.split(" ") if name]
    if any(not 0x21 <= ord(c) <= 0x7E or c in '"\\' for name in names for c in name):
        raise InvalidScope("The scope is malformed.", reason="malformed_scope")
    return tuple(dict.fromkeys(names))


def _shown(name: str) -> str:
    """A name that may stand in a description: ours are words, anything else is only called so."""
    return name if len(name) <= 40 and name.isascii() and name.replace("_", "").isalnum() else "(unknown)"
