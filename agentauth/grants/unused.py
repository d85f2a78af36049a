"""Agents that introduced themselves and that nobody used expire; if they come back, they are seen anew."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Exists, OuterRef, Q
from django.utils.timezone import now

from agentauth.agents.introducing import unapproved
from agentauth.agents.models import Agent
from agentauth.grants.leaving import retire_agent
from agentauth.grants.models import Grant
from audit.actions import Action
from audit.models import Event
from audit.record import Actor
from tenants.models import Tenant
from tenants.rls import in_tenant

SWEEP = Actor.task("grants.retire_unused")
SLICE = 100  # agents per transaction: locks are short


def retire_unused(tenant: Tenant) -> int:
    """Retire what is not approved, was not stopped by anybody, holds no live grant and got no token for
    `unused_client_days`. Returns how many; 0 days means never."""
    days = settings.KNOBS.unused_client_days
    if not days:
        return 0
    since, retired = now() - timedelta(days=days), 0
    while True:
        with in_tenant(tenant.id):
            found = _unused(tenant, since)
            for agent in found:
                _expire(agent, days)
        retired += len(found)
        if len(found) < SLICE:
            return retired


def _unused(tenant: Tenant, since: datetime) -> list[Agent]:
    live = Grant.objects.filter(tenant=tenant, agent=OuterRef("pk"), ended_at=None, expires_at__gt=now())
    lately = Event.objects.filter(tenant=tenant, agent_id=OuterRef("pk"), action=Action.TOKEN_ISSUED, at__gt=since)
    quiet = Q(last_seen_at=None) | Q(last_seen_at__lt=since)
    found = unapproved(tenant).filter(quiet, ~Exists(live), ~Exists(lately), created_at__lt=since)
    found = found.exclude(state=Agent.State.SUSPENDED)  # blocked by an admin: stays blocked
    return list(found.order_by("created_at").select_for_update(of=("self",), skip_locked=True)[:SLICE])


def _expire(agent: Agent, days: int) -> None:
    retire_agent(agent, by=SWEEP, reason=f"Nobody used it for {days} days.")
    if agent.registration == Agent.Registration.DOCUMENT:
        # Its address is free again: who comes back with it is seen anew. No document has a fragment in its address
        agent.client_id = f"{agent.client_id[:450]}#expired-{agent.number}"
        agent.save(update_fields=["client_id"])
