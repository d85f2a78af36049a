"""Agent and its credentials."""

from typing import TYPE_CHECKING

from django.db import models
from django.utils.timezone import now

from tenants.models import Member
from tenants.rls import TenantForeignKey, TenantOwned

if TYPE_CHECKING:
    from django.db.models.manager import RelatedManager

RISKS = ("read", "change", "dangerous")  # in rising order


class Agent(TenantOwned):
    """Who may act. In OAuth terms a client: `client_id` is the id, or the document's URL (CIMD)."""

    class Kind(models.TextChoices):
        DELEGATED = "delegated", "Acts for a person"
        AUTONOMOUS = "autonomous", "Runs by itself"
        MCP = "mcp", "An MCP client connects itself"

    class State(models.TextChoices):
        DRAFT = "draft"
        ACTIVE = "active"
        SUSPENDED = "suspended"
        RETIRED = "retired"

    class Registration(models.TextChoices):
        ADMIN = "admin", "Registered by an admin"
        DOCUMENT = "document", "Introduced itself with a client document"
        DYNAMIC = "dynamic", "Registered itself"

    name = models.CharField(max_length=80)
    purpose = models.CharField(max_length=200, blank=True, default="")
    owner = TenantForeignKey(
        Member, models.PROTECT, related_name="owned_agents", null=True
    )  # null: seen, nobody answers yet
    kind = models.CharField(max_length=10, choices=Kind.choices, default=Kind.DELEGATED)
    state = models.CharField(max_length=10, choices=State.choices, default=State.ACTIVE)
    number = models.PositiveIntegerField(default=1)  # issue number printed on the badge
    photo = models.BinaryField(
        null=True, blank=True
    )  # a PNG made by us from what was uploaded; else a face is drawn
    created_at = models.DateTimeField(default=now)
    created_by = TenantForeignKey(Member, models.PROTECT, related_name="+", null=True)
    state_since = models.DateTimeField(default=now)
    state_by = TenantForeignKey(Member, models.PROTECT, related_name="+", null=True)
    state_reason = models.CharField(max_length=200, blank=True, default="")
    valid_until = models.DateTimeField(null=True, blank=True)
    last_seen_at = models.DateTimeField(null=True, blank=True)
    # The most it may ever be granted: nothing above this class, and of registered agents only the scopes in `Ceiling`
    ceiling_risk = models.CharField(max_length=10, default="dangerous")

    # The OAuth client (RFC 7591 names)
    client_id = models.CharField(max_length=500)
    registration = models.CharField(
        max_length=10, choices=Registration.choices, default=Registration.ADMIN
    )
    approved_at = models.DateTimeField(
        null=True, blank=True
    )  # null: "seen, not approved"
    approved_by = TenantForeignKey(Member, models.PROTECT, related_name="+", null=True)
    redirect_uris = models.JSONField(default=list, blank=True)
    grant_types = models.JSONField(default=list, blank=True)
    token_endpoint_auth_method = models.CharField(max_length=40, default="none")
    client_metadata = models.JSONField(
        default=dict, blank=True
    )  # as registered, echoed
    jwks_uri = models.CharField(max_length=500, blank=True, default="")
    document_fetched_at = models.DateTimeField(null=True, blank=True)
    document_fresh_until = models.DateTimeField(null=True, blank=True)

    credentials: "RelatedManager[Credential]"
    ceiling: "RelatedManager[models.Model]"

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "client_id"], name="one_agent_per_client_id"
            )
        ]
        indexes = [models.Index(fields=["tenant", "state", "name"])]

    def __str__(self) -> str:
        return self.name

    @property
    def is_active(self) -> bool:
        return self.state == self.State.ACTIVE and (
            self.valid_until is None or self.valid_until > now()
        )

    @property
    def is_approved(self) -> bool:
        return self.approved_at is not None

    @property
    def host(self) -> str:
        """The verified host of a client document, else empty. A redirect host proves nothing about who asks."""
        from urllib.parse import urlsplit

        return (
            urlsplit(self.client_id).hostname or ""
            if self.registration == self.Registration.DOCUMENT
            else ""
        )


class Credential(TenantOwned):
    """One way in which an agent proves itself; two may live side by side, so that a change costs no downtime."""

    class Kind(models.TextChoices):
        SECRET = "secret"  # client_secret_basic, client_secret_post
        KEY = "key"  # private_key_jwt

    agent = TenantForeignKey(Agent, models.CASCADE, related_name="credentials")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    secret_hash = models.BinaryField(
        max_length=32, null=True
    )  # SHA-256 of 256 random bits
    hint = models.CharField(
        max_length=8, blank=True, default=""
    )  # the last four characters
    public_jwk = models.JSONField(null=True)
    kid = models.CharField(max_length=128, blank=True, default="")
    created_at = models.DateTimeField(default=now)
    created_by = TenantForeignKey(Member, models.PROTECT, related_name="+", null=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    retired_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    @property
    def is_live(self) -> bool:
        return self.retired_at is None and (
            self.expires_at is None or self.expires_at > now()
        )
