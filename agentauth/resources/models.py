"""Resource, Scope, Operation and the operator's catalogue."""

from django.core.validators import RegexValidator
from django.db import models, transaction
from django.utils.timezone import now

from agentauth.agents.models import Agent, WrongState, actor_of
from agentauth.keys.sealed import SealedField
from audit.actions import Action
from audit.record import record
from tenants.models import Member
from tenants.rls import TenantForeignKey, TenantOwned, new_id

RESOURCE_SLUG = RegexValidator(r"^[a-z0-9][a-z0-9-]{0,38}\Z", "Use small letters, digits and hyphens, 39 at most.")
SCOPE_NAME = RegexValidator(r"^[a-zA-Z0-9_.:/-]{1,80}\Z", "Use letters, digits and _ . : / -")


class Risk(models.TextChoices):
    READ = "read", "Read"
    CHANGE = "change", "Change"
    DANGEROUS = "dangerous", "Dangerous"


class CatalogueEntry(models.Model):
    """A resource that the operator offers to every tenant. It has none; who adopts it gets a resource of their own."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    slug = models.CharField(max_length=39, unique=True, validators=[RESOURCE_SLUG])
    name = models.CharField(max_length=80)
    description = models.CharField(max_length=300, blank=True, default="")
    kind = models.CharField(max_length=10)  # rest, mcp
    upstream_url = models.URLField(max_length=500)
    document = models.TextField(blank=True, default="")  # OpenAPI, for rest
    offered_at = models.DateTimeField(default=now)
    withdrawn_at = models.DateTimeField(null=True, blank=True)


class Resource(TenantOwned):
    """An API or MCP server behind the gateway. Its URL there is the `resource` (RFC 8707) and the tokens' `aud`."""

    class Kind(models.TextChoices):
        REST = "rest", "REST API"
        MCP = "mcp", "MCP server"
        MANAGEMENT = "management", "AgentAuth itself"

    class State(models.TextChoices):
        DRAFT = "draft"
        PUBLISHED = "published"
        RETIRED = "retired"

    class UpstreamAuth(models.TextChoices):
        NONE = "none", "None"
        BEARER = "bearer", "Bearer token"
        HEADER = "header", "A header"
        BASIC = "basic", "User name and password"

    slug = models.CharField(max_length=39, validators=[RESOURCE_SLUG])
    name = models.CharField(max_length=80)
    description = models.CharField(max_length=300, blank=True, default="")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    state = models.CharField(max_length=10, choices=State.choices, default=State.DRAFT)
    upstream_url = models.CharField(max_length=500)  # base address; no trailing slash for rest, the endpoint for mcp
    upstream_auth = models.CharField(max_length=10, choices=UpstreamAuth.choices, default=UpstreamAuth.NONE)
    upstream_header = models.CharField(max_length=60, blank=True, default="")  # header name, or the user name for basic
    sealed_credential = SealedField(purpose="upstream", null=True)
    sends_assertion = models.BooleanField(default=True)
    dpop_bound_access_tokens_required = models.BooleanField(default=False)  # RFC 9728 §2
    document = models.TextField(blank=True, default="")  # the OpenAPI document as given
    source = models.CharField(max_length=500, blank=True, default="")  # where it came from: a URL, "pasted", "uploaded"
    adopted_from = models.ForeignKey(CatalogueEntry, models.PROTECT, null=True, related_name="+")
    created_at = models.DateTimeField(default=now)
    created_by = TenantForeignKey(Member, models.PROTECT, related_name="+", null=True)
    published_at = models.DateTimeField(null=True, blank=True)
    retired_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "slug"], name="one_resource_per_slug")]

    def __str__(self) -> str:
        return self.name


class ServerCredential(TenantOwned):
    """How a resource's own server proves itself when it asks whether a token counts (RFC 7662). It gets no tokens."""

    resource = TenantForeignKey(Resource, models.CASCADE, related_name="server_credentials")
    secret_hash = models.BinaryField(max_length=32, null=True)  # SHA-256 of 256 random bits; or there is a key:
    public_jwk = models.JSONField(null=True, blank=True)
    hint = models.CharField(max_length=8)  # the last four characters, of a key those of its id
    created_at = models.DateTimeField(default=now)
    created_by = TenantForeignKey(Member, models.PROTECT, related_name="+", null=True)
    retired_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(secret_hash__isnull=True) ^ models.Q(public_jwk__isnull=True),
                name="a_server_has_a_secret_or_a_key",
            )
        ]

    @property
    def is_live(self) -> bool:
        return self.retired_at is None

    def retire(self, *, by: Member) -> None:
        """This secret or key proves nothing any more, from the next question on."""
        with transaction.atomic():
            if self.retired_at is not None:
                raise WrongState("This is retired already.")
            self.retired_at = now()
            self.save(update_fields=["retired_at"])
            record(
                Action.RESOURCE_CREDENTIAL_RETIRED,
                tenant_id=self.tenant_id,
                actor=actor_of(by),
                resource_id=self.resource_id,
                subject_kind="credential",
                subject=str(self.id),
            )


class Scope(TenantOwned):
    """One permission in people's words, e.g. `meeting:enter`, "Enter the meeting room", change."""

    resource = TenantForeignKey(Resource, models.CASCADE, related_name="scopes")
    name = models.CharField(max_length=80, validators=[SCOPE_NAME])
    words = models.CharField(max_length=120)
    risk = models.CharField(max_length=10, choices=Risk.choices)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "resource", "name"], name="one_scope_per_name")]

    def __str__(self) -> str:
        return self.words


class Operation(TenantOwned):
    """One thing that can be called: method and path template, or an MCP tool. Without a scope nobody may call it."""

    resource = TenantForeignKey(Resource, models.CASCADE, related_name="operations")
    key = models.CharField(max_length=200)  # "POST /rooms/{room}/enter" or the tool's name
    method = models.CharField(max_length=10, blank=True, default="")
    path = models.CharField(max_length=180, blank=True, default="")
    tool = models.CharField(max_length=128, blank=True, default="")
    summary = models.CharField(max_length=300, blank=True, default="")  # the server's own words: hostile text
    scope = TenantForeignKey(Scope, models.SET_NULL, related_name="operations", null=True, blank=True)
    digest = models.CharField(max_length=64, blank=True, default="")  # of a tool's definition, to notice a change
    changed_at = models.DateTimeField(null=True, blank=True)  # differs from what was published: held until reviewed

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "resource", "key"], name="one_operation_per_key")]


class Ceiling(TenantOwned):
    """The most an agent registered by an admin may ever be granted: these scopes and no others."""

    agent = TenantForeignKey(Agent, models.CASCADE, related_name="ceiling")
    scope = TenantForeignKey(Scope, models.CASCADE, related_name="+")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "agent", "scope"], name="one_ceiling_per_scope")]
