"""When something was last used: noted to the minute, so that whoever uses it often does not write each time."""

from datetime import timedelta

from django.utils.timezone import now

from agentauth.agents.models import Credential, MemberLink, TrustedIssuer
from agentauth.resources.models import ServerCredential

Used = Credential | MemberLink | ServerCredential | TrustedIssuer
_EXACT = timedelta(minutes=1)


def is_to_note(row: Used) -> bool:
    """For who would have to begin a transaction for it."""
    return row.last_used_at is None or row.last_used_at < now() - _EXACT


def note_use(row: Used) -> None:
    """In the tenant's transaction, however long that is: of several at once one writes, and nobody waits for it."""
    if not is_to_note(row):
        return
    same = type(row)._default_manager.filter(tenant=row.tenant_id, pk=row.pk)
    free = same.select_for_update(skip_locked=True, no_key=True).values_list("pk", flat=True)
    type(row)._default_manager.filter(tenant=row.tenant_id, pk__in=free).update(last_used_at=now())
