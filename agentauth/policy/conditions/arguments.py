"""Only with these arguments: [{"at": "/amount", "max": 100}, {"at": "/room", "in": ["blue", "green"]}].

`at` is a JSON pointer (RFC 6901) into a tool's arguments, or into {"path", "query", "body"} of a REST call.
Tests: `max`, `min`, `in`, `is`. An argument that is missing, or of another type, is not within the rule.
"""

from typing import Any

from agentauth.policy.conditions.rule import BadRule
from agentauth.policy.facts import CallFacts

_TESTS = {"max", "min", "in", "is"}
_MISSING = object()


def applies(rule: Any, call: CallFacts) -> bool:
    if not isinstance(rule, list):
        raise BadRule(rule)
    return all(_holds(part, call.arguments) for part in rule)


def _holds(rule: Any, arguments: Any) -> bool:
    if not isinstance(rule, dict) or not isinstance(rule.get("at"), str):
        raise BadRule(rule)
    tests = {name: bound for name, bound in rule.items() if name != "at"}
    if not tests or not set(tests) <= _TESTS:
        raise BadRule(rule)
    value = _at(rule["at"], arguments)
    return value is not _MISSING and all(_passes(name, bound, value) for name, bound in tests.items())


def _passes(name: str, bound: Any, value: Any) -> bool:
    if name == "is":
        return _same(value, bound)
    if name == "in":
        if not isinstance(bound, list):
            raise BadRule(bound)
        return any(_same(value, allowed) for allowed in bound)
    if isinstance(bound, bool) or not isinstance(bound, int | float):
        raise BadRule(bound)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return value <= bound if name == "max" else value >= bound


def _same(one: Any, other: Any) -> bool:
    """Equal and of the same type: to Python `True == 1`, to a person not."""
    return type(one) is type(other) and bool(one == other)


def _at(pointer: str, document: Any) -> Any:
    if pointer and not pointer.startswith("/"):
        raise BadRule(pointer)
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(document, dict) and name in document:
            document = document[name]
        elif isinstance(document, list) and name.isascii() and name.isdigit() and int(name) < len(document):
            document = document[int(name)]
        else:
            return _MISSING
    return document
