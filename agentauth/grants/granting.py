"""Giving, reading and replacing grants. Ending and narrowing one are verbs on `Grant`."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils.timezone import now

from agentauth.agents.introducing import waits_for_approval
from agentauth.agents.models import Agent, actor_of
from agentauth.grants.models import Grant, Permission
from agentauth.resources.ceilings import may_ever
from agentauth.resources.models import Ceiling, Resource, Scope
from audit.actions import Action
from audit.record import Actor, record
from tenants.models import Member
from tenants.notice import announce

LONGEST = timedelta(days=366)
# What a person's own role lets them hand on at AgentAuth's own API; other resources know their people themselves
MANAGEMENT_RIGHTS = {
    "owner": ("read", "write"),
    "admin": ("read", "write"),
    "auditor": ("read", "exports:write"),
    "member": ("grants:read", "events:read"),
}


class NotGrantable(Exception):
    """This cannot be granted; `field` is what to change, the message says what would be right."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def offerable(agent: Agent, resource: Resource, member: Member | None) -> list[Scope]:
    """The scopes that `agent` could be granted at `resource` by this person: under its ceiling, within their rights."""
    if resource.state != Resource.State.PUBLISHED or not agent.is_active or waits_for_approval(agent):
        return []
    listed = set(Ceiling.objects.filter(tenant_id=agent.tenant_id, agent=agent).values_list("scope_id", flat=True))
    return [
        scope
        for scope in resource.scopes.order_by("name")
        if may_ever(agent, scope, listed) and _within_rights(scope, resource, member)
    ]


def live_grant(agent: Agent, resource: Resource, member: Member | None) -> Grant | None:
    """The grant that counts now between these three, if any."""
    grants = Grant.objects.filter(tenant_id=agent.tenant_id, agent=agent, resource=resource, member=member)
    return grants.filter(ended_at=None, expires_at__gt=now()).first()


def give(
    *,
    agent: Agent,
    resource: Resource,
    member: Member | None,
    by: Member,
    permissions: Mapping[Scope, str],
    expires_at: datetime,
    purpose: str = "",
    constraints: dict[str, Any] | None = None,
    ip: str = "",
    actor: Actor | None = None,
) -> Grant:
    """A grant in place of the live one, if there is one. Raises NotGrantable.

    `by` answers for it; `actor` is who did it on record, where that is not the same (an identity provider).

    `permissions` maps scopes to always / ask / never. A dangerous scope has no "always" for a person; for an agent that
    acts for itself (no member) there is nobody to ask, so there an admin's "always" stands.
    """
    _require_sound(agent, resource, member, permissions, expires_at)
    with transaction.atomic():
        Agent.objects.select_for_update().only("id").get(pk=agent.pk)  # one grant at a time for this agent
        now_live = Grant.objects.select_for_update().filter(
            tenant_id=agent.tenant_id, agent=agent, resource=resource, member=member, ended_at=None
        )
        for old in now_live:
            old.replace(by=by)
        grant = Grant.objects.create(
            tenant_id=agent.tenant_id,
            agent=agent,
            resource=resource,
            member=member,
            given_by=by,
            purpose=purpose.strip()[:200],
            constraints=constraints or {},
            expires_at=expires_at,
        )
        rows = [
            Permission(tenant_id=agent.tenant_id, grant=grant, scope=scope, mode=mode)
            for scope, mode in permissions.items()
        ]
        Permission.objects.bulk_create(rows)
        record(
            Action.GRANT_GIVEN,
            tenant_id=agent.tenant_id,
            actor=actor or actor_of(by),
            agent_id=agent.id,
            member_id=member.id if member else None,
            grant_id=grant.id,
            resource_id=resource.id,
            subject_kind="grant",
            subject=str(grant.id),
            ip=ip,
            details={
                "permissions": {scope.name: mode for scope, mode in permissions.items()},
                "expires": expires_at.isoformat(),
                "purpose": grant.purpose,
            },
        )
        announce(agent.tenant_id, "config", f"grants:{grant.id}")
    return grant


def _require_sound(
    agent: Agent,
    resource: Resource,
    member: Member | None,
    permissions: Mapping[Scope, str],
    expires_at: datetime,
) -> None:
    if not agent.is_active:
        raise NotGrantable("agent", "This agent's badge is not active.")
    if resource.state != Resource.State.PUBLISHED:
        raise NotGrantable("resource", "This resource is not published.")
    if member is not None and not member.is_active:
        raise NotGrantable("member", "This person is not an active member.")
    if not now() < expires_at <= now() + LONGEST:
        raise NotGrantable("expires_at", "Choose an end within 366 days from now.")
    if not any(mode != Permission.Mode.NEVER for mode in permissions.values()):
        raise NotGrantable("permissions", "Choose at least one permission.")
    may = {scope.id for scope in offerable(agent, resource, member)}
    for scope, mode in permissions.items():
        if mode not in Permission.Mode.values:
            raise NotGrantable("permissions", f"Choose always, ask or never for “{scope.words}”.")
        if mode != Permission.Mode.NEVER and scope.id not in may:
            raise NotGrantable("permissions", f"“{scope.words}” is more than this agent may ever be granted.")
        if mode == Permission.Mode.ALWAYS and scope.risk == "dangerous" and member is not None:
            raise NotGrantable("permissions", f"“{scope.words}” is dangerous: choose “Ask me” or “Never”.")


def _within_rights(scope: Scope, resource: Resource, member: Member | None) -> bool:
    if member is None or resource.kind != Resource.Kind.MANAGEMENT:
        return True
    return any(scope.name == right or scope.name.endswith(f":{right}") for right in MANAGEMENT_RIGHTS[member.role])
