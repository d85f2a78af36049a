"""Founding a tenant completely: organisation, owner, signing key, and AgentAuth's own API as its first resource."""

from django.db import transaction
from django.utils.timezone import now

from agentauth.keys import ring
from agentauth.keys.addresses import management_url
from agentauth.keys.signing import create_key
from agentauth.resources.models import Resource, Risk, Scope
from audit.actions import Action
from audit.record import Actor, record
from tenants.founding import open_tenant
from tenants.models import Member, Tenant

MANAGEMENT_SLUG = "agentauth"
MANAGEMENT_SCOPES = {
    "agents:read": ("See agents", Risk.READ),
    "agents:write": ("Register, change and stop agents", Risk.DANGEROUS),
    "resources:read": ("See resources", Risk.READ),
    "resources:write": ("Register and change resources", Risk.DANGEROUS),
    "grants:read": ("See grants", Risk.READ),
    "grants:write": ("Give and end grants", Risk.DANGEROUS),
    "keys:read": ("See signing keys", Risk.READ),
    "keys:write": ("Make and withdraw signing keys", Risk.DANGEROUS),
    "events:read": ("Search the record", Risk.READ),
    "exports:read": ("See evidence exports", Risk.READ),
    "exports:write": ("Export evidence", Risk.CHANGE),
}


def found_tenant(*, slug: str, name: str, owner_email: str, owner_name: str, actor: Actor) -> tuple[Tenant, Member]:
    """A tenant that can issue tokens. Raises ValidationError on a bad or taken slug."""
    with transaction.atomic():
        if not Tenant.objects.exists():
            ring.make()  # the first of all; afterwards a ring that is not there was lost
        tenant, owner = open_tenant(slug=slug, name=name, owner_email=owner_email, owner_name=owner_name, actor=actor)
        create_key(tenant.id, by=actor)
        _register_management(tenant, actor)
        return tenant, owner


def _register_management(tenant: Tenant, actor: Actor) -> None:
    resource = Resource.objects.create(
        tenant=tenant,
        slug=MANAGEMENT_SLUG,
        name="AgentAuth",
        description="This organisation's agents, resources, grants, record and exports.",
        kind=Resource.Kind.MANAGEMENT,
        state=Resource.State.PUBLISHED,
        published_at=now(),
        upstream_url=management_url(tenant.slug),
        source="built in",
    )
    for name, (words, risk) in MANAGEMENT_SCOPES.items():
        Scope.objects.create(tenant=tenant, resource=resource, name=name, words=words, risk=risk)
    record(
        Action.RESOURCE_REGISTERED,
        tenant_id=tenant.id,
        actor=actor,
        resource_id=resource.id,
        subject_kind="resource",
        subject=str(resource.id),
        details={"slug": resource.slug, "kind": resource.kind},
    )
