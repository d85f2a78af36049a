"""A secret on its way to the one page that shows it: sealed in the session, gone when it was read."""

from base64 import b64decode, b64encode
from uuid import UUID

from agentauth.keys.ring import RingError, seal, unseal
from tenants.access import TenantRequest

_ONCE = "shown-once"
_PURPOSE = "console-secret"


def keep(request: TenantRequest, row_id: UUID, secret: str) -> None:
    """Until the next page. `row_id` is what the secret belongs to."""
    sealed = seal(secret.encode(), tenant_id=request.tenant.id, row_id=row_id, purpose=_PURPOSE)
    request.session[_ONCE] = {"row": str(row_id), "sealed": b64encode(sealed).decode()}


def take(request: TenantRequest, row_id: UUID) -> str:
    """What was kept for this row, the first time; afterwards nothing."""
    kept = request.session.get(_ONCE)
    if not isinstance(kept, dict) or kept.get("row") != str(row_id):
        return ""
    del request.session[_ONCE]
    try:
        sealed = b64decode(kept["sealed"])
        return unseal(sealed, tenant_id=request.tenant.id, row_id=row_id, purpose=_PURPOSE).decode()
    except RingError:
        return ""
