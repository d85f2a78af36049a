"""High assurance: an admin has an agent prove itself by keys at every step. What that means on the wire, and where it
is held against each request, stands in `oauth/high_assurance.py`."""

from django.core.exceptions import ValidationError

from agentauth.agents.models import Agent, Credential
from tenants.models import Member

KEY_ALONE = "High assurance is for an agent that proves itself with a key and with nothing else."


def require_assurable(auth_method: str) -> None:
    """Raises ValidationError for an agent that could never get in."""
    if auth_method != "private_key_jwt":
        raise ValidationError({"high_assurance": KEY_ALONE})


def set_high_assurance(agent: Agent, wanted: bool, *, by: Member) -> None:
    """From its next request on. Refresh tokens that it has go on, with a proof; what was not pushed is asked again.

    Raises ValidationError with the field's name.
    """
    if wanted:
        require_assurable(agent.token_endpoint_auth_method)
        live = [one for one in agent.credentials.all() if one.is_live and one.kind != Credential.Kind.KEY]
        if live:
            raise ValidationError({"high_assurance": f"{KEY_ALONE} Retire its other credentials first."})
    agent.change(by=by, high_assurance=wanted)


def require_allowed(agent: Agent, kind: str) -> None:
    """A credential of this kind may be added to this agent. Raises ValidationError."""
    if agent.high_assurance and kind != Credential.Kind.KEY:
        raise ValidationError({"kind": KEY_ALONE})
