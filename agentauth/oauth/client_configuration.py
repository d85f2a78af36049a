"""Client configuration endpoint (RFC 7592): a client that registered itself reads, changes or removes what it said."""

import secrets
from datetime import timedelta
from typing import Any

from django.utils.timezone import now

from agentauth.agents.models import Agent, Credential
from agentauth.grants.leaving import retire_agent
from agentauth.keys.addresses import issuer
from agentauth.oauth.client_metadata import SECRET_METHODS, ClientMetadata, read_registration
from agentauth.oauth.door import Answer, Call, oauth_endpoint
from agentauth.oauth.errors import AgentStopped, InvalidClientMetadata, InvalidToken, TooManyRequests
from agentauth.oauth.registration_document import read_registration_body
from agentauth.oauth.self_registration import give_secret, renew
from audit.actions import Action
from audit.models import Event
from audit.record import Actor
from tenants.models import Tenant, secret_hash
from tenants.rls import in_tenant

_WINDOW = timedelta(hours=1)
_CHANGES = 30  # of one client
_WRONG = 60  # tokens from one address
# §2.2: what we gave it is not what it says of itself
_OURS = ("registration_access_token", "registration_client_uri", "client_secret_expires_at", "client_id_issued_at")


@oauth_endpoint(refused=Action.CLIENT_REFUSED, methods=("GET", "PUT", "DELETE"))
def client_configuration(call: Call, client_id: str) -> Answer:
    with in_tenant(call.tenant.id):
        _hold_wrong_tokens(call)
        agent, token = _authenticate(call, client_id)
        call.client = agent
        if agent.state == Agent.State.SUSPENDED:  # §2.1: 403 for who may not
            raise AgentStopped("This agent is stopped.", reason="agent_suspended")
        by = Actor("agent", str(agent.id))
        if call.method == "DELETE":  # §2.3
            retire_agent(agent, by=by, reason="It removed its own registration.")
            return Answer(None, 204)
        if call.method == "GET":  # §2.1
            return Answer(_information(call.tenant, agent, token))
        _hold_changes(call, agent)
        metadata = _read_change(call, agent)
        given = _change(agent, metadata, by=by)
        return Answer(_information(call.tenant, agent, _renew_access_token(agent)) | given)


def access(tenant: Tenant, agent: Agent, token: str) -> dict[str, str]:
    """§3: where the client finds what it said, and the token for that."""
    where = f"{issuer(tenant)}/oauth/register/{agent.client_id}"
    return {"registration_client_uri": where, "registration_access_token": token}


def new_access_token() -> str:
    return f"aar_{secrets.token_urlsafe(32)}"


def _authenticate(call: Call, client_id: str) -> tuple[Agent, str]:
    """§2: 401 for a wrong token, and the same for a client that does not exist (any more). Locks the client's row."""
    scheme, _, token = call.authorization.partition(" ")
    if scheme.lower() != "bearer" or not 0 < len(token) <= 200 or "\0" in client_id:
        raise InvalidToken("Send the registration access token as Bearer.", reason="registration_token")
    found = Agent.objects.select_for_update(of=("self",)).filter(
        tenant=call.tenant, client_id=client_id[:500], registration=Agent.Registration.DYNAMIC
    )
    agent = found.exclude(state=Agent.State.RETIRED).first()
    kept = bytes(agent.registration_token_hash or b"") if agent else b""
    if not secrets.compare_digest(kept, secret_hash(token)):
        raise InvalidToken("The registration access token is not valid here.", reason="registration_token")
    assert agent is not None
    return agent, token


def _read_change(call: Call, agent: Agent) -> ClientMetadata:
    """§2.2: the whole of it anew; what is left out is gone."""
    document = read_registration_body(call)
    if document.get("client_id") != agent.client_id:
        raise InvalidClientMetadata("client_id must be there, and be the one of this address.")
    for name in _OURS:
        if name in document:
            raise InvalidClientMetadata(f"{name} must not be sent back.")
    if "client_secret" in document and not _is_secret_of(agent, document["client_secret"]):
        raise InvalidClientMetadata("client_secret must be left out, or be the one that was given.")
    return read_registration(document)


def _is_secret_of(agent: Agent, said: Any) -> bool:
    shown = secret_hash(said) if isinstance(said, str) else b""
    return any(secrets.compare_digest(bytes(one.secret_hash or b""), shown) for one in _live_secrets(agent))


def _live_secrets(agent: Agent) -> list[Credential]:
    found = agent.credentials.filter(kind=Credential.Kind.SECRET, retired_at=None)
    return [one for one in found if one.is_live]


def _change(agent: Agent, metadata: ClientMetadata, *, by: Actor) -> dict[str, Any]:
    """Take it over; a way of proving itself that needs a secret gets one, another one ends those that there were.

    The name on the badge is the client's own only until somebody answers for it.
    """
    renew(agent, metadata, by=by, **({} if agent.is_approved else {"name": metadata.name}))
    live = _live_secrets(agent)
    if metadata.auth_method in SECRET_METHODS:
        return {} if live else give_secret(agent)
    for credential in live:
        credential.retire(by=by)
    return {}


def _information(tenant: Tenant, agent: Agent, token: str) -> dict[str, Any]:
    """§3. A secret is kept as a hash only, so it is not in here again."""
    said = {name: value for name, value in agent.client_metadata.items() if name != "identity_changed_at"}
    issued = {"client_id": agent.client_id, "client_id_issued_at": int(agent.created_at.timestamp())}
    return issued | said | access(tenant, agent, token)


def _renew_access_token(agent: Agent) -> str:
    """§2.2, §5: after a change the old one counts for nothing."""
    token = new_access_token()
    agent.registration_token_hash = secret_hash(token)
    agent.save(update_fields=["registration_token_hash"])
    return token


def _hold_changes(call: Call, agent: Agent) -> None:
    lately = Event.objects.filter(
        tenant=call.tenant, action=Action.AGENT_CHANGED, actor=str(agent.id), agent_id=agent.id, at__gt=now() - _WINDOW
    )
    if lately[:_CHANGES].count() >= _CHANGES:
        raise TooManyRequests("Too many changes. Try again in an hour.", reason="registration_rate")


def _hold_wrong_tokens(call: Call) -> None:
    lately = Event.objects.filter(tenant=call.tenant, action=Action.CLIENT_REFUSED, ip=call.ip, at__gt=now() - _WINDOW)
    if lately.filter(reasons=["registration_token"])[:_WRONG].count() >= _WRONG:
        raise TooManyRequests("Too many wrong tokens. Try again in an hour.", reason="registration_rate")
