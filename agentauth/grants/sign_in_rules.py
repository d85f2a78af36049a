"""What a resource demands of the sign-in behind a call (RFC 9470): set and lifted by an admin, on record."""

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.timezone import now

from agentauth.agents.models import actor_of
from agentauth.grants.models import SignInRule
from agentauth.resources.models import Resource, Risk
from audit.actions import Action
from audit.record import record
from tenants.models import Member
from tenants.notice import announce

SHORTEST, LONGEST = 60, 30 * 24 * 3600  # seconds


def find_rule(resource: Resource) -> SignInRule | None:
    return SignInRule.objects.filter(tenant_id=resource.tenant_id, resource=resource).first()


def demand_sign_in(resource: Resource, *, from_risk: str, acr: str, max_age: int | None, by: Member) -> None:
    """From the next call on. Raises ValidationError by field."""
    wrong = {}
    if from_risk not in Risk.values:
        wrong["from_risk"] = "Choose read, change or dangerous."
    if acr not in SignInRule.Level.values:
        wrong["acr"] = f"Choose one of {', '.join(SignInRule.Level.values)}."
    if max_age is not None and not SHORTEST <= max_age <= LONGEST:
        wrong["max_age"] = f"Between {SHORTEST} seconds and 30 days."
    if wrong:
        raise ValidationError(wrong)
    with transaction.atomic():
        fields = {"from_risk": from_risk, "acr": acr, "max_age": max_age, "set_by": by, "set_at": now()}
        SignInRule.objects.update_or_create(tenant_id=resource.tenant_id, resource=resource, defaults=fields)
        _record(resource, by, {"from_risk": from_risk, "acr": acr, "max_age": max_age})


def lift_demand(resource: Resource, *, by: Member) -> None:
    """Any sign-in will do again, however old."""
    with transaction.atomic():
        if SignInRule.objects.filter(tenant_id=resource.tenant_id, resource=resource).delete()[0]:
            _record(resource, by, None)


def _record(resource: Resource, by: Member, rule: dict[str, str | int | None] | None) -> None:
    record(
        Action.RESOURCE_CHANGED,
        tenant_id=resource.tenant_id,
        actor=actor_of(by),
        resource_id=resource.id,
        subject_kind="resource",
        subject=str(resource.id),
        details={"sign_in": rule},
    )
    announce(resource.tenant_id, "config", f"resources:{resource.id}")
