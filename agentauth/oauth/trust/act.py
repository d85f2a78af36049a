"""Actors in a foreign token (RFC 8693 §4.1), as ours name them: outermost the latest, each with the issuer it is of.

Some issuers nest the other way round; which, is known of each (`TrustedIssuer.act_order`). Pure.
"""

from typing import Any

from agentauth.oauth.trust.reading import NotGood, is_text

DEEPEST = 5


def actors_before(act: Any, *, issuer: str, ours: str, reversed_order: bool) -> dict[str, Any] | None:
    """The chain as it stands inside the `act` of our token, or None where nobody acted. Raises NotGood.

    An actor without `iss` is one of the token's own issuer's. None is dropped, and none is an agent of ours: that one
    of them acted, nobody can say under our name (`ours`) but ourselves.
    """
    found: list[dict[str, str]] = []
    while act is not None:
        if not isinstance(act, dict) or len(found) == DEEPEST:
            raise NotGood("act_malformed", f"act is nested objects, {DEEPEST} deep at most.")
        sub, iss = act.get("sub"), act.get("iss", issuer)
        if not is_text(sub) or not is_text(iss, longest=500):
            raise NotGood("act_malformed", "Each actor in act has a sub.")
        if iss == ours:
            raise NotGood("act_of_ours", "act names an agent of this issuer, for which only this issuer can speak.")
        found.append({"sub": sub, "iss": iss})
        act = act.get("act")
    if reversed_order:
        found.reverse()
    chain: dict[str, Any] | None = None
    for actor in reversed(found):
        chain = actor | ({"act": chain} if chain else {})
    return chain


def depth(act: dict[str, Any] | None) -> int:
    """How many have acted."""
    return 1 + depth(act.get("act")) if act else 0
