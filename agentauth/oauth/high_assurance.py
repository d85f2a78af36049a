"""The high-assurance profile of an agent: what it may not leave out (the shape of the FAPI 2.0 Security Profile).

A request is pushed by the client itself, the client proves itself with a key, and every token is bound to a key.
"""

from agentauth.agents.models import Agent
from agentauth.oauth.errors import InvalidClient, InvalidDPoPProof, InvalidRequest, UnauthorizedClient
from agentauth.oauth.parameters import Parameters

ALGORITHMS = ("ES256", "Ed25519", "EdDSA", "PS256")  # §5.4.1
LONGEST_CODE = 60  # seconds, §5.3.2.1


def require_pushed(client: Agent, *, is_pushed: bool) -> None:
    """§5.3.2.2: a request that came through the browser alone is refused; anybody could have written it.

    So it is for a client that says so of itself (RFC 9126 §6).
    """
    demanded = client.high_assurance or client.client_metadata.get("require_pushed_authorization_requests")
    if demanded and not is_pushed:
        raise InvalidRequest("This client must push its authorization requests (RFC 9126).", reason="not_pushed")


def require_whole(client: Agent, pushed: Parameters) -> None:
    """§5.3.2.2: what is pushed says itself where the answer goes."""
    if client.high_assurance:
        pushed.require("redirect_uri")


def require_key(client: Agent, method: str) -> None:
    """§5.3.2.1: no shared secret, not even beside the key."""
    if client.high_assurance and method != "private_key_jwt":
        raise InvalidClient("This client must authenticate with private_key_jwt.", reason="weak_authentication")


def require_strong_proof(client: Agent, alg: str) -> None:
    if client.high_assurance and alg not in ALGORITHMS:
        raise InvalidDPoPProof(f"For this client the algorithm is one of {', '.join(ALGORITHMS)}.", reason="weak_proof")


def require_no_device(client: Agent) -> None:
    """A device code can be read out to anybody (RFC 8628 §5.4): its request was never pushed by the client."""
    if client.high_assurance:
        raise UnauthorizedClient("This client may not ask by device code.", reason="device_not_assured")
