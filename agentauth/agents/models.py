"""Agent and its credentials."""

from typing import Any
from urllib.parse import urlsplit

from django.db import models, transaction
from django.utils.timezone import now

from agentauth.agents.acts import WrongState, actor_of
from agentauth.agents.trusted import MemberLink, TrustedIssuer, VouchedGrant
from audit.actions import Action
from audit.record import Actor, record
from tenants.models import Member, Revocation
from tenants.notice import announce
from tenants.revocation import Ended, lift, live_tokens, revoke
from tenants.rls import TenantForeignKey, TenantOwned

# Of the files beside this one: models are found through here
__all__ = ["MemberLink", "TrustedIssuer", "VouchedGrant", "WrongState", "actor_of"]
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
    photo = models.BinaryField(null=True, blank=True)  # a PNG made by us from what was uploaded; else a face is drawn
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
    registration = models.CharField(max_length=10, choices=Registration.choices, default=Registration.ADMIN)
    approved_at = models.DateTimeField(null=True, blank=True)  # null: "seen, not approved"
    approved_by = TenantForeignKey(Member, models.PROTECT, related_name="+", null=True)
    redirect_uris = models.JSONField(default=list, blank=True)
    grant_types = models.JSONField(default=list, blank=True)
    token_endpoint_auth_method = models.CharField(max_length=40, default="none")
    client_metadata = models.JSONField(default=dict, blank=True)  # as registered, echoed
    jwks_uri = models.CharField(max_length=500, blank=True, default="")
    high_assurance = models.BooleanField(default=False)  # PAR, DPoP and private_key_jwt only (the shape of FAPI 2.0)
    dpop_bound_access_tokens = models.BooleanField(default=False)  # RFC 9449 §5.2
    registration_token_hash = models.BinaryField(max_length=32, null=True)  # RFC 7592 §3
    document_fetched_at = models.DateTimeField(null=True, blank=True)
    document_fresh_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "client_id"], name="one_agent_per_client_id")]
        indexes = [models.Index(fields=["tenant", "state", "name"])]

    def __str__(self) -> str:
        return self.name

    @property
    def is_active(self) -> bool:
        return self.state == self.State.ACTIVE and (self.valid_until is None or self.valid_until > now())

    @property
    def is_approved(self) -> bool:
        return self.approved_at is not None

    @property
    def host(self) -> str:
        """The verified host of a client document, else empty. A redirect host proves nothing about who asks."""
        return urlsplit(self.client_id).hostname or "" if self.registration == self.Registration.DOCUMENT else ""

    @property
    def ping_url(self) -> str:
        """Where it wants to be told that its person has answered (OpenID Connect CIBA §4). Empty: it asks for it."""
        pinged = self.client_metadata.get("backchannel_token_delivery_mode") == "ping"
        return str(self.client_metadata.get("backchannel_client_notification_endpoint", "")) if pinged else ""

    def suspend(self, *, by: Member | Actor, reason: str = "") -> Ended:
        """Stop this agent at once: no new tokens, no passage through the gateway, open streams end."""
        return self._stop(self.State.SUSPENDED, Action.AGENT_SUSPENDED, by=by, reason=reason)

    def retire(self, *, by: Member | Actor, reason: str = "") -> Ended:
        """Void this badge for good. Its record stays."""
        return self._stop(self.State.RETIRED, Action.AGENT_RETIRED, by=by, reason=reason)

    def let_back(self, *, by: Member) -> None:
        """End a suspension. Tokens from before it stay void; the agent gets new ones under the grants it still has."""
        with transaction.atomic():
            self._lock()
            if self.state != self.State.SUSPENDED:
                raise WrongState("Only a suspended agent can be let back in.")
            self._become(self.State.ACTIVE, by, "")
            lift(self.tenant_id, Revocation.Kind.AGENT, self.id)
            self._record(Action.AGENT_LET_BACK, by)

    def approve(self, *, by: Member, owner: Member, ceiling_risk: str) -> None:
        """Answer for an agent that introduced itself: give it an owner and the most it may ever be granted."""
        if ceiling_risk not in RISKS:
            raise ValueError(f"ceiling_risk must be one of {', '.join(RISKS)}")
        with transaction.atomic():
            self._lock()
            self.approved_at, self.approved_by, self.owner, self.ceiling_risk = now(), by, owner, ceiling_risk
            self.save(update_fields=["approved_at", "approved_by", "owner", "ceiling_risk"])
            self._record(Action.AGENT_APPROVED, by, details={"ceiling": ceiling_risk, "owner": str(owner.id)})
            self.announce()

    def change(self, *, by: Member, **fields: Any) -> None:
        """Set name, purpose, owner, valid_until or redirect_uris; what changed is on record, old and new."""
        changed = {name: value for name, value in fields.items() if getattr(self, name) != value}
        if not changed:
            return
        with transaction.atomic():
            before = {name: str(getattr(self, name) or "") for name in changed}
            for name, value in changed.items():
                setattr(self, name, value)
            self.save(update_fields=list(changed))
            after = {name: str(value or "") for name, value in changed.items()}
            self._record(Action.AGENT_CHANGED, by, details={"before": before, "after": after})
            self.announce()

    def announce(self) -> None:
        """Have every process read this agent again at commit."""
        announce(self.tenant_id, "config", f"agents:{self.id}")

    def _stop(self, state: "Agent.State", action: Action, *, by: Member | Actor, reason: str) -> Ended:
        with transaction.atomic():
            self._lock()
            if self.state in (self.State.RETIRED, state):
                raise WrongState(f"This agent is already {self.get_state_display().lower()}.")
            tokens = live_tokens(self.tenant_id, agent_id=self.id)
            self._become(state, by, reason)
            at = revoke(self.tenant_id, Revocation.Kind.AGENT, self.id)
            self._record(action, by, details={"reason": reason, "tokens_ended": tokens})
            return Ended(grants=0, tokens=tokens, at=at)

    def _lock(self) -> None:
        self.state = Agent.objects.select_for_update().values_list("state", flat=True).get(pk=self.pk)

    def _become(self, state: "Agent.State", by: Member | Actor, reason: str) -> None:
        self.state, self.state_since, self.state_reason = state, now(), reason[:200]
        self.state_by = by if isinstance(by, Member) else None
        self.save(update_fields=["state", "state_since", "state_by", "state_reason"])
        self.announce()

    def _record(self, action: Action, by: Member | Actor, details: dict[str, Any] | None = None) -> None:
        record(
            action,
            tenant_id=self.tenant_id,
            actor=actor_of(by),
            agent_id=self.id,
            subject_kind="agent",
            subject=str(self.id),
            details=details,
        )


