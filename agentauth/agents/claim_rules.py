"""Which workloads a rule lets in: claims of a machine's token, each exact or with a `*` at its end. Pure.

A rule set must single something out. `sub` or a repository has to be named, so that "any repository on this host"
cannot be written: whoever may run something anywhere there would be the agent.
"""

from collections.abc import Mapping
from typing import Any

# What names one workload. Exact values only, but for `sub`, whose parts stand between : and /
SINGLES_OUT = ("sub", "repository", "repository_id", "project_path", "project_id", "job_workflow_ref")
MOST = 10
_LONGEST = 300
_FEWEST_PARTS = 3  # of a `sub` before its star: repo:acme/app:*, system:serviceaccount:shop:*, spiffe://acme/shop/*


class RuleRefused(Exception):
    """This rule is not one; `claim` is where, the message says what would be right."""

    def __init__(self, claim: str, message: str) -> None:
        super().__init__(message)
        self.claim = claim


def checked(rules: Mapping[str, Any]) -> dict[str, str]:
    """The rules as they are kept. Raises RuleRefused."""
    if not rules:
        raise RuleRefused("sub", "Say which workload is meant: a repository, or its subject (sub).")
    if len(rules) > MOST:
        raise RuleRefused("", f"{MOST} rules are the most.")
    for claim, value in rules.items():
        if not isinstance(claim, str) or not 0 < len(claim) <= 100 or not claim.isprintable():
            raise RuleRefused("", "The name of a claim is text of at most 100 characters.")
        if not isinstance(value, str) or not 0 < len(value) <= _LONGEST or not value.isprintable():
            raise RuleRefused(claim, f"The value of {claim} is text of at most {_LONGEST} characters.")
        if "*" in value[:-1]:
            raise RuleRefused(claim, f"In {claim} a * may stand at the end only.")
        if value == "*":
            raise RuleRefused(claim, f"{claim} with nothing but * lets anybody in. Leave it out, or say more.")
    named = [claim for claim in SINGLES_OUT if claim in rules]
    if not named:
        raise RuleRefused("sub", f"Name at least one of {', '.join(SINGLES_OUT)}, or anybody there would be let in.")
    if not any(_singles_out(claim, rules[claim]) for claim in named):
        wide = named[0]
        raise RuleRefused(wide, f"{wide} is too wide: {_narrower(wide)}")
    return dict(rules)


def matches(rules: Mapping[str, str], claims: Mapping[str, Any]) -> bool:
    """Does a verified token hold what every rule says? Only texts, numbers and yes or no are compared."""
    return bool(rules) and all(_fits(value, claims.get(claim)) for claim, value in rules.items())


def sentence(rules: Mapping[str, str]) -> str:
    """The rules in words: "repository is acme/app and ref begins with refs/tags/"."""
    said = [
        f"{claim} begins with {value[:-1]}" if value.endswith("*") else f"{claim} is {value}"
        for claim, value in sorted(rules.items(), key=lambda rule: (rule[0] not in SINGLES_OUT, rule[0]))
    ]
    return " and ".join(said)


def _fits(wanted: str, found: Any) -> bool:
    if isinstance(found, bool):
        found = "true" if found else "false"
    elif isinstance(found, int):
        found = str(found)
    if not isinstance(found, str):
        return False
    return found.startswith(wanted[:-1]) and len(found) >= len(wanted) if wanted.endswith("*") else found == wanted


def _singles_out(claim: str, value: str) -> bool:
    if not value.endswith("*"):
        return True
    # A star right after a part would take in its namesakes: acme/app* is also acme/app-of-somebody-else
    whole_parts = [part for part in value[:-1].replace("/", ":").split(":") if part]
    return claim == "sub" and value[-2] in ":/" and len(whole_parts) >= _FEWEST_PARTS


def _narrower(claim: str) -> str:
    if claim == "sub":
        return "write it out, or end it after a whole part, as in repo:acme/app:* or system:serviceaccount:shop:*."
    return "write it out, without a *."
