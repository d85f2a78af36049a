"""Dynamic client registration (RFC 7591): a client introduces itself, to be capped and looked at."""

from datetime import timedelta
from typing import Any

from django.utils.timezone import now

from agentauth.agents.models import Agent
from agentauth.oauth.client_configuration import access, new_access_token
from agentauth.oauth.client_metadata import SECRET_METHODS, read_registration
from agentauth.oauth.door import Answer, Call, oauth_endpoint
from agentauth.oauth.errors import RegistrationClosed, TooManyRequests
from agentauth.oauth.registration_document import read_registration_body
from agentauth.oauth.self_registration import admit, give_secret
from audit.actions import Action
from audit.models import Event
from tenants.models import secret_hash
from tenants.rls import in_tenant

_WINDOW = timedelta(hours=1)
_PER_ADDRESS = 200  # behind a proxy, or with a client that somebody hosts, many are at one
_PER_TENANT = 600


@oauth_endpoint(refused=Action.CLIENT_REFUSED)
def register(call: Call) -> Answer:
    document = read_registration_body(call)
    if not call.tenant.open_registration:
        raise RegistrationClosed("This organisation registers its clients itself.", reason="registration_closed")
    metadata = read_registration(document)
    token = new_access_token()
    with in_tenant(call.tenant.id):
        _hold_rate(call)
        agent = admit(
            call.tenant,
            metadata,
            registration=Agent.Registration.DYNAMIC,
            client_id="",
            ip=call.ip,
            registration_token_hash=secret_hash(token),
        )
        answer: dict[str, Any] = {
            "client_id": agent.client_id,
            "client_id_issued_at": int(agent.created_at.timestamp()),
            **metadata.echo,
            **access(call.tenant, agent, token),
        }
        if metadata.auth_method in SECRET_METHODS:
            answer |= give_secret(agent)
    return Answer(answer, 201)


def _hold_rate(call: Call) -> None:
    """§5: open registration is held to a rate, per address and for the whole tenant, counted in the record."""
    lately = Event.objects.filter(tenant=call.tenant, action=Action.AGENT_SELF_REGISTERED, at__gt=now() - _WINDOW)
    if lately.filter(ip=call.ip)[:_PER_ADDRESS].count() >= _PER_ADDRESS or lately[:_PER_TENANT].count() >= _PER_TENANT:
        raise TooManyRequests("Too many registrations. Try again in an hour.", reason="registration_rate")
