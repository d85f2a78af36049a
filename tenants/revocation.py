"""Stopping: one row per cause, in the cause's transaction, heard by every gateway worker at commit.

Cost does not depend on how many tokens exist: whoever checks a token asks whether its tenant, member, agent, grant,
credential or jti was revoked at or after the token's `iat`.
"""

from datetime import datetime
from uuid import UUID

from django.utils.timezone import now

from tenants.models import Revocation
from tenants.notice import announce


def revoke(tenant_id: UUID, kind: Revocation.Kind, subject: UUID | str) -> datetime:
    """Tokens of `subject` issued up to now are void. Returns when."""
    at = now()
    Revocation.objects.create(
        tenant_id=tenant_id, kind=kind, subject=str(subject), at=at
    )
    announce(tenant_id, kind.value, str(subject))
    return at
