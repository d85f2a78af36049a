"""Roles: who may change whose, and that somebody always owns the tenant."""

from django.core.exceptions import ValidationError

from audit.actions import Action
from audit.record import Actor, record
from tenants.models import Member, Role, Tenant


def may_offer(by: Member, role: str) -> None:
    """Only an owner makes owners. Raises ValidationError keyed by field."""
    if role not in Role.values:
        raise ValidationError({"role": "Choose one of the roles."})
    if role == Role.OWNER and by.role != Role.OWNER:
        raise ValidationError({"role": "Only an owner can make somebody an owner."})


def change_role(member: Member, *, by: Member, role: str) -> None:
    """Give `member` another role. Raises ValidationError. In the tenant's transaction."""
    may_offer(by, role)
    if member.role == Role.OWNER and by.role != Role.OWNER:
        raise ValidationError("Only an owner can change the role of an owner.")
    if role == member.role:
        return
    if member.role == Role.OWNER:
        require_another_owner(member.tenant, member)
    was, member.role = member.role, role
    member.save(update_fields=["role"])
    record(
        Action.MEMBER_ROLE_CHANGED,
        tenant_id=member.tenant_id,
        actor=Actor("member", str(by.id)),
        member_id=member.id,
        subject_kind="member",
        subject=str(member.id),
        details={"was": was, "role": role},
    )


def require_may_remove(member: Member, *, by: Member) -> None:
    """Raises ValidationError unless `by` may let `member` go."""
    if member.role == Role.OWNER:
        if by.role != Role.OWNER:
            raise ValidationError("Only an owner can let an owner go.")
        require_another_owner(member.tenant, member)


def require_another_owner(tenant: Tenant, leaving: Member) -> None:
    """Raises ValidationError if `leaving` is the last active owner. Locks them: two cannot leave at once."""
    owners = Member.objects.select_for_update().filter(tenant=tenant, role=Role.OWNER, deactivated_at=None)
    if not [owner for owner in owners.select_related(None) if owner.id != leaving.id]:
        raise ValidationError("This is the last owner. Make somebody else an owner first.")
