"""Single calls that a person is asked about: asking once per set of arguments, and spending a yes once."""

from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils.timezone import now

from agentauth.grants.models import Approval, Grant
from audit.actions import Action
from audit.record import Actor, record
from tenants.models import Member

LIFETIME = timedelta(minutes=15)


def ask(grant: Grant, *, operation: str, args: dict[str, Any], args_hash: str) -> Approval:
    """The open question about this very call: the one that is waiting already, or a new one."""
    with transaction.atomic():
        Grant.objects.select_for_update().only("id").get(pk=grant.pk)
        waiting = Approval.objects.filter(
            tenant_id=grant.tenant_id,
            grant=grant,
            operation=operation,
            args_hash=args_hash,
            state=Approval.State.PENDING,
            expires_at__gt=now(),
        ).first()
        if waiting is not None:
            return waiting
        approval = Approval.objects.create(
            tenant_id=grant.tenant_id,
            grant=grant,
            operation=operation,
            args=args,
            args_hash=args_hash,
            expires_at=now() + LIFETIME,
        )
        record(
            Action.APPROVAL_ASKED,
            tenant_id=grant.tenant_id,
            actor=Actor("agent", str(grant.agent_id)),
            agent_id=grant.agent_id,
            member_id=grant.member_id,
            grant_id=grant.id,
            resource_id=grant.resource_id,
            operation=operation,
            subject_kind="approval",
            subject=str(approval.id),
            args_hash=args_hash,
        )
        return approval


def give_at_once(grant: Grant, *, operation: str, args: dict[str, Any], args_hash: str, by: Member) -> Approval:
    """The person was asked about this very call elsewhere and has said yes: it may be made once. Raises WrongState."""
    with transaction.atomic():
        approval = ask(grant, operation=operation, args=args, args_hash=args_hash)
        approval.expires_at = now() + LIFETIME  # it may have waited for a while
        approval.save(update_fields=["expires_at"])
        approval.give(by=by)
        return approval


def spend(grant: Grant, *, operation: str, args_hash: str) -> Approval | None:
    """Use up the yes to this very call, if there is one. In the transaction that records the call."""
    given = (
        Approval.objects.select_for_update(skip_locked=True)
        .filter(
            tenant_id=grant.tenant_id,
            grant=grant,
            operation=operation,
            args_hash=args_hash,
            state=Approval.State.GIVEN,
            expires_at__gt=now(),
        )
        .first()
    )
    if given is not None:
        given.state = Approval.State.USED
        given.save(update_fields=["state"])
    return given
