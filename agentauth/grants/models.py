"""Grant, what it covers, and approvals of single calls."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import models, transaction
from django.utils.timezone import now

from agentauth.agents.models import Agent, WrongState, actor_of
from agentauth.resources.models import Resource, Risk, Scope
from audit.actions import Action
from audit.record import Actor, record
from tenants.models import Member, Revocation
from tenants.notice import announce
from tenants.revocation import Ended, live_tokens, revoke
from tenants.rls import TenantForeignKey, TenantOwned


class Grant(TenantOwned):
    """What `member` allowed `agent` at `resource`. Without a member: what an admin allowed it to do for itself."""

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
    purpose = models.CharField(max_length=200, blank=True, default="")  # in the agent's or the person's words
    constraints = models.JSONField(default=dict, blank=True)
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    ended_by = TenantForeignKey(Member, models.PROTECT, related_name="+", null=True)
    end_reason = models.CharField(max_length=20, choices=EndReason.choices, blank=True, default="")
    last_used_at = models.DateTimeField(null=True, blank=True)

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

    def revoke(self, *, by: Member) -> Ended:
        """End this grant at once: its tokens are void, its open streams end, nothing else is touched."""
        with transaction.atomic():
            self._require_open()
            return self.end(self.EndReason.REVOKED, Action.GRANT_REVOKED, actor=actor_of(by), by=by)

    def replace(self, *, by: Member) -> Ended:
        """Make room for the grant that takes this one's place; its tokens were for another agreement."""
        return self.end(self.EndReason.REPLACED, Action.GRANT_REVOKED, actor=actor_of(by), by=by)

    def expire(self, *, by: Actor) -> Ended:
        """Tidy what counted for nothing already."""
        return self.end(self.EndReason.EXPIRED, Action.GRANT_EXPIRED, actor=by, by=None)

    def end(self, reason: "Grant.EndReason", action: Action, *, actor: Actor, by: Member | None) -> Ended:
        """The one way in which a grant ends. In a transaction that holds its row."""
        tokens = live_tokens(self.tenant_id, grant_id=self.id)
        self.ended_at, self.ended_by, self.end_reason = now(), by, reason
        self.save(update_fields=["ended_at", "ended_by", "end_reason"])
        at = revoke(self.tenant_id, Revocation.Kind.GRANT, self.id)
        self._record(action, actor, {"reason": reason.value, "tokens_ended": tokens})
        return Ended(grants=1, tokens=tokens, at=at)

    def narrow(
        self, *, by: Member, permissions: Mapping[Scope, str] | None = None, expires_at: datetime | None = None
    ) -> None:
        """Allow less, or for a shorter time. What is not named stays; more is a new grant. Raises WrongState."""
        with transaction.atomic():
            self._require_open()
            changed: dict[str, Any] = {}
            if expires_at is not None and expires_at != self.expires_at:
                if not now() < expires_at < self.expires_at:
                    raise WrongState("Choose an end between now and the one this grant has.")
                self.expires_at = expires_at
                self.save(update_fields=["expires_at"])
                changed["expires"] = expires_at.isoformat()
            for scope, mode in (permissions or {}).items():
                row = self.permissions.filter(scope=scope).first()
                if row is None or row.mode == mode:
                    continue
                if _FREEDOM[mode] > _FREEDOM[row.mode]:
                    raise WrongState(f"“{scope.words}” can only be narrowed here. To allow more, give a new grant.")
                row.mode = mode
                row.save(update_fields=["mode"])
                changed[scope.name] = mode
            if changed:
                self._record(Action.GRANT_NARROWED, actor_of(by), {"changed": changed})
                announce(self.tenant_id, "config", f"grants:{self.id}")

    def _require_open(self) -> None:
        self.ended_at = Grant.objects.select_for_update().values_list("ended_at", flat=True).get(pk=self.pk)
        if self.ended_at is not None:
            raise WrongState("This grant has ended already.")

    def _record(self, action: Action, actor: Actor, details: dict[str, Any]) -> None:
        record(
            action,
            tenant_id=self.tenant_id,
            actor=actor,
            agent_id=self.agent_id,
            member_id=self.member_id,
            grant_id=self.id,
            resource_id=self.resource_id,
            subject_kind="grant",
            subject=str(self.id),
            details=details,
        )


