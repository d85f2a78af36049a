"""Questions that agents ask of their people (OpenID Connect CIBA): kept by a hash, held to a rate, found for them."""

import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.db.models import QuerySet
from django.utils.timezone import now

from agentauth.agents.models import Agent
from agentauth.keys.ring import RingError
from agentauth.oauth.errors import TemporarilyUnavailable, TooManyRequests
from agentauth.oauth.models import BackchannelRequest
from agentauth.oauth.ping import seal_ping
from agentauth.resources.models import Resource
from audit.actions import Action
from audit.record import Actor, record
from tenants.models import Member, secret_hash

INTERVAL = 5  # seconds between two polls; five more after each that came too soon (§11)
_HOUR = timedelta(hours=1)
_PER_HOUR = 10  # questions of one agent to one person
_OPEN = 3  # of one agent that wait for one person
_OPEN_OF_ALL = 20  # of all agents together


def keep(
    client: Agent,
    resource: Resource,
    member: Member,
    *,
    scope: Sequence[str],
    protocol_scope: Sequence[str],
    details: Sequence[dict[str, Any]],
    acr_values: Sequence[str],
    message: str,
    seconds: int,
    ping_token: str,
    ip: str,
) -> str:
    """A new question to this person; returns its `auth_req_id` (§7.3). In the tenant's transaction.

    With a `ping_token` the client is told once there is an answer. Raises TooManyRequests.
    """
    _hold_rate(client, member)
    auth_req_id = secrets.token_urlsafe(32)  # 256 bits of A-Z a-z 0-9 - _
    row = BackchannelRequest(
        tenant_id=client.tenant_id,
        auth_req_hash=secret_hash(auth_req_id),
        agent=client,
        resource=resource,
        member=member,
        scope=" ".join(scope),
        protocol_scope=" ".join(protocol_scope)[:60],
        authorization_details=list(details),
        binding_message=message,
        acr_values=" ".join(acr_values),
        interval=INTERVAL,
        expires_at=now() + timedelta(seconds=seconds),
    )
    if ping_token:
        row.ping_url = client.ping_url
        try:
            row.sealed_ping_token = seal_ping(row, auth_req_id, ping_token)
        except RingError:
            raise TemporarilyUnavailable("No ping can be kept now.", reason="no_key_ring") from None
    row.save(force_insert=True)
    record(
        Action.GRANT_ASKED,
        tenant_id=client.tenant_id,
        actor=Actor("agent", str(client.id)),
        agent_id=client.id,
        member_id=member.id,
        resource_id=resource.id,
        ip=ip,
        details={"scope": row.scope, "message": message, "expires": row.expires_at.isoformat()}
        | ({"authorization_details": row.authorization_details} if details else {}),
    )
    return auth_req_id


def open_for(member: Member) -> QuerySet[BackchannelRequest]:
    """What this person may still answer. In the tenant's transaction."""
    mine = BackchannelRequest.objects.filter(tenant_id=member.tenant_id, member=member, expires_at__gt=now())
    return mine.filter(allowed_at=None, refused_at=None)


def closed_for(member: Member) -> QuerySet[BackchannelRequest]:
    """What this person has answered, or has not in time, for as long as it is kept. In the tenant's transaction."""
    mine = BackchannelRequest.objects.filter(tenant_id=member.tenant_id, member=member)
    return mine.exclude(allowed_at=None, refused_at=None, expires_at__gt=now())


def _hold_rate(client: Agent, member: Member) -> None:
    """Nobody is worn down until they say yes: few questions wait at a time, few come in an hour."""
    people = Member.objects.select_for_update(no_key=True).filter(tenant_id=client.tenant_id, pk=member.pk)
    people.values_list("id", flat=True).get()  # one question at a time for this person, so that they are counted
    waiting = open_for(member)
    lately = BackchannelRequest.objects.filter(
        tenant_id=client.tenant_id, member=member, agent=client, created_at__gt=now() - _HOUR
    )
    if (
        waiting.filter(agent=client)[:_OPEN].count() >= _OPEN
        or waiting[:_OPEN_OF_ALL].count() >= _OPEN_OF_ALL
        or lately[:_PER_HOUR].count() >= _PER_HOUR
    ):
        raise TooManyRequests(
            "This person has been asked too often. Try again later.",
            reason="person_asked_too_often",
            member_id=member.id,
        )
