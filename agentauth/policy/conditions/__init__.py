"""Constraints of a grant, one file each: `applies(rule, call) -> bool` says whether the call is within the rule.

A grant's `constraints` is an object of kind to rule:
`time_window` {"days": ["mon", …], "from": "08:00", "to": "18:00", "zone": "Europe/Berlin"}, `ip` ["192.0.2.0/24", …],
`calls_per_day` 100, `arguments` [{"at": "/body/amount", "max": 100}, …], `sign_in` {"acr": "2fa", "max_age": 900}. A
kind or rule not understood refuses.
"""

from collections.abc import Mapping
from typing import Any

from agentauth.policy.conditions import arguments, calls_per_day, ip, sign_in, time_window
from agentauth.policy.conditions.rule import BadRule
from agentauth.policy.decision import Reason
from agentauth.policy.facts import CallFacts

KINDS = {
    "time_window": (time_window, Reason.CONSTRAINT_TIME_WINDOW),
    "ip": (ip, Reason.CONSTRAINT_IP),
    "calls_per_day": (calls_per_day, Reason.CONSTRAINT_CALL_BUDGET),
    "arguments": (arguments, Reason.CONSTRAINT_ARGUMENT),
    "sign_in": (sign_in, Reason.CONSTRAINT_SIGN_IN),
}
_ABOUT_CALLS = ("calls_per_day", "arguments", "sign_in")


def unmet(constraints: Mapping[str, Any], call: CallFacts, *, spends: bool = True) -> tuple[Reason, ...]:
    """The reasons why `call` is outside of what the grant allows. `spends` False: a message that does nothing."""
    found = []
    for kind, rule in constraints.items():
        if rule is None or (not spends and kind in _ABOUT_CALLS):
            continue
        if kind not in KINDS:
            found.append(Reason.CONSTRAINT_UNKNOWN)
            continue
        condition, reason = KINDS[kind]
        try:
            if not condition.applies(rule, call):
                found.append(reason)
        except BadRule:
            found.append(Reason.CONSTRAINT_UNKNOWN)
    return tuple(found)
