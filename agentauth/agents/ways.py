"""How an agent may get a token (RFC 6749 `grant_type`), in people's words; an admin chooses among them."""

from collections.abc import Iterable

from django.core.exceptions import ValidationError

from agentauth.agents.models import Agent
from agentauth.agents.registering import CIBA, JWT_BEARER, TOKEN_EXCHANGE

DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"  # RFC 8628
WAYS = {
    "authorization_code": ("A person says yes in the browser", "The usual way: it sends them here, they come back."),
    "refresh_token": ("It stays allowed without asking again", "Until what the person allowed ends or is taken back."),
    DEVICE_CODE: ("A person types a code in elsewhere", "For devices without a browser."),
    CIBA: ("It asks in the person’s inbox", "The person is not there when it asks."),
    TOKEN_EXCHANGE: ("Another agent hands its task on to it", "At most what the other one had, and both are named."),
    JWT_BEARER: ("Somebody you trust vouches for it", "Your sign-in provider, or the place where it runs."),
    "client_credentials": ("It acts for itself", "Under a rule that an admin writes."),
}  # fmt: skip
_PROVEN = {CIBA, TOKEN_EXCHANGE, JWT_BEARER, "client_credentials"}  # only for who proves who it is


def checked_ways(agent: Agent, chosen: Iterable[str]) -> list[str]:
    """`chosen` in our order, if this agent can have them. Raises ValidationError keyed `grant_types`."""
    wanted = set(chosen)
    if agent.registration != Agent.Registration.ADMIN:
        raise ValidationError({"grant_types": "It introduced itself, so it says itself how it gets in."})
    if unknown := wanted - set(WAYS):
        raise ValidationError({"grant_types": f"“{min(unknown)}” is none of {', '.join(WAYS)}."})
    if not wanted - {"refresh_token"}:
        raise ValidationError({"grant_types": "Choose at least one way to get a token."})
    if agent.token_endpoint_auth_method == "none" and (lacking := wanted & _PROVEN):
        words = WAYS[min(lacking)][0]
        raise ValidationError({"grant_types": f"“{words}” needs an agent that proves itself with a key or a secret."})
    return [name for name in WAYS if name in wanted]
