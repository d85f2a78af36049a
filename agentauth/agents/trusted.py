"""Whom a tenant believes besides itself: identity providers for its people, issuers of tokens for machines."""

from datetime import datetime
from typing import Any

from django.db import models, transaction
from django.utils.timezone import now

from agentauth.agents.acts import WrongState, actor_of
from audit.actions import Action
from audit.record import Actor, record
from tenants.models import Member
from tenants.notice import announce
from tenants.rls import TenantForeignKey, TenantOwned

ALGORITHMS = ("ES256", "ES384", "EdDSA", "PS256", "RS256")


class TrustedIssuer(TenantOwned):
    """Somebody else's issuer whose tokens count here, for one purpose. `issuer` is compared as text, to the letter."""

    class Kind(models.TextChoices):
        ENTERPRISE = "enterprise", "Identity provider of the organisation"
        WORKLOAD = "workload", "Issuer of tokens for machines"
        SPIFFE = "spiffe", "SPIFFE trust domain"

    class KeysFrom(models.TextChoices):
        DISCOVERY = "discovery", "Its OpenID configuration"
        ADDRESS = "address", "A key set at an address"
        PASTED = "pasted", "A key set pasted here"

    class ActOrder(models.TextChoices):
        REFUSED = "", "Its tokens are not exchanged here"
        STANDARD = "standard", "The one that acts now stands outermost (RFC 8693)"
        REVERSED = "reversed", "The one that acts now stands innermost"

    kind = models.CharField(max_length=10, choices=Kind.choices)
    name = models.CharField(max_length=80)
    issuer = models.CharField(max_length=500)  # for SPIFFE the trust domain, spiffe://…
    keys_from = models.CharField(max_length=10, choices=KeysFrom.choices, default=KeysFrom.DISCOVERY)
    jwks_uri = models.CharField(max_length=500, blank=True, default="")
    jwks = models.JSONField(null=True, blank=True)
    algorithms = models.JSONField(default=list)
    audience = models.CharField(max_length=500, blank=True, default="")  # empty: this tenant's issuer
    # Of an identity provider: whom it speaks for, and the most that it may allow an agent in a person's place
    email_domains = models.JSONField(default=list, blank=True)
    ceiling_risk = models.CharField(max_length=10, default="change")
    grant_days = models.PositiveSmallIntegerField(default=30)
    act_order = models.CharField(max_length=10, choices=ActOrder.choices, blank=True, default="")
    created_at = models.DateTimeField(default=now)
    created_by = TenantForeignKey(Member, models.PROTECT, related_name="+")
    suspended_at = models.DateTimeField(null=True, blank=True)
    suspended_by = TenantForeignKey(Member, models.PROTECT, related_name="+", null=True)
    removed_at = models.DateTimeField(null=True, blank=True)
    removed_by = TenantForeignKey(Member, models.PROTECT, related_name="+", null=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "kind", "issuer"],
                condition=models.Q(removed_at__isnull=True),
                name="one_trust_per_issuer_and_kind",
            )
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_trusted(self) -> bool:
        return self.suspended_at is None and self.removed_at is None

    def suspend(self, *, by: Member, ended: dict[str, int]) -> datetime:
        """Believe nothing it says until let back. What it had allowed ends too: `grants.distrusting`."""
        return self._stop("suspended", Action.ISSUER_SUSPENDED, by, ended)

    def remove(self, *, by: Member, ended: dict[str, int]) -> datetime:
        """Believe nothing it says ever again. The row stays, for the record."""
        return self._stop("removed", Action.ISSUER_REMOVED, by, ended)

    def let_back(self, *, by: Member) -> None:
        """Believe it again. What ended does not come back; it says anew what it allows."""
        with transaction.atomic():
            self._lock()
            if self.removed_at is not None or self.suspended_at is None:
                raise WrongState("Only a suspended issuer can be trusted again.")
            self.suspended_at = self.suspended_by = None
            self.save(update_fields=["suspended_at", "suspended_by"])
            self.write_down(Action.ISSUER_LET_BACK, by)

    def _stop(self, how: str, action: Action, by: Member, ended: dict[str, int]) -> datetime:
        with transaction.atomic():
            self._lock()
            if self.removed_at is not None or getattr(self, f"{how}_at") is not None:
                raise WrongState(f"This issuer is {'removed' if self.removed_at else how} already.")
            at = now()
            setattr(self, f"{how}_at", at)
            setattr(self, f"{how}_by", by)
            self.save(update_fields=[f"{how}_at", f"{how}_by"])
            self.write_down(action, by, ended)
            return at

    def _lock(self) -> None:
        held = TrustedIssuer.objects.select_for_update().values_list("suspended_at", "removed_at").get(pk=self.pk)
        self.suspended_at, self.removed_at = held

    def write_down(self, action: Action, by: Member | Actor, details: dict[str, Any] | None = None) -> None:
        record(
            action,
            tenant_id=self.tenant_id,
            actor=actor_of(by),
            subject_kind="issuer",
            subject=str(self.id),
            details={"name": self.name, "issuer": self.issuer, "kind": self.kind} | (details or {}),
        )
        announce(self.tenant_id, "config", f"issuers:{self.id}")


class MemberLink(TenantOwned):
    """Whom an identity provider means: its `sub` is this member. Made at first use, by a verified e-mail address."""

    trusted_issuer = TenantForeignKey(TrustedIssuer, models.CASCADE, related_name="links")
    subject = models.CharField(max_length=255)
    member = TenantForeignKey(Member, models.CASCADE, related_name="links")
    created_at = models.DateTimeField(default=now)
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "trusted_issuer", "subject"], name="one_member_per_subject"),
            # An address that went to somebody else must not bring the old one's access along
            models.UniqueConstraint(fields=["tenant", "trusted_issuer", "member"], name="one_subject_per_member"),
        ]

    def unlink(self, *, by: Member) -> None:
        """Forget whom it meant. The next token with this person's address says it anew."""
        with transaction.atomic():
            record(
                Action.MEMBER_UNLINKED,
                tenant_id=self.tenant_id,
                actor=actor_of(by),
                member_id=self.member_id,
                subject_kind="issuer",
                subject=str(self.trusted_issuer_id),
            )
            self.delete()


class VouchedGrant(TenantOwned):
    """A grant that an identity provider gave in a person's place. It ends with the trust in that provider."""

    trusted_issuer = TenantForeignKey(TrustedIssuer, models.CASCADE, related_name="vouched")
    grant_id = models.UUIDField()  # of `grants.Grant`, which stands above this room
    created_at = models.DateTimeField(default=now)
    withdrawn_at = models.DateTimeField(null=True, blank=True)  # it ended with the trust, nobody else ended it

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "grant_id"], name="one_voucher_per_grant")]
