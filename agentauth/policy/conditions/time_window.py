"""Only on these days, at these hours: {"days": ["mon", …], "from": "08:00", "to": "18:00", "zone": "Europe/Berlin"}.

Days left out mean every day. A window whose end is not after its beginning runs over midnight and belongs to the day it
began on.
"""

from datetime import time
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from agentauth.policy.conditions.rule import BadRule
from agentauth.policy.facts import CallFacts

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def applies(rule: Any, call: CallFacts) -> bool:
    if not isinstance(rule, dict) or not set(rule) <= {"days", "from", "to", "zone"}:
        raise BadRule(rule)
    days, start, end = _days(rule.get("days")), _time(rule.get("from", "00:00")), _time(rule.get("to", "00:00"))
    here = call.now.astimezone(_zone(rule.get("zone", "UTC")))
    today, clock = here.weekday(), here.time()
    if start < end:
        return today in days and start <= clock < end
    return (today in days and clock >= start) or ((today - 1) % 7 in days and clock < end)


def _days(given: Any) -> frozenset[int]:
    if given is None:
        return frozenset(range(7))
    if not isinstance(given, list) or not given or not all(day in DAYS for day in given):
        raise BadRule(given)
    return frozenset(DAYS.index(day) for day in given)


def _time(given: Any) -> time:
    try:
        return time.fromisoformat(given)
    except (TypeError, ValueError):
        raise BadRule(given) from None


@lru_cache(maxsize=256)
def _zone(name: Any) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except Exception:  # the name may be anything, and ZoneInfo raises as many kinds
        raise BadRule(name) from None
