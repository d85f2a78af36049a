"""Grant, what it covers, and approvals of single calls."""

from typing import TYPE_CHECKING

from django.db import models
from django.utils.timezone import now

from agentauth.agents.models import Agent
from agentauth.resources.models import Resource, Scope
from tenants.models import Member
from tenants.rls import TenantForeignKey, TenantOwned

if TYPE_CHECKING:
    from django.db.models.manager import RelatedManager


class Grant(TenantOwned):
    """What `member` allowed `agent` at `resource`. Without a member: what an admin allowed the agent to do for itself."""

    class EndReason(models.TextChoices):
        REVOKED = "revoked"
        EXPIRED = "expired"
        REPLACED = "replaced"
        MEMBER_LEFT = "member_left"
        AGENT_RETIRED = "agent_retired"

    agent = TenantForeignKey(Agent, models.PROTECT, related_name="grants")
    resource = TenantForeignKey(Resource, models.PROTECT, related_name="grants")
    member = TenantForeignKey(Member, models.PROTECT, related_name="grants", null=True)
    given_by = TenantForeignKey(Member, models.PROTECT, related_name="+")
    given_at = models.DateTimeField(default=now)
    purpose = models.CharField(
        max_length=200, blank=True, default=""
    )  # in the agent's or the person's words
    constraints = models.JSONField(default=dict, blank=True)
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    ended_by = TenantForeignKey(Member, models.PROTECT, related_name="+", null=True)
    end_reason = models.CharField(
        max_length=20, choices=EndReason.choices, blank=True, default=""
    )
    last_used_at = models.DateTimeField(null=True, blank=True)

    permissions: "RelatedManager[Permission]"

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "agent", "resource", "member"],
                condition=models.Q(ended_at__isnull=True),
                nulls_distinct=False,
                name="one_live_grant_each",
            )
        ]
        indexes = [
            models.Index(fields=["tenant", "member", "ended_at"]),
            models.Index(
                fields=["expires_at"],
                condition=models.Q(ended_at__isnull=True),
                name="grants_to_expire",
            ),
        ]

    @property
    def is_live(self) -> bool:
        """Decided now: expiry is enforced when read, the sweep only tidies."""
        return self.ended_at is None and self.expires_at > now()


class Permission(TenantOwned):
    """One scope in a grant: always, ask me, or never (said once, kept, shown on the badge)."""

    class Mode(models.TextChoices):
        ALWAYS = "always", "Always"
        ASK = "ask", "Ask me"
        NEVER = "never", "Never"

    grant = TenantForeignKey(Grant, models.CASCADE, related_name="permissions")
    scope = TenantForeignKey(Scope, models.CASCADE, related_name="+")
    mode = models.CharField(max_length=10, choices=Mode.choices, default=Mode.ALWAYS)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "grant", "scope"], name="one_permission_per_scope"
            )
        ]


class Approval(TenantOwned):
    """One concrete call that its person is asked about: bound to the hash of its arguments, good for one call."""

    class State(models.TextChoices):
        PENDING = "pending"
        GIVEN = "given"
        REFUSED = "refused"
        USED = "used"
        EXPIRED = "expired"

    grant = TenantForeignKey(Grant, models.CASCADE, related_name="approvals")
    operation = models.CharField(max_length=200)
    args = models.JSONField(
        default=dict, blank=True
    )  # what the person reads; hostile text
    args_hash = models.CharField(max_length=64)
    state = models.CharField(
        max_length=10, choices=State.choices, default=State.PENDING
    )
    asked_at = models.DateTimeField(default=now)
    expires_at = models.DateTimeField()
    answered_at = models.DateTimeField(null=True, blank=True)
    answered_by = TenantForeignKey(Member, models.PROTECT, related_name="+", null=True)
    reason = models.CharField(max_length=200, blank=True, default="")

    class Meta:
        indexes = [models.Index(fields=["tenant", "grant", "args_hash", "state"])]
