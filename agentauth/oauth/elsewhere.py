"""Answers that a client cannot see being given: to a device's code (RFC 8628), to an agent's own question (CIBA).

The client asks the token endpoint until there is one; who asked for it is told by a ping too.
"""

from django.utils.timezone import now

from agentauth.grants.models import Grant
from agentauth.oauth.authorization_request import AuthorizationRequest
from agentauth.oauth.codes import allowed_of
from agentauth.oauth.errors import InvalidRequest
from agentauth.oauth.models import BackchannelRequest, DeviceRequest
from agentauth.oauth.ping import ping_soon
from agentauth.oauth.step_up import SignIn
from tenants.models import Member

Waiting = DeviceRequest | BackchannelRequest


def answer(asked: AuthorizationRequest, member: Member, *, grant: Grant | None, sign_in: SignIn | None = None) -> None:
    """Yes with a grant, no without one, once, by whose question it is. In the tenant's transaction."""
    row = waiting(asked, member)
    if not row.is_open or row.member_id != member.id:
        kind = "device" if asked.device else "backchannel"
        raise InvalidRequest("This was answered already, or is too old.", reason=f"{kind}_answered")
    if grant is None:
        refuse(row)
        return
    row.grant, row.scope, row.allowed_at = grant, allowed_of(asked, grant), now()
    if sign_in is not None:
        row.auth_time, row.acr = sign_in.at, sign_in.acr
    row.save(update_fields=["grant", "scope", "auth_time", "acr", "allowed_at"])
    ping_soon(row)


def refuse(row: Waiting) -> None:
    """No, or nobody can allow this: the client hears `access_denied`. In the transaction that holds the row."""
    row.refused_at = now()
    row.save(update_fields=["refused_at"])
    ping_soon(row)


def waiting(asked: AuthorizationRequest, member: Member) -> Waiting:
    """The row, locked: of several answers at once, the others wait here and then see that there is one."""
    if asked.device:
        return DeviceRequest.objects.select_for_update().get(tenant_id=member.tenant_id, id=asked.device)
    return BackchannelRequest.objects.select_for_update().get(tenant_id=member.tenant_id, id=asked.backchannel)
