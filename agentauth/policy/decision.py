"""What was decided, why, and what would fix it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Effect(StrEnum):
    ALLOW = "allow"
    ASK = "ask"
    REFUSE = "refuse"


class Reason(StrEnum):
    """The closed list. A word here is part of the public record: it is never renamed, only added."""

    TOKEN_MALFORMED = "token_malformed"
    TOKEN_UNTRUSTED = "token_untrusted"
    TOKEN_WRONG_AUDIENCE = "token_wrong_audience"
    TOKEN_EXPIRED = "token_expired"
    TOKEN_NOT_YET_VALID = "token_not_yet_valid"
    TOKEN_REVOKED = "token_revoked"
    PROOF_MISSING = "proof_missing"
    PROOF_INVALID = "proof_invalid"
    PROOF_REPLAYED = "proof_replayed"
    TOKEN_NOT_BOUND = "token_not_bound"
    BOUND_TOKENS_ONLY = "bound_tokens_only"
    TENANT_SUSPENDED = "tenant_suspended"
    AGENT_UNKNOWN = "agent_unknown"
    AGENT_NOT_ACTIVE = "agent_not_active"
    AGENT_SUSPENDED = "agent_suspended"
    AGENT_RETIRED = "agent_retired"
    AGENT_EXPIRED = "agent_expired"
    MEMBER_INACTIVE = "member_inactive"
    RESOURCE_NOT_PUBLISHED = "resource_not_published"
    OPERATION_UNKNOWN = "operation_unknown"
    OPERATION_UNMAPPED = "operation_unmapped"
    OPERATION_HELD = "operation_held"
    GRANT_MISSING = "grant_missing"
    GRANT_ENDED = "grant_ended"
    GRANT_EXPIRED = "grant_expired"
    GRANT_LACKS_SCOPE = "grant_lacks_scope"
    GRANT_SAYS_NEVER = "grant_says_never"
    SCOPE_MISSING = "scope_missing"
    TOKEN_OTHER_CALL = "token_other_call"
    ABOVE_CEILING = "above_ceiling"
    NEEDS_APPROVAL = "needs_approval"
    APPROVAL_REFUSED = "approval_refused"
    CONSTRAINT_TIME_WINDOW = "constraint_time_window"
    CONSTRAINT_IP = "constraint_ip"
    CONSTRAINT_CALL_BUDGET = "constraint_call_budget"
    CONSTRAINT_ARGUMENT = "constraint_argument"
    CONSTRAINT_SIGN_IN = "constraint_sign_in"
    CONSTRAINT_UNKNOWN = "constraint_unknown"

    @property
    def words(self) -> str:
        """What is wrong, in one plain sentence."""
        return _SAID[self][0]

    @property
    def fix(self) -> str:
        """What would put it right, and by whom."""
        return _SAID[self][1]


_SAID: dict[Reason, tuple[str, str]] = {
    Reason.TOKEN_MALFORMED: ("This is not an access token.", "Send one access token in the Authorization header."),
    Reason.TOKEN_UNTRUSTED: ("The token was not issued by this tenant.", "Get a token from this tenant's issuer."),
    Reason.TOKEN_WRONG_AUDIENCE: (
        "The token is for another resource.",
        "Get a token whose `resource` is this resource's address.",
    ),
    Reason.TOKEN_EXPIRED: ("The token has expired.", "Get a new one."),
    Reason.TOKEN_NOT_YET_VALID: ("The token is not valid yet.", "Set the clock of the machine that uses it."),
    Reason.TOKEN_REVOKED: ("The token was revoked.", "Get a new one, if the grant still stands."),
    Reason.PROOF_MISSING: (
        "The token is bound to a key, and no proof of that key came with it.",
        "Send it as Authorization: DPoP with a proof in the DPoP header.",
    ),
    Reason.PROOF_INVALID: ("The proof is not good.", "Make a new proof for this very request."),
    Reason.PROOF_REPLAYED: ("This proof was used before.", "Make a new proof for each request."),
    Reason.TOKEN_NOT_BOUND: ("The token is bound to no key.", "Send it as Authorization: Bearer."),
    Reason.BOUND_TOKENS_ONLY: (
        "This resource takes only tokens that are bound to a key.",
        "Ask for the token with a DPoP proof.",
    ),
    Reason.TENANT_SUSPENDED: ("This tenant is suspended.", "Ask the operator of this installation."),
    Reason.AGENT_UNKNOWN: ("This agent is not registered here.", "Ask an admin to register it."),
    Reason.AGENT_NOT_ACTIVE: ("This agent is still a draft.", "Ask an admin to activate it."),
    Reason.AGENT_SUSPENDED: ("This agent is suspended.", "Ask an admin to let it back."),
    Reason.AGENT_RETIRED: ("This agent is retired for good.", "Register a new agent."),
    Reason.AGENT_EXPIRED: ("This agent's registration has run out.", "Ask an admin to extend it."),
    Reason.MEMBER_INACTIVE: ("The person it acts for is no longer active here.", "Nothing that the agent could do."),
    Reason.RESOURCE_NOT_PUBLISHED: ("This resource is not published.", "Ask an admin to publish it."),
    Reason.OPERATION_UNKNOWN: ("This resource has no such operation.", "Check the method and path, or the tool."),
    Reason.OPERATION_UNMAPPED: (
        "No scope covers this operation, so nobody may call it.",
        "Ask an admin to map it to a scope.",
    ),
    Reason.OPERATION_HELD: (
        "This operation has changed since it was published and waits for a review.",
        "Ask an admin to review it.",
    ),
    Reason.GRANT_MISSING: ("Nobody has granted this.", "Ask the person it acts for to grant it."),
    Reason.GRANT_ENDED: ("The grant was ended.", "Ask the person for a new one."),
    Reason.GRANT_EXPIRED: ("The grant has expired.", "Ask the person to renew it."),
    Reason.GRANT_LACKS_SCOPE: ("The grant does not cover this.", "Ask the person to grant this as well."),
    Reason.GRANT_SAYS_NEVER: ("The person has said never to this.", "Only the person can change that."),
    Reason.SCOPE_MISSING: ("The token lacks the scope.", "Get a token with this scope."),
    Reason.TOKEN_OTHER_CALL: (
        "The token is for one other call.",
        "Make exactly the call that was allowed, or ask for this one.",
    ),
    Reason.ABOVE_CEILING: ("This is above what the agent may ever be granted.", "Ask an admin to raise its ceiling."),
    Reason.NEEDS_APPROVAL: ("The person wants to be asked about each such call.", "Wait for the answer and try again."),
    Reason.APPROVAL_REFUSED: ("The person has said no to this very call.", "Only the person can change that."),
    Reason.CONSTRAINT_TIME_WINDOW: ("The grant does not hold at this time.", "Try again in the allowed hours."),
    Reason.CONSTRAINT_IP: ("The grant does not hold for this network address.", "Call from an allowed network."),
    Reason.CONSTRAINT_CALL_BUDGET: ("The grant's calls for today are used up.", "Try again tomorrow."),
    Reason.CONSTRAINT_ARGUMENT: ("The grant does not allow these arguments.", "Use arguments that it allows."),
    Reason.CONSTRAINT_SIGN_IN: (
        "The person's sign-in is too old or too weak for this.",
        "Send the person to sign in again, with the acr_values and max_age that are named, and use the new token.",
    ),
    Reason.CONSTRAINT_UNKNOWN: (
        "The grant carries a constraint that this version does not understand.",
        "Ask the person to give the grant again.",
    ),
}


@dataclass(frozen=True, slots=True)
class Decision:
    """Allowed, asked or refused. `scope` is the one that the operation needs, empty where it needs none.

    `sign_in` is the rule that a sign-in did not meet, for who tells the client how to step up (RFC 9470).
    """

    effect: Effect
    reasons: tuple[Reason, ...] = ()
    scope: str = ""
    sign_in: Mapping[str, Any] = field(default_factory=dict)

    @property
    def allowed(self) -> bool:
        return self.effect is Effect.ALLOW

    @property
    def asked(self) -> bool:
        return self.effect is Effect.ASK

    @property
    def words(self) -> str:
        return " ".join(reason.words for reason in self.reasons)

    @property
    def fix(self) -> str:
        return self.reasons[0].fix if self.reasons else ""


def refuse(*reasons: Reason, scope: str = "") -> Decision:
    return Decision(Effect.REFUSE, reasons, scope)
