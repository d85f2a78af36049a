"""Agents that nobody here registered: "seen, not approved", capped by the tenant's ceiling, in the admins' queue."""

import secrets
from typing import Any

from django.db import IntegrityError, transaction
from django.utils.timezone import now

from agentauth.agents.models import Agent, Credential
from agentauth.agents.registering import next_number
from agentauth.grants.models import Grant
from agentauth.oauth.client_metadata import ClientMetadata
from agentauth.oauth.redirect_uris import shown_host
from audit.actions import Action
from audit.record import ANONYMOUS, Actor, record
from tenants.models import Tenant, secret_hash
from tenants.rls import new_id

_IDENTITY = "redirect addresses, keys or authentication"
_WORDS = "what it says of itself"


def admit(
    tenant: Tenant,
    metadata: ClientMetadata,
    *,
    registration: Agent.Registration,
    client_id: str,
    ip: str,
    **fields: Any,
) -> Agent:
    """A new agent with no owner and no approval. In the tenant's transaction; if another process was first, its row."""
    agent_id = new_id()
    agent = Agent(
        id=agent_id,
        tenant=tenant,
        client_id=client_id or str(agent_id),
        name=metadata.name,
        kind=Agent.Kind.MCP,
        number=next_number(tenant),
        ceiling_risk=tenant.unapproved_ceiling,
        registration=registration,
        **metadata_fields(metadata),
        **fields,
    )
    try:
        with transaction.atomic():
            agent.save(force_insert=True)
    except IntegrityError:
        return Agent.objects.get(tenant=tenant, client_id=client_id)
    record(
        Action.AGENT_SELF_REGISTERED,
        tenant_id=tenant.id,
        actor=ANONYMOUS,
        agent_id=agent.id,
        subject_kind="agent",
        subject=str(agent.id),
        ip=ip,
        details={
            "name": agent.name,
            "registration": registration.value,
            "hosts": sorted({shown_host(uri) for uri in metadata.redirect_uris})[:10],
            "auth_method": metadata.auth_method,
        }
        | ({"document": client_id} if client_id else {}),
    )
    agent.announce()
    return agent


def give_secret(agent: Agent) -> dict[str, Any]:
    """A first secret, as the answer to a registration says it (RFC 7591 §3.2.1). In the tenant's transaction."""
    # Unreserved characters only: some clients percent-encode them for Basic and some do not
    secret = f"aas_{secrets.token_urlsafe(32)}"
    Credential.objects.create(
        tenant_id=agent.tenant_id,
        agent=agent,
        kind=Credential.Kind.SECRET,
        secret_hash=secret_hash(secret),
        hint=secret[-4:],
    )
    return {"client_secret": secret, "client_secret_expires_at": 0}  # REQUIRED with a secret


def renew(agent: Agent, metadata: ClientMetadata, *, by: Actor = ANONYMOUS, **fields: Any) -> None:
    """Take over what a client says of itself now, in its document or by RFC 7592. If it became another client, its
    people are asked again."""
    before = agent.client_metadata.get("identity_changed_at")
    old = (
        sorted(agent.redirect_uris),
        agent.token_endpoint_auth_method,
        agent.client_metadata.get("jwks"),
        agent.jwks_uri,
    )
    changed = old != metadata.identity
    fields |= metadata_fields(metadata)
    if agent.is_approved and agent.dpop_bound_access_tokens:  # an admin may demand this; only an admin takes it back
        fields["dpop_bound_access_tokens"] = True
        fields["client_metadata"] = fields["client_metadata"] | {"dpop_bound_access_tokens": True}
    if changed and agent.tenant.approval_first and agent.registration == Agent.Registration.DYNAMIC:
        fields |= {"approved_at": None, "approved_by": None}  # an admin looked at another; a document's host stays
    mark = now().isoformat() if changed else before
    if mark:
        fields["client_metadata"] = fields["client_metadata"] | {"identity_changed_at": mark}
    for name, value in fields.items():
        setattr(agent, name, value)
    agent.save(update_fields=list(fields))
    if changed or by is not ANONYMOUS:  # a document is read again and again, a client that comes has something to say
        record(
            Action.AGENT_CHANGED,
            tenant_id=agent.tenant_id,
            actor=by,
            agent_id=agent.id,
            subject_kind="agent",
            subject=str(agent.id),
            details={"document": agent.client_id} | ({"changed": _IDENTITY} if changed else {"changed": _WORDS}),
        )
        agent.announce()


def metadata_fields(metadata: ClientMetadata) -> dict[str, Any]:
    return {
        "redirect_uris": metadata.redirect_uris,
        "grant_types": metadata.grant_types,
        "token_endpoint_auth_method": metadata.auth_method,
        "jwks_uri": metadata.jwks_uri,
        "dpop_bound_access_tokens": metadata.echo.get("dpop_bound_access_tokens", False),
        "client_metadata": metadata.echo,
    }


def became_another(agent: Agent, grant: Grant) -> bool:
    """Has its redirect, its keys or how it proves itself changed since its person said yes?"""
    changed = agent.client_metadata.get("identity_changed_at")
    return isinstance(changed, str) and changed > grant.given_at.isoformat()
