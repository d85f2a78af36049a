"""At most this many calls a day (UTC): 100. Counted from the record, in the transaction that admits the call."""

from typing import Any

from agentauth.policy.conditions.rule import BadRule
from agentauth.policy.facts import CallFacts


def applies(rule: Any, call: CallFacts) -> bool:
    if isinstance(rule, bool) or not isinstance(rule, int) or rule < 0:
        raise BadRule(rule)
    return call.calls_today is None or call.calls_today < rule
