"""A request's path, read strictly: what is matched is exactly what is sent, or nothing is.

Servers disagree about `..`, `//`, encoded slashes, parameters after `;` and case. Whatever two of them could read
differently is refused here instead of guessed at.
"""

import re
import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from agentauth.gateway.snapshot import Operation

_RAW = re.compile(rb"(?:[A-Za-z0-9\-._~!$&'()*+,=:@/]|%[0-9A-Fa-f]{2})*\Z")
_QUERY = re.compile(rb"(?:[A-Za-z0-9\-._~!$&'()*+,=:@/?\[\]|^`{}]|%[0-9A-Fa-f]{2})*\Z")
_ENCODED_TWICE = re.compile(r"%[0-9A-Fa-f]{2}")
_SAFE = "-._~!$&'()*+,=:@"
_PLACEHOLDER = re.compile(r"\{[^{}/]+\}")
LONGEST = 8000


class BadPath(ValueError):
    """The message says what is wrong with it, for whoever sent it."""


def read_path(raw: bytes) -> list[str]:
    """The decoded segments of an absolute path. Raises BadPath."""
    if len(raw) > LONGEST:
        raise BadPath("The path is too long.")
    if not raw.startswith(b"/") or not _RAW.match(raw):
        raise BadPath("The path has a character that is not allowed in a path.")
    pieces = raw[1:].split(b"/")
    last = len(pieces) - 1
    return [_segment(piece, may_be_empty=i == last) for i, piece in enumerate(pieces)]


def write_path(segments: list[str]) -> str:
    """The one spelling of these segments."""
    return "/" + "/".join(quote(segment, safe=_SAFE) for segment in segments)


def read_query(raw: bytes) -> str:
    """The query as it came, if every server reads it alike. Raises BadPath."""
    if len(raw) > LONGEST:
        raise BadPath("The query is too long.")
    if not _QUERY.match(raw):
        raise BadPath("The query has a character that is not allowed there.")
    return raw.decode("ascii")


def _segment(piece: bytes, *, may_be_empty: bool) -> str:
    if not piece and not may_be_empty:
        raise BadPath("The path has an empty segment (//).")
    if b"%" not in piece:  # plain ASCII, whose characters were all looked at: only its meaning is left
        if piece in (b".", b".."):
            raise BadPath("The path has a dot segment.")
        return piece.decode("ascii")
    text = bytearray()
    at = 0
    while at < len(piece):
        if piece[at] == 0x25:
            text.append(int(piece[at + 1 : at + 3], 16))
            at += 3
        else:
            text.append(piece[at])
            at += 1
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError:
        raise BadPath("The path is not UTF-8.") from None
    for form in (decoded, unicodedata.normalize("NFKC", decoded)):
        if form.strip() in (".", ".."):
            raise BadPath("The path has a dot segment.")
        if any(character in '/\\;?#"<>' or unicodedata.category(character) in ("Cc", "Cf") for character in form):
            raise BadPath("The path has an encoded separator or control character.")
    if _ENCODED_TWICE.search(decoded):
        raise BadPath("The path is percent-encoded twice.")
    return decoded


@dataclass(slots=True)
class Match:
    operation: "Operation"
    values: dict[str, str]


@dataclass(slots=True)
class _Node:
    literals: dict[str, "_Node"] = field(default_factory=dict)
    folded: set[str] = field(default_factory=set)  # the literals as a lenient server would read them
    patterns: list[tuple[re.Pattern[str], list[str], "_Node"]] = field(default_factory=list)
    ends: dict[str, "Operation"] = field(default_factory=dict)


class Routes:
    """The operations of one REST resource by method and path. A literal segment beats a placeholder."""

    def __init__(self) -> None:
        self._root = _Node()

    def add(self, method: str, path: str, operation: "Operation") -> None:
        node = self._root
        for part in path.strip().removeprefix("/").split("/"):
            node = self._step(node, part)
        node.ends[method.upper()] = operation

    def match(self, method: str, segments: list[str]) -> Match | None:
        """The one operation that this is, or None. HEAD is GET without a body."""
        wanted = [method] if method != "HEAD" else ["HEAD", "GET"]
        for name in wanted:
            found = self._walk(self._root, name, segments, 0)
            if found is not None:
                return Match(found[0], dict(found[1]))
        return None

    def methods(self, segments: list[str]) -> list[str]:
        """The methods that this path has operations for."""
        known = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE")
        return [name for name in known if self._walk(self._root, name, segments, 0)]

    @staticmethod
    def _step(node: _Node, part: str) -> _Node:
        if not _PLACEHOLDER.search(part):
            node.folded.add(_fold(part))
            return node.literals.setdefault(part, _Node())
        names = [name[1:-1] for name in _PLACEHOLDER.findall(part)]
        pattern = re.compile("(.+?)".join(re.escape(text) for text in _PLACEHOLDER.split(part)) + r"\Z", re.DOTALL)
        for known, _, child in node.patterns:
            if known.pattern == pattern.pattern:
                return child
        child = _Node()
        node.patterns.append((pattern, names, child))
        node.patterns.sort(key=lambda entry: -len(entry[0].pattern))  # the one with more literal text first
        return child

    def _walk(
        self, node: _Node, method: str, segments: list[str], at: int
    ) -> "tuple[Operation, list[tuple[str, str]]] | None":
        if at == len(segments):
            operation = node.ends.get(method)
            return (operation, []) if operation else None
        segment = segments[at]
        child = node.literals.get(segment)
        if child is not None:
            found = self._walk(child, method, segments, at + 1)
            if found is not None:
                return found
        elif _fold(segment) in node.folded:
            return None  # a lenient server would take it for the literal, we would not: nobody guesses
        for pattern, names, below in node.patterns:
            matched = pattern.match(segment) if segment else None
            if matched is not None:
                found = self._walk(below, method, segments, at + 1)
                if found is not None:
                    return found[0], [*zip(names, matched.groups(), strict=True), *found[1]]
        return None


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().strip(" .")
