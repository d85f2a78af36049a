"""The device grant (RFC 8628 §3.4): a device asks again and again until its person has answered elsewhere."""

from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.utils.timezone import now

from agentauth.agents.models import Agent
from agentauth.oauth.errors import AccessDenied, AuthorizationPending, ExpiredToken, InvalidGrant, OAuthError, SlowDown
from agentauth.oauth.grants.authority import Authority, Family
from agentauth.oauth.models import DeviceRequest
from agentauth.oauth.parameters import Parameters
from tenants.models import secret_hash
from tenants.rls import new_id

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:device_code"
_EARLY = timedelta(milliseconds=500)  # on time, for clocks and networks
_SLOWER = 5  # seconds, for this and all polls that follow (§3.5)


def prove(asked: Parameters, client: Agent) -> Authority:
    row = find(asked.require("device_code"), client)
    if row.agent_id != client.id:
        raise InvalidGrant("The device code is not good.", reason="device_code_of_another_client")
    if row.spent_at is not None:
        raise InvalidGrant("The device code is not good.", reason="device_code_reused", grant=row.grant)
    if row.expires_at <= now():
        raise ExpiredToken("Nobody answered in time. Ask for a new code.", grant=row.grant)
    if row.refused_at is not None:
        raise AccessDenied("The person said no.", member_id=row.member_id)
    if row.allowed_at is None or row.grant is None:
        raise _not_yet(row)
    if not row.grant.is_live or not (row.grant.member and row.grant.member.is_active):
        raise InvalidGrant("What was allowed has ended.", reason="grant_ended", grant=row.grant)

    def spend(jti: UUID) -> None:
        row.spent_at, row.access_jti = now(), jti
        row.save(update_fields=["spent_at", "access_jti"])

    return Authority(
        grant=row.grant,
        scope=tuple(row.scope.split()),
        spend=spend,
        auth_time=row.auth_time,
        family=Family(new_id(), row.scope, now() + timedelta(days=settings.KNOBS.refresh_token_days)),
        openid="openid" in row.protocol_scope.split(),
    )


def find(device_code: str, client: Agent) -> DeviceRequest:
    """The row, locked: of several who present the code at once, the others wait here and then see it spent."""
    rows = DeviceRequest.objects.filter(tenant_id=client.tenant_id, device_hash=secret_hash(device_code))
    row = rows.select_for_update(of=("self",)).select_related("grant__member__user", "grant__resource").first()
    if row is None:
        raise InvalidGrant("The device code is not good.", reason="unknown_device_code")
    return row


def _not_yet(row: DeviceRequest) -> OAuthError:
    at = now()
    early = row.polled_at is not None and at - row.polled_at < timedelta(seconds=row.interval) - _EARLY
    interval = row.interval + _SLOWER if early else row.interval

    def note() -> None:
        mine = DeviceRequest.objects.filter(tenant_id=row.tenant_id, pk=row.pk)
        mine.update(polled_at=at, interval=min(interval, 300))

    if early:
        return SlowDown(f"Ask every {interval} seconds at most.", aftermath=note)
    return AuthorizationPending("The person has not answered yet.", aftermath=note)
