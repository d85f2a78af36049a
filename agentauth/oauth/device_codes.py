"""What a device waits for (RFC 8628): its request, the short code that a person types in, and their answer."""

import secrets
from contextlib import suppress
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.utils.timezone import now

from agentauth.agents.models import Agent
from agentauth.grants.models import Grant
from agentauth.oauth.authorization_request import AuthorizationRequest
from agentauth.oauth.codes import allowed_of
from agentauth.oauth.errors import InvalidRequest, TemporarilyUnavailable
from agentauth.oauth.models import DeviceRequest
from agentauth.resources.models import Resource
from tenants.models import Member, secret_hash

SECONDS = 600
INTERVAL = 5  # seconds between two polls; five more after each that came too soon (§3.5)
ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"  # §6.1: no vowels, so that no words come out
_LENGTH = 8  # 34 bits: enough for as few guesses as a person has, see device.py


def keep(client: Agent, resource: Resource, scope: tuple[str, ...], protocol_scope: tuple[str, ...]) -> tuple[str, str]:
    """A new request's device code and user code (§3.2). In the tenant's transaction; kept are only their hashes."""
    device_code = secrets.token_urlsafe(32)
    for _ in range(8):
        user_code = "".join(secrets.choice(ALPHABET) for _ in range(_LENGTH))
        with suppress(IntegrityError), transaction.atomic():  # the same user code may stand for another request
            DeviceRequest.objects.create(
                tenant_id=client.tenant_id,
                device_hash=secret_hash(device_code),
                user_hash=secret_hash(user_code),
                agent=client,
                resource=resource,
                scope=" ".join(scope),
                protocol_scope=" ".join(protocol_scope)[:60],
                interval=INTERVAL,
                expires_at=now() + timedelta(seconds=SECONDS),
            )
            return device_code, f"{user_code[:4]}-{user_code[4:]}"
    raise TemporarilyUnavailable("No code is free now.", reason="no_user_code")


def plain(typed: str) -> str:
    """A user code as it is kept, however it was typed: case and what stands between do not count (§6.1)."""
    return "".join(c for c in typed[:64].upper() if c.isalnum())


def enter(typed: str, member: Member) -> DeviceRequest | None:
    """The open request with this code, which from now on is this person's to answer; None if there is none for them.

    In the tenant's transaction, under a row lock.
    """
    rows = DeviceRequest.objects.filter(tenant_id=member.tenant_id, user_hash=secret_hash(plain(typed)))
    row = rows.select_for_update(of=("self",)).select_related("agent", "resource").first()
    if row is None or not row.is_open or row.member_id not in (None, member.id):
        return None
    if row.member_id is None:
        row.member = member
        row.save(update_fields=["member"])
    return row


def refuse(row: DeviceRequest) -> None:
    """Nobody can allow this: the device hears `access_denied`. In the transaction that holds the row."""
    row.refused_at = now()
    row.save(update_fields=["refused_at"])


def answer(
    asked: AuthorizationRequest, member: Member, *, grant: Grant | None, auth_time: datetime | None = None
) -> None:
    """Yes with a grant, no without one, once. In the tenant's transaction."""
    row = waiting(asked, member)
    if not row.is_open or row.member_id != member.id:
        raise InvalidRequest("This code was answered already, or is too old.", reason="device_answered")
    if grant is None:
        refuse(row)
        return
    row.grant, row.scope, row.auth_time, row.allowed_at = grant, allowed_of(asked, grant), auth_time, now()
    row.save(update_fields=["grant", "scope", "auth_time", "allowed_at"])


def waiting(asked: AuthorizationRequest, member: Member) -> DeviceRequest:
    """The row, locked: of several answers at once, the others wait here and then see that there is one."""
    return DeviceRequest.objects.select_for_update().get(tenant_id=member.tenant_id, id=asked.device)
