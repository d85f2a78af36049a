"""Inviting people: a place offered by e-mail, accepted once. The secret of the link is shown once, kept as a hash."""

import secrets
from datetime import timedelta

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import models, transaction
from django.utils.timezone import now

from audit.actions import Action
from audit.record import Actor, record
from tenants.founding import join
from tenants.models import Invitation, Member, Revocation, Tenant, User, secret_hash
from tenants.revocation import lift
from tenants.roles import may_offer

LIFETIME = timedelta(days=7)


def invite(tenant: Tenant, *, by: Member, email: str, role: str) -> tuple[Invitation, str]:
    """Offer `email` a place. Returns the invitation and the secret part of its link. An earlier open one is replaced.

    Raises ValidationError keyed by field. In the tenant's transaction.
    """
    email = email.strip().lower()
    try:
        validate_email(email)
    except ValidationError as wrong:
        raise ValidationError({"email": wrong.messages}) from None
    may_offer(by, role)
    if Member.objects.filter(tenant=tenant, user__email__iexact=email, deactivated_at=None).exists():
        raise ValidationError({"email": f"{email} is a member already."})
    open_invitations(tenant).filter(email=email).update(expires_at=now())
    token = secrets.token_urlsafe(32)
    invitation = Invitation.objects.create(
        tenant=tenant,
        email=email,
        role=role,
        token_hash=secret_hash(token),
        invited_by=by,
        expires_at=now() + LIFETIME,
    )
    _record(Action.MEMBER_INVITED, invitation, by)
    return invitation, token


def open_invitations(tenant: Tenant) -> models.QuerySet[Invitation]:
    """Those that can still be accepted."""
    return Invitation.objects.filter(tenant=tenant, accepted_at=None, expires_at__gt=now())


def find_invitation(tenant: Tenant, token: str) -> Invitation | None:
    """The open invitation of this link, locked, so that two who press at once do not both get in."""
    return open_invitations(tenant).select_for_update().filter(token_hash=secret_hash(token)).first()


def account_of(invitation: Invitation) -> User | None:
    """The user who has this address already and can sign in."""
    user = User.objects.filter(email__iexact=invitation.email).first()
    return user if user is not None and user.has_usable_password() else None


def accept(invitation: Invitation, *, name: str, password: str, signed_in: User | None = None) -> Member:
    """Take the place. A new person sets name and password; one who has an account must be the one who is `signed_in`.

    A link alone never opens an account that exists: that takes its password and second factor. Raises ValidationError
    keyed by field. In the tenant's transaction.
    """
    account = account_of(invitation)
    if account is None:
        _check_new(name, password)
    elif account != signed_in or not account.is_active:
        raise ValidationError(f"Sign in as {invitation.email} first: this address has an account.")
    user = account or User.objects.filter(email__iexact=invitation.email).first()
    with transaction.atomic():
        tenant = invitation.tenant
        was = Member.objects.filter(tenant=tenant, user=user).first() if user else None
        if was is not None:
            member = _bring_back(was, invitation)
        else:
            member = join(tenant, email=invitation.email, name=name, role=invitation.role)
        if not member.user.has_usable_password():
            member.user.name = name
            member.user.set_password(password)
            member.user.save(update_fields=["name", "password"])
        invitation.accepted_at = now()
        invitation.save(update_fields=["accepted_at"])
    return member


def withdraw(invitation: Invitation, *, by: Member) -> None:
    """The link is no longer good."""
    invitation.expires_at = now()
    invitation.save(update_fields=["expires_at"])
    _record(Action.MEMBER_INVITATION_WITHDRAWN, invitation, by)


def _check_new(name: str, password: str) -> None:
    wrong: dict[str, list[str]] = {}
    if not name.strip():
        wrong["name"] = ["Enter your name, as others will read it."]
    try:
        validate_password(password)
    except ValidationError as weak:
        wrong["password"] = weak.messages
    if wrong:
        raise ValidationError(wrong)


def _bring_back(member: Member, invitation: Invitation) -> Member:
    """Somebody who left and comes again: the same member, with the role now offered. What ended stays ended."""
    member.deactivated_at = None
    member.role = invitation.role
    member.joined_at = now()
    member.save(update_fields=["deactivated_at", "role", "joined_at"])
    lift(member.tenant_id, Revocation.Kind.MEMBER, member.id)
    record(
        Action.MEMBER_JOINED,
        tenant_id=member.tenant_id,
        actor=Actor("member", str(member.id)),
        member_id=member.id,
        subject_kind="member",
        subject=str(member.id),
        details={"role": member.role, "again": True},
    )
    return member


def _record(action: Action, invitation: Invitation, by: Member) -> None:
    record(
        action,
        tenant_id=invitation.tenant_id,
        actor=Actor("member", str(by.id)),
        subject_kind="invitation",
        subject=str(invitation.id),
        details={"role": invitation.role},
    )
