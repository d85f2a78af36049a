"""The refresh token grant (OAuth 2.1 §4.3): rotated at each use; a second use of one ends its whole family."""

from uuid import UUID

from django.utils.timezone import now

from agentauth.agents.models import Agent
from agentauth.oauth.errors import InvalidGrant
from agentauth.oauth.families import hold_family, revoke_family
from agentauth.oauth.grants.authority import Authority, Family
from agentauth.oauth.models import RefreshToken
from agentauth.oauth.parameters import Parameters
from audit.actions import Action
from audit.record import Actor, record
from tenants.models import secret_hash


def prove(asked: Parameters, client: Agent) -> Authority:
    row = find(asked.require("refresh_token"), client)
    if row.agent_id != client.id:
        raise InvalidGrant("The refresh token is not good.", reason="refresh_token_of_another_client")
    if row.revoked_at is not None:
        raise InvalidGrant("The refresh token is not good.", reason="refresh_token_revoked", grant=row.grant)
    if row.spent_at is not None:
        reused = InvalidGrant("The refresh token is not good.", reason="refresh_token_reused", grant=row.grant)
        reused.aftermath = lambda: _end_family(row)
        raise reused
    if min(row.expires_at, row.family_expires_at) <= now():
        raise InvalidGrant("The refresh token is not good.", reason="refresh_token_expired", grant=row.grant)
    details = tuple(row.authorization_details)
    if not row.grant.is_live or not (row.grant.member and row.grant.member.is_active):
        raise InvalidGrant("What was allowed has ended.", reason="grant_ended", grant=row.grant)

    def spend(jti: UUID) -> None:
        row.spent_at = now()
        row.save(update_fields=["spent_at"])

    return Authority(
        grant=row.grant,
        scope=tuple(row.scope.split()),
        spend=spend,
        auth_time=row.auth_time,
        family=Family(row.family, row.scope, row.family_expires_at, details),
        bound_to=row.jkt,
        authorization_details=details,
        acr=row.acr,
    )


def find(token: str, client: Agent) -> RefreshToken:
    """The token's row, read while its family is held: nobody rotates or revokes any of it until we are done."""
    rows = RefreshToken.objects.filter(tenant_id=client.tenant_id, token_hash=secret_hash(token))
    family = rows.values_list("family", flat=True).first()
    if family is None:
        raise InvalidGrant("The refresh token is not good.", reason="unknown_refresh_token")
    hold_family(family)
    locked = rows.select_for_update(of=("self",))
    return locked.select_related("grant__member__user", "grant__resource").get()


def _end_family(row: RefreshToken) -> None:
    revoke_family(row.tenant_id, row.family)
    record(
        Action.TOKEN_REUSED,
        tenant_id=row.tenant_id,
        actor=Actor("agent", str(row.agent_id)),
        agent_id=row.agent_id,
        member_id=row.grant.member_id,
        grant_id=row.grant_id,
        resource_id=row.resource_id,
        details={"kind": "refresh_token", "family": str(row.family)},
    )
