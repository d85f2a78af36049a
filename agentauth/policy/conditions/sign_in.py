"""Only while the person has signed in well enough (RFC 9470): {"acr": "2fa", "max_age": 900}.

`acr` is the weakest level that will do, `max_age` the seconds since they last proved who they are at the level that the
token names. An agent that acts for itself has no person behind it, so there this never holds.
"""

from collections.abc import Mapping
from typing import Any

from agentauth.policy.conditions.rule import BadRule
from agentauth.policy.facts import RISKS, CallFacts

LEVELS = ("1fa", "2fa", "phr")
"""How a person signs in, weakest first: one factor, two, or a passkey, which cannot be phished."""


def applies(rule: Any, call: CallFacts) -> bool:
    acr, max_age = _read(rule)
    if acr and not reaches(call.acr, acr):
        return False
    if max_age is None:
        return True
    return call.auth_time is not None and call.now.timestamp() <= call.auth_time + max_age


def reaches(acr: str, wanted: str) -> bool:
    """Is `acr` at least as strong as `wanted`? What is not known reaches nothing, and nothing reaches it."""
    return acr in LEVELS and wanted in LEVELS and LEVELS.index(acr) >= LEVELS.index(wanted)


def enough_for(acr: str) -> tuple[str, ...]:
    """Every level that reaches this one, the weakest first."""
    return tuple(level for level in LEVELS if reaches(level, acr))


def demanded_of(risk: str, from_risk: str, acr: str, max_age: int | None) -> dict[str, Any]:
    """The rule for a call of class `risk` where one holds from `from_risk` on; a class not known is above all."""
    if RISKS.get(risk, 99) < RISKS.get(from_risk, -1):
        return {}
    return {"acr": acr} | ({"max_age": max_age} if max_age is not None else {})


def strictest(*rules: Mapping[str, Any] | None) -> dict[str, Any]:
    """One rule that holds only where all of them do; {} for none."""
    read = [_read(rule) for rule in rules if rule]
    acrs, ages = [acr for acr, _ in read if acr], [age for _, age in read if age is not None]
    found: dict[str, Any] = {"acr": max(acrs, key=LEVELS.index)} if acrs else {}
    return found | ({"max_age": min(ages)} if ages else {})


def _read(rule: Any) -> tuple[str, int | None]:
    if not isinstance(rule, Mapping) or not rule or not set(rule) <= {"acr", "max_age"}:
        raise BadRule(rule)
    acr, max_age = rule.get("acr", ""), rule.get("max_age")
    if acr not in ("", *LEVELS):
        raise BadRule(acr)
    if max_age is not None and (isinstance(max_age, bool) or not isinstance(max_age, int) or not 0 <= max_age < 10**9):
        raise BadRule(max_age)
    return acr, max_age
