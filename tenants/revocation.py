"""Stopping: one row per cause, in the cause's transaction, heard by every gateway worker at commit.

Cost does not depend on how many tokens exist: whoever checks a token asks whether its tenant, member, agent, grant,
credential or jti was revoked at or after the token's `iat`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.utils.timezone import now

from audit.actions import Action
from audit.models import Event
from tenants.models import Revocation
from tenants.notice import announce


@dataclass(frozen=True, slots=True)
class Ended:
    """What stopped, for the page that says so: how many grants and live access tokens, and when (UTC)."""

    grants: int
    tokens: int
    at: datetime


def live_tokens(tenant_id: UUID, **of: UUID) -> int:
    """How many access tokens were issued and are still in their lifetime; `of` is agent_id, grant_id or member_id.

    Access tokens leave no row but their event, and live minutes, so this reads a handful of events.
    """
    longest = timedelta(seconds=settings.KNOBS.access_token_seconds)
    issued = Event.objects.filter(tenant_id=tenant_id, action=Action.TOKEN_ISSUED, at__gt=now() - longest, **of)
    return issued.count()


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
