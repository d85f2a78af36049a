"""Tenant, User, Member and what people sign in with."""

import hashlib
import secrets
from datetime import timedelta
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.core.validators import RegexValidator
from django.db import models
from django.utils.timezone import now

from tenants.rls import TenantForeignKey, TenantOwned, new_id

SLUG = RegexValidator(
    r"^[a-z][a-z0-9-]{1,38}[a-z0-9]\Z",
    "Use 3 to 40 small letters, digits and hyphens, a letter first.",
)


class Role(models.TextChoices):
    """What a member may do; each says in the interface what it is for."""

    OWNER = "owner", "Owner"
    ADMIN = "admin", "Admin"
    AUDITOR = "auditor", "Auditor"
    MEMBER = "member", "Member"


class Users(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        user = self.model(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def get_by_natural_key(self, username: str | None) -> "User":
        return self.get(email__iexact=username)


class User(AbstractBaseUser):
    """A person with a sign-in, in one or more tenants. The e-mail address is the name they sign in with."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    email = models.EmailField("e-mail address", unique=True)
    name = models.CharField(max_length=120)
    is_active = models.BooleanField(default=True)
    operator_since = models.DateTimeField(null=True, blank=True)  # may create tenants, sees none of their content
    created_at = models.DateTimeField(default=now)

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS = ["name"]
    objects = Users()

    def __str__(self) -> str:
        return self.name or self.email

    @property
    def is_operator(self) -> bool:
        return self.operator_since is not None

    def get_full_name(self) -> str:
        return self.name


class Tenant(models.Model):
    """An organisation: its own issuer, keys, people, agents and record. This row is only its name plate."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    slug = models.CharField(max_length=40, unique=True, validators=[SLUG])
    name = models.CharField(max_length=120)
    created_at = models.DateTimeField(default=now)
    suspended_at = models.DateTimeField(null=True, blank=True)
    # What self-registered MCP clients may do before an admin has looked at them
    open_registration = models.BooleanField(default=True)
    unapproved_ceiling = models.CharField(max_length=10, default="read")
    approval_first = models.BooleanField(default=False)  # they may do nothing at all before
    issuer_host = models.CharField(
        max_length=253, blank=True, default=""
    )  # its own host as issuer, else a path of ours
    key_rotation_days = models.PositiveSmallIntegerField(default=90)  # 0: on demand only

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["issuer_host"], condition=~models.Q(issuer_host=""), name="one_tenant_per_issuer_host"
            )
        ]

    def __str__(self) -> str:
        return self.name


class Member(TenantOwned):
    """A user in a tenant. `id` is the `sub` of tokens: it says nothing about the person outside this tenant."""

    user = models.ForeignKey(User, models.PROTECT, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.MEMBER)
    joined_at = models.DateTimeField(default=now)
    deactivated_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "user"], name="one_membership_each")]

    def __str__(self) -> str:
        return self.user.name

    @property
    def name(self) -> str:
        return self.user.name

    @property
    def is_active(self) -> bool:
        return self.deactivated_at is None and self.user.is_active

    @property
    def may_administer(self) -> bool:
        return self.role in (Role.OWNER, Role.ADMIN)

    @property
    def may_audit(self) -> bool:
        return self.role in (Role.OWNER, Role.ADMIN, Role.AUDITOR)


class Invitation(TenantOwned):
    """A place offered to somebody by e-mail; accepted once."""

    email = models.EmailField()
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.MEMBER)
    token_hash = models.BinaryField(max_length=32)
    invited_by = TenantForeignKey(Member, models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=now)
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True, blank=True)


class SignInLink(models.Model):
    """A link that signs one user in once. Only its hash is kept."""

    token_hash = models.BinaryField(primary_key=True, max_length=32)
    user = models.ForeignKey(User, models.CASCADE, related_name="+")
    created_at = models.DateTimeField(default=now)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    @classmethod
    def make(cls, user: User, *, lifetime: timedelta = timedelta(hours=24)) -> str:
        """The secret part of a new link for `user`."""
        token = secrets.token_urlsafe(32)
        cls.objects.create(token_hash=secret_hash(token), user=user, expires_at=now() + lifetime)
        return token

    @classmethod
    def redeem(cls, token: str) -> User | None:
        """The user of an unused, unexpired link, which is used up by this. Call it in a transaction."""
        link = cls.objects.select_for_update().select_related("user").filter(token_hash=secret_hash(token)).first()
        if link is None or link.used_at or link.expires_at <= now() or not link.user.is_active:
            return None
        link.used_at = now()
        link.save(update_fields=["used_at"])
        return link.user


class Revocation(TenantOwned):
    """Something that counts for nothing from `at` on. Written in the transaction of its cause; nobody walks tokens."""

    class Kind(models.TextChoices):
        TENANT = "tenant"
        MEMBER = "member"
        AGENT = "agent"
        GRANT = "grant"
        CREDENTIAL = "credential"
        TOKEN = "token"

    kind = models.CharField(max_length=10, choices=Kind.choices)
    subject = models.CharField(max_length=64)  # the id of what was revoked, or a token's jti
    at = models.DateTimeField(default=now)
    # Tokens issued after this are good again (an agent let back in); null while the ban stands
    lifted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["tenant", "kind", "subject"])]


def secret_hash(secret: str) -> bytes:
    """What we store of a generated secret: 256 random bits need no slow hash."""
    return hashlib.sha256(secret.encode()).digest()
