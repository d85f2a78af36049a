"""Stopping: one row per cause, in the cause's transaction, heard by every gateway worker at commit.

Cost does not depend on how many tokens exist: whoever checks a token asks whether its tenant, member, agent, grant,
credential or jti was revoked at or after the token's `iat`.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.utils.timezone import now

from tenants.models import Revocation
from tenants.notice import announce


@dataclass(frozen=True, slots=True)
class Ended:
    """What stopped, for the page that says so: how many grants and live access tokens, and when (UTC)."""

    grants: int
    tokens: int
    at: datetime


def lift(tenant_id: UUID, kind: Revocation.Kind, subject: UUID | str) -> None:
    """Let new tokens of `subject` count again; those issued before stay void."""
    standing = Revocation.objects.filter(tenant_id=tenant_id, kind=kind, subject=str(subject), lifted_at=None)
    standing.update(lifted_at=now())
    announce(tenant_id, kind.value, str(subject))


def revoke(tenant_id: UUID, kind: Revocation.Kind, subject: UUID | str) -> datetime:
    """Tokens of `subject` issued up to now are void. Returns when."""
    at = now()
    Revocation.objects.create(tenant_id=tenant_id, kind=kind, subject=str(subject), at=at)
    announce(tenant_id, kind.value, str(subject))
    return at
