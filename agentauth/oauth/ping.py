"""Ping (OpenID Connect CIBA Core §10.2): once a person has answered, their agent is told to come and fetch it.

By the queue at once, by the clock again for as long as it fails, two minutes at most; who hears nothing may still ask.
"""

import logging
from datetime import timedelta
from uuid import UUID

import orjson
from celery import shared_task
from django.db import transaction
from django.db.models import Q
from django.utils.timezone import now

from agentauth.keys.ring import RingError, seal, unseal
from agentauth.oauth.models import BackchannelRequest, DeviceRequest
from agentauth.outbound.fetch import FetchFailed, FetchRefused, fetch
from audit.actions import Action
from audit.queue import hand_over
from audit.record import Actor, record
from audit.tasks import tenant_ids
from tenants.rls import in_tenant

log = logging.getLogger(__name__)

PING = Actor.task("oauth.ping")
_PURPOSE = "oauth.ping"
_TIMEOUT = 5.0  # seconds
_HELD = timedelta(seconds=10)  # by one try, longer than it may last
_TRIED = timedelta(minutes=2)


def seal_ping(row: BackchannelRequest, auth_req_id: str, token: str) -> bytes:
    """What the ping will need and nobody may read until then: the id, which is else kept only as a hash, and the
    client's `client_notification_token`. Raises RingError."""
    said = orjson.dumps([auth_req_id, token])
    return seal(said, tenant_id=row.tenant_id, row_id=row.id, purpose=_PURPOSE)


def ping_soon(row: DeviceRequest | BackchannelRequest) -> None:
    """At commit, if its client wants that. The message names the row and nothing else."""
    if isinstance(row, BackchannelRequest) and row.sealed_ping_token is not None:
        transaction.on_commit(lambda: hand_over(ping, str(row.id), str(row.tenant_id)), robust=True)


@shared_task(name="agentauth.oauth.ping.ping")
def ping(request_id: str, tenant_id: str) -> bool:
    """Did the client take it now? Of several at once one goes out; what was taken is never sent again."""
    claimed = _claim(UUID(request_id), UUID(tenant_id))
    if claimed is None:
        return False
    row, auth_req_id, token = claimed
    problem = _send(row.ping_url, auth_req_id, token)  # outside any transaction: the client may fetch before it answers
    with in_tenant(row.tenant_id):
        if not problem:
            BackchannelRequest.objects.filter(tenant_id=row.tenant_id, pk=row.pk).update(sealed_ping_token=None)
            return True
        record(
            Action.CLIENT_PING_FAILED,
            tenant_id=row.tenant_id,
            actor=PING,
            agent_id=row.agent_id,
            member_id=row.member_id,
            resource_id=row.resource_id,
            details={"problem": problem},
        )
    return False


@shared_task(name="agentauth.oauth.ping.ping_again")
def ping_again() -> int:
    """Hand over again what no worker took or no client heard. Returns how many."""
    found = 0
    for tenant_id in tenant_ids():
        for request_id in _unheard(tenant_id):
            hand_over(ping, str(request_id), str(tenant_id))
            found += 1
    return found


def _claim(request_id: UUID, tenant_id: UUID) -> tuple[BackchannelRequest, str, str] | None:
    """The row with what was sealed, if a ping is due and nobody is at it. Under its lock, which ends before the ping:
    who is pinged comes to fetch at once, and would wait for it."""
    with in_tenant(tenant_id):
        rows = BackchannelRequest.objects.select_for_update(of=("self",)).select_related("agent")
        row = rows.filter(tenant_id=tenant_id, id=request_id).first()
        if row is None or row.sealed_ping_token is None or row.answered_at is None or row.spent_at is not None:
            return None
        if row.expires_at <= now() or not row.agent.is_active:
            return None
        if row.pinged_at is not None and row.pinged_at > now() - _HELD:
            return None
        try:
            sealed = unseal(row.sealed_ping_token, tenant_id=tenant_id, row_id=row.id, purpose=_PURPOSE)
        except RingError as error:
            log.error("a ping cannot be unsealed", exc_info=error)
            return None
        row.pinged_at = now()
        row.save(update_fields=["pinged_at"])
    auth_req_id, token = orjson.loads(sealed)
    return row, auth_req_id, token


def _send(url: str, auth_req_id: str, token: str) -> str:
    """§10.2: 204 or 200, whatever is in the body; a redirect is not followed. Returns what went wrong, if anything."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    body = orjson.dumps({"auth_req_id": auth_req_id})
    try:
        answer = fetch(url, method="POST", body=body, headers=headers, timeout=_TIMEOUT, enough=lambda _: True)
    except (FetchFailed, FetchRefused) as error:
        return error.reason
    return "" if 200 <= answer.status < 300 else f"It answered with {answer.status}."


def _unheard(tenant_id: UUID) -> list[UUID]:
    since, free = now() - _TRIED, now() - _HELD
    answered = Q(allowed_at__gt=since) | Q(refused_at__gt=since)
    waits = Q(pinged_at=None) | Q(pinged_at__lt=free)
    with in_tenant(tenant_id):
        rows = BackchannelRequest.objects.filter(answered, waits, tenant_id=tenant_id, expires_at__gt=now())
        found = rows.filter(spent_at=None).exclude(sealed_ping_token=None)
        return list(found.values_list("id", flat=True)[:1000])
