"""What reading a server's offer gives: a draft of a resource, nothing saved yet. Pure."""

import unicodedata
from dataclasses import dataclass, field

MOST_OPERATIONS = 2000


class Unreadable(Exception):
    """A document or server that we cannot read. `reason` says what is wrong and where, for the person who named it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class DraftOperation:
    """One thing that can be called. Everything but `method`, `path` and `tool` is the server's claim."""

    key: str  # "POST /rooms/{room}/book", or the tool's name
    method: str = ""
    path: str = ""
    tool: str = ""
    name: str = ""  # operationId
    summary: str = ""
    says_read_only: bool | None = None
    says_destructive: bool | None = None
    digest: str = ""  # of a tool's definition


@dataclass(slots=True)
class Draft:
    kind: str  # rest, mcp
    name: str
    description: str
    upstream_url: str  # empty when the document does not say
    operations: list[DraftOperation]
    document: str = ""
    notes: list[str] = field(default_factory=list)  # what was left out, in sentences


def plain(text: object, length: int) -> str:
    """Somebody else's text as one line of visible characters: no controls, no invisible or direction marks."""
    if not isinstance(text, str):
        return ""
    spaced = "".join(" " if character.isspace() else character for character in text[: length * 8])
    kept = "".join(c for c in spaced if unicodedata.category(c) not in ("Cc", "Cf", "Co", "Cs", "Cn"))
    one_line = " ".join(kept.split())
    return one_line if len(one_line) <= length else one_line[: length - 1].rstrip() + "…"
