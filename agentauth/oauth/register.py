"""Dynamic client registration (RFC 7591): a client introduces itself, to be capped and looked at."""

import secrets
from datetime import timedelta
from typing import Any

import orjson
from django.utils.timezone import now

from agentauth.agents.models import Agent, Credential
from agentauth.oauth.client_metadata import SECRET_METHODS, read_registration
from agentauth.oauth.door import Answer, Call, oauth_endpoint
from agentauth.oauth.errors import InvalidClientMetadata, RegistrationClosed, TooManyRequests, UnsupportedMediaType
from agentauth.oauth.self_registration import admit
from audit.actions import Action
from audit.models import Event
from tenants.models import secret_hash
from tenants.rls import in_tenant

_WINDOW = timedelta(hours=1)
_PER_ADDRESS = 60
_PER_TENANT = 600


@oauth_endpoint(refused=Action.CLIENT_REFUSED)
def register(call: Call) -> Answer:
    document = _read(call)
    if not call.tenant.open_registration:
        raise RegistrationClosed("This organisation registers its clients itself.", reason="registration_closed")
    metadata = read_registration(document)
    with in_tenant(call.tenant.id):
        _hold_rate(call)
        agent = admit(call.tenant, metadata, registration=Agent.Registration.DYNAMIC, client_id="", ip=call.ip)
        answer: dict[str, Any] = {
            "client_id": agent.client_id,
            "client_id_issued_at": int(agent.created_at.timestamp()),
            **metadata.echo,
        }
        if metadata.auth_method in SECRET_METHODS:
            # Unreserved characters only: some clients percent-encode them for Basic and some do not
            secret = f"aas_{secrets.token_urlsafe(32)}"
            Credential.objects.create(
                tenant=call.tenant,
                agent=agent,
                kind=Credential.Kind.SECRET,
                secret_hash=secret_hash(secret),
                hint=secret[-4:],
            )
            answer |= {"client_secret": secret, "client_secret_expires_at": 0}  # §3.2.1: REQUIRED with a secret
    return Answer(answer, 201)


def _read(call: Call) -> dict[str, Any]:
    if call.content_type.partition(";")[0].strip().lower() != "application/json":  # §3.1
        raise UnsupportedMediaType("Send application/json.", reason="wrong_content_type")
    try:
        document = orjson.loads(call.body)
    except orjson.JSONDecodeError:
        raise InvalidClientMetadata("The body is not JSON.") from None
    if not isinstance(document, dict):
        raise InvalidClientMetadata("The body is not a JSON object.")
    if b"\\u0000" in call.body:
        raise InvalidClientMetadata("The metadata is not text.")
    return document


def _hold_rate(call: Call) -> None:
    """§5: open registration is held to a rate, per address and for the whole tenant, counted in the record."""
    lately = Event.objects.filter(tenant=call.tenant, action=Action.AGENT_SELF_REGISTERED, at__gt=now() - _WINDOW)
    if lately.filter(ip=call.ip)[:_PER_ADDRESS].count() >= _PER_ADDRESS or lately[:_PER_TENANT].count() >= _PER_TENANT:
        raise TooManyRequests("Too many registrations. Try again in an hour.", reason="registration_rate")
