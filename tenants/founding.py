"""Founding a tenant: the organisation, its first owner. Signing key and built-in resource are added by rooms above."""

from django.db import transaction

from audit.actions import Action
from audit.record import Actor, record
from tenants.models import Member, Role, Tenant, User
from tenants.rls import set_tenant


def open_tenant(*, slug: str, name: str, owner_email: str, owner_name: str, actor: Actor) -> tuple[Tenant, Member]:
    """A new tenant with its owner, who has no password until they set one. Raises ValidationError on a bad slug."""
    with transaction.atomic():
        tenant = Tenant(slug=slug, name=name)
        tenant.full_clean()
        tenant.save(force_insert=True)
        set_tenant(tenant.id)
        record(Action.TENANT_CREATED, tenant_id=tenant.id, actor=actor, subject_kind="tenant", subject=str(tenant.id))
        return tenant, join(tenant, email=owner_email, name=owner_name, role=Role.OWNER, actor=actor)


def join(tenant: Tenant, *, email: str, name: str, role: str, actor: Actor | None = None) -> Member:
    """Make `email` a member, with the user they already are or a new one. Without `actor`, they came by themselves.

    In the tenant's transaction.
    """
    user = User.objects.filter(email__iexact=email).first() or User.objects.create_user(email, name=name)
    member = Member.objects.create(tenant=tenant, user=user, role=role)
    record(
        Action.MEMBER_JOINED,
        tenant_id=tenant.id,
        actor=actor or Actor("member", str(member.id)),
        member_id=member.id,
        subject_kind="member",
        subject=str(member.id),
        details={"role": role},
    )
    return member
