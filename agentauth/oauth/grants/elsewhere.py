"""What two grants share that wait for a person's answer in another place: device codes (RFC 8628 §3.5), CIBA (§11)."""

from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.utils.timezone import now

from agentauth.agents.models import Agent
from agentauth.oauth.elsewhere import Waiting
from agentauth.oauth.errors import AccessDenied, AuthorizationPending, ExpiredToken, InvalidGrant, OAuthError, SlowDown
from agentauth.oauth.families import end_reused
from agentauth.oauth.grants.authority import Authority, Family

_EARLY = timedelta(milliseconds=500)  # on time, for clocks and networks
_SLOWER = 5  # seconds, for this and all polls that follow
_SLOWEST = 300


def prove_answered(row: Waiting, client: Agent, *, called: str) -> Authority:
    """What the person answered, for the client that asked, once. `row` is locked; `called` is its parameter's name.

    Any answer but a wait ends the asking (RFC 8628 §3.5). Who comes again did not hear it, or is not the one who did:
    what it gave ends, as with a code.
    """
    if row.agent_id != client.id:
        raise InvalidGrant(f"The {called} is not good.", reason=f"{called}_of_another_client")
    if row.spent_at is not None:
        reused = InvalidGrant(f"The {called} is not good.", reason=f"{called}_reused", grant=row.grant)
        reused.aftermath = lambda: end_reused(row, row.id, kind=called)
        raise reused
    if row.expires_at <= now():
        raise ExpiredToken("It ran out of time. Ask anew.", member_id=row.member_id)
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
        family=Family(
            row.id,  # so that whoever comes again finds it
            row.scope,
            now() + timedelta(days=settings.KNOBS.refresh_token_days),
            tuple(row.authorization_details),
        ),
        openid="openid" in row.protocol_scope.split(),
        authorization_details=tuple(row.authorization_details),
        acr=row.acr,
    )


def _not_yet(row: Waiting) -> OAuthError:
    at = now()
    early = row.polled_at is not None and at - row.polled_at < timedelta(seconds=row.interval) - _EARLY
    interval = min(row.interval + _SLOWER, _SLOWEST) if early else row.interval

    def note() -> None:
        type(row).objects.filter(tenant_id=row.tenant_id, pk=row.pk).update(polled_at=at, interval=interval)

    if early:
        return SlowDown(f"Ask every {interval} seconds at most.", aftermath=note)
    return AuthorizationPending("The person has not answered yet.", aftermath=note)