class Credential(TenantOwned):
    """One way in which an agent proves itself; two may live side by side, so that a change costs no downtime."""

    class Kind(models.TextChoices):
        SECRET = "secret"  # client_secret_basic, client_secret_post
        KEY = "key"  # private_key_jwt
        WORKLOAD = "workload"  # a token of where it runs: GitHub Actions, Kubernetes, SPIFFE

    agent = TenantForeignKey(Agent, models.CASCADE, related_name="credentials")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    secret_hash = models.BinaryField(max_length=32, null=True)  # SHA-256 of 256 random bits
    hint = models.CharField(max_length=8, blank=True, default="")  # the last four characters
    public_jwk = models.JSONField(null=True)
    kid = models.CharField(max_length=128, blank=True, default="")
    trusted_issuer = TenantForeignKey(TrustedIssuer, models.PROTECT, related_name="credentials", null=True)
    claim_rules = models.JSONField(default=dict, blank=True)  # what that issuer's token must say
    created_at = models.DateTimeField(default=now)
    created_by = TenantForeignKey(Member, models.PROTECT, related_name="+", null=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    retired_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    @property
    def is_live(self) -> bool:
        return self.retired_at is None and (self.expires_at is None or self.expires_at > now())

    def retire(self, *, by: Member | Actor) -> None:
        """This credential proves nothing any more. Tokens that it got live out their minutes; suspend to stop those."""
        with transaction.atomic():
            if self.retired_at is not None:
                raise WrongState("This credential is already retired.")
            self.retired_at = now()
            self.save(update_fields=["retired_at"])
            record(
                Action.CREDENTIAL_RETIRED,
                tenant_id=self.tenant_id,
                actor=actor_of(by),
                agent_id=self.agent_id,
                subject_kind="credential",
                subject=str(self.id),
            )
            announce(self.tenant_id, "config", f"agents:{self.agent_id}")
