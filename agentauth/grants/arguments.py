"""A call's arguments: read so that nobody can read them differently, hashed in one spelling, shown without harm."""

import hashlib
import json
import math
import re
from typing import Any
from unicodedata import category
from urllib.parse import parse_qsl

LONGEST_SHOWN = 16_384
_PLAIN_DEPTH = 64
_TOO_BIG = 2**64
_UNSEEN = ("Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp")
# Letters and marks to go by their category, and nothing to look at: fillers, joiners, selectors of a variant
_BLANK = re.compile(
    r"[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


class BadJSON(ValueError):
    """The message says what is wrong with it, for whoever sent it."""


def read_json(body: bytes) -> Any:
    """The value of a JSON text that has one reading only. Raises BadJSON.

    UTF-8, no key twice in an object (servers disagree which one counts), no NaN, no number beyond 64 bits, no half of
    a surrogate pair, and no deeper than need be.
    """
    try:
        value = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_no_constant,
            parse_int=_integer,
            parse_float=_number,
        )
        if b"\\ud" in body or b"\\uD" in body:
            canonical(value).decode("utf-8")
    except UnicodeDecodeError:
        raise BadJSON("The body is not UTF-8, or has half of a surrogate pair.") from None
    except RecursionError:
        raise BadJSON("The body is nested too deeply.") from None
    except BadJSON:
        raise
    except ValueError:
        raise BadJSON("The body is not JSON.") from None
    if _is_deeper(value, _PLAIN_DEPTH):
        raise BadJSON("The body is nested too deeply.")
    return value


def hash_of(arguments: Any) -> str:
    """SHA-256 over the one spelling: keys sorted, no spaces, UTF-8."""
    return hashlib.sha256(canonical(arguments)).hexdigest()


def canonical(arguments: Any) -> bytes:
    text = json.dumps(arguments, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


def shown(arguments: Any) -> dict[str, Any]:
    """What a person is shown of them, as the database can keep it (no NUL, no lone surrogate)."""
    clean = _clean(arguments)
    return clean if isinstance(clean, dict) else {"arguments": clean}


def visible(text: str) -> str:
    """`text` with whatever turns, hides or breaks it written out, so that a person reads what a server would."""
    return "".join(f"‹{code_point(c)}›" if is_unseen(c) else c for c in text)


def is_unseen(character: str) -> bool:
    """Does it turn, hide or break a line of text, or show nothing at all? A space is none of these."""
    return category(character) in _UNSEEN or _BLANK.match(character) is not None


def code_point(character: str) -> str:
    return f"U+{ord(character):04X}"


def query_values(query: str) -> dict[str, Any]:
    """A query's values by name; a name that comes more than once has a list, so no rule takes the wrong one."""
    found: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in found:
            found[name] = value
        elif isinstance(found[name], list):
            found[name].append(value)
        else:
            found[name] = [found[name], value]
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadJSON("The body has a key twice in one object.")
    return found


def _no_constant(name: str) -> None:
    raise BadJSON(f"The body has {name}, which is not JSON.")


def _integer(digits: str) -> int:
    value = int(digits) if len(digits) <= 20 else _TOO_BIG
    if not -(2**63) <= value < 2**64:
        raise BadJSON("The body has a number beyond 64 bits, which servers read differently.")
    return value


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise BadJSON("The body has a number beyond 64 bits, which servers read differently.")
    return value


def _is_deeper(value: Any, limit: int) -> bool:
    level = [value]
    while level:
        if limit == 0:
            return True
        limit -= 1
        below: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                below.extend(child for child in one.values() if isinstance(child, dict | list))
            elif isinstance(one, list):
                below.extend(child for child in one if isinstance(child, dict | list))
        level = below
    return False


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {_clean(name): _clean(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_clean(one) for one in value]
    return value
