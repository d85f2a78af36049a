"""Families of refresh tokens and the access tokens that came with them: held while one is used, ended together."""

from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.utils.timezone import now

from agentauth.oauth.models import AuthorizationCode, BackchannelRequest, DeviceRequest, RefreshToken
from audit.actions import Action
from audit.record import Actor, record
from tenants.models import Revocation
from tenants.revocation import revoke


def hold_family(family: UUID) -> None:
    """Until this transaction ends, nobody else rotates or ends this family. A row lock would miss the token that is
    being added at the same moment."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [str(family)])


def revoke_family(tenant_id: UUID, family: UUID) -> int:
    """No refresh token of it is good any more, nor an access token that still lives. In the tenant's transaction."""
    hold_family(family)
    at = now()
    rows = RefreshToken.objects.filter(tenant_id=tenant_id, family=family)
    alive = at - timedelta(seconds=settings.KNOBS.access_token_seconds)
    for jti in rows.filter(created_at__gt=alive, access_jti__isnull=False).values_list("access_jti", flat=True):
        revoke_token(tenant_id, str(jti))
    return rows.filter(revoked_at=None).update(revoked_at=at)


def end_reused(row: AuthorizationCode | DeviceRequest | BackchannelRequest, family: UUID | None, *, kind: str) -> None:
    """Who comes with it a second time is somebody else, or never got what it gave: nobody keeps that. Recorded."""
    if row.access_jti is not None:
        revoke_token(row.tenant_id, row.access_jti)
    if family is not None:
        revoke_family(row.tenant_id, family)
    record(
        Action.TOKEN_REUSED,
        tenant_id=row.tenant_id,
        actor=Actor("agent", str(row.agent_id)),
        agent_id=row.agent_id,
        member_id=row.member_id,
        grant_id=row.grant_id,
        resource_id=row.resource_id,
        details={"kind": kind},
    )


def revoke_token(tenant_id: UUID, jti: UUID | str) -> None:
    """One access token is void. In the tenant's transaction."""
    if not Revocation.objects.filter(tenant_id=tenant_id, kind=Revocation.Kind.TOKEN, subject=str(jti)).exists():
        revoke(tenant_id, Revocation.Kind.TOKEN, str(jti))
