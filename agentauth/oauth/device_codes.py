"""What a device waits for (RFC 8628): its request, and the short code that a person types in."""

import secrets
from datetime import timedelta
from uuid import UUID

from django.db import connection
from django.utils.timezone import now

from agentauth.agents.models import Agent
from agentauth.oauth.authorization_details import Details
from agentauth.oauth.errors import TemporarilyUnavailable
from agentauth.oauth.models import DeviceRequest
from agentauth.resources.models import Resource
from tenants.models import Member, secret_hash

SECONDS = 600
INTERVAL = 5  # seconds between two polls; five more after each that came too soon (§3.5)
ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"  # §6.1: no vowels, so that no words come out
_LENGTH = 8  # 34 bits: enough for as few guesses as a person has, see device.py


def keep(
    client: Agent, resource: Resource, scope: tuple[str, ...], protocol_scope: tuple[str, ...], details: Details = ()
) -> tuple[str, str]:
    """A new request's device code and user code (§3.2). In the tenant's transaction; kept are only their hashes."""
    device_code = secrets.token_urlsafe(32)
    for _ in range(8):
        user_code = "".join(secrets.choice(ALPHABET) for _ in range(_LENGTH))
        if _is_free(client.tenant_id, secret_hash(user_code)):
            DeviceRequest.objects.create(
                tenant_id=client.tenant_id,
                device_hash=secret_hash(device_code),
                user_hash=secret_hash(user_code),
                agent=client,
                resource=resource,
                scope=" ".join(scope),
                protocol_scope=" ".join(protocol_scope)[:60],
                authorization_details=list(details),
                interval=INTERVAL,
                expires_at=now() + timedelta(seconds=SECONDS),
            )
            return device_code, f"{user_code[:4]}-{user_code[4:]}"
    raise TemporarilyUnavailable("No code is free now.", reason="no_user_code")


def _is_free(tenant_id: UUID, user_hash: bytes) -> bool:
    """Does the same user code stand for no other request? Whoever draws it at the same moment waits for our commit."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [user_hash.hex()])
    return not DeviceRequest.objects.filter(tenant_id=tenant_id, user_hash=user_hash).exists()


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
