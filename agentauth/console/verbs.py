"""A permission's words turned into a sentence: "Enter the meeting room" → "entered", "the meeting room". Pure."""

IRREGULAR = {
    "see": "saw", "read": "read", "write": "wrote", "send": "sent", "pay": "paid", "buy": "bought", "make": "made",
    "find": "found", "get": "got", "set": "set", "put": "put", "give": "gave", "take": "took", "run": "ran",
    "begin": "began", "hold": "held", "draw": "drew", "sell": "sold", "tell": "told", "let": "let", "stop": "stopped",
    "ship": "shipped", "drop": "dropped", "map": "mapped", "cut": "cut", "submit": "submitted", "cancel": "cancelled",
    "transfer": "transferred", "leave": "left", "bring": "brought", "keep": "kept", "hide": "hid", "undo": "undid",
}  # fmt: skip
REGULAR = frozenset(
    [
        "enter",
        "book",
        "list",
        "look",
        "search",
        "query",
        "fetch",
        "load",
        "download",
        "upload",
        "open",
        "close",
        "lock",
        "unlock",
        "start",
        "restart",
        "pause",
        "resume",
        "create",
        "add",
        "register",
        "change",
        "update",
        "edit",
        "replace",
        "rename",
        "move",
        "copy",
        "delete",
        "remove",
        "archive",
        "restore",
        "publish",
        "approve",
        "confirm",
        "reject",
        "refuse",
        "revoke",
        "grant",
        "share",
        "invite",
        "assign",
        "order",
        "purchase",
        "refund",
        "charge",
        "bill",
        "invoice",
        "draft",
        "post",
        "comment",
        "answer",
        "reply",
        "call",
        "ask",
        "check",
        "view",
        "show",
        "count",
        "export",
        "import",
        "print",
        "sign",
        "merge",
        "deploy",
        "build",
        "test",
        "scan",
        "schedule",
        "reserve",
        "cancel",
        "subscribe",
        "execute",
        "process",
        "manage",
        "use",
        "translate",
        "analyse",
        "analyze",
        "watch",
        "track",
        "visit",
    ]
)


def past(words: str) -> tuple[str, str]:
    """("entered", "the meeting room"). Words that do not begin with a verb we know are quoted whole."""
    first, rest = _split(words)
    if first in IRREGULAR:
        return IRREGULAR[first], rest
    if first in REGULAR:
        return _ed(first), rest
    return "used", f"“{words}”"


def infinitive(words: str) -> tuple[str, str]:
    """("enter", "the meeting room"), to follow "tried to" or "wants to"."""
    first, rest = _split(words)
    return (first, rest) if first in IRREGULAR or first in REGULAR else ("use", f"“{words}”")


def _split(words: str) -> tuple[str, str]:
    first, _, rest = words.strip().partition(" ")
    return first.lower(), rest


def _ed(verb: str) -> str:
    if verb.endswith("e"):
        return f"{verb}d"
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return f"{verb[:-1]}ied"
    return f"{verb}ed"