_FREEDOM = {"never": 0, "ask": 1, "always": 2}


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
        constraints = [models.UniqueConstraint(fields=["tenant", "grant", "scope"], name="one_permission_per_scope")]


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
    args = models.JSONField(default=dict, blank=True)  # what the person reads; hostile text
    args_hash = models.CharField(max_length=64)
    state = models.CharField(max_length=10, choices=State.choices, default=State.PENDING)
    asked_at = models.DateTimeField(default=now)
    expires_at = models.DateTimeField()
    answered_at = models.DateTimeField(null=True, blank=True)
    answered_by = TenantForeignKey(Member, models.PROTECT, related_name="+", null=True)
    reason = models.CharField(max_length=200, blank=True, default="")

    class Meta:
        indexes = [models.Index(fields=["tenant", "grant", "args_hash", "state"])]

    @property
    def is_open(self) -> bool:
        return self.state == self.State.PENDING and self.expires_at > now()

    def give(self, *, by: Member) -> None:
        """Allow this one call, once, with exactly these arguments, until it expires."""
        self._answer(self.State.GIVEN, Action.APPROVAL_GIVEN, by, "")

    def refuse(self, *, by: Member, reason: str = "") -> None:
        self._answer(self.State.REFUSED, Action.APPROVAL_REFUSED, by, reason)

    def _answer(self, state: "Approval.State", action: Action, by: Member, reason: str) -> None:
        with transaction.atomic():
            now_is = Approval.objects.select_for_update().values_list("state", flat=True).get(pk=self.pk)
            if now_is != self.State.PENDING or self.expires_at <= now():
                raise WrongState("This question has been answered or has run out.")
            if by.id != self.grant.member_id:
                raise WrongState("Only the person this agent acts for can answer.")
            self.state, self.answered_at, self.answered_by, self.reason = state, now(), by, reason[:200]
            self.save(update_fields=["state", "answered_at", "answered_by", "reason"])
            record(
                action,
                tenant_id=self.tenant_id,
                actor=actor_of(by),
                agent_id=self.grant.agent_id,
                member_id=by.id,
                grant_id=self.grant_id,
                resource_id=self.grant.resource_id,
                operation=self.operation,
                subject_kind="approval",
                subject=str(self.id),
                args_hash=self.args_hash,
                details={"reason": self.reason} if self.reason else None,
            )


class SignInRule(TenantOwned):
    """How well the person behind an agent must have signed in before riskier calls pass at a resource (RFC 9470)."""

    class Level(models.TextChoices):  # the words of `acr`, weakest first
        ONE = "1fa", "Any sign-in"
        TWO = "2fa", "A second factor or a passkey"
        PASSKEY = "phr", "A passkey or security key"

    resource = TenantForeignKey(Resource, models.CASCADE, related_name="sign_in_rules")
    from_risk = models.CharField(max_length=10, choices=Risk.choices, default=Risk.DANGEROUS)  # this class and above
    acr = models.CharField(max_length=10, choices=Level.choices, default=Level.ONE)
    max_age = models.PositiveIntegerField(null=True, blank=True)  # seconds since the person signed in
    set_by = TenantForeignKey(Member, models.PROTECT, related_name="+")
    set_at = models.DateTimeField(default=now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "resource"], name="one_sign_in_rule_each")]

    @property
    def age_words(self) -> str:
        """How old the sign-in may be, in the largest unit that says it exactly; empty for any age."""
        units = (("hour", 3600), ("minute", 60), ("second", 1))
        for name, seconds in units if self.max_age else ():
            count, rest = divmod(self.max_age or 0, seconds)
            if not rest:
                return f"{count} {name}{'' if count == 1 else 's'}"
        return ""
