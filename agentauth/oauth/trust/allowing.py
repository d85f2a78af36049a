"""What an identity provider allowed an agent in a person's place, as a grant: seen, narrowed and ended like any other.

A person's own word stands above it: their own grant is used as it is, what they narrowed stays narrow, and what they
or an admin ended is not opened again from outside.
"""

from datetime import timedelta

from django.utils.timezone import now

from agentauth.agents.models import RISKS, Agent, TrustedIssuer, VouchedGrant
from agentauth.grants.granting import NotGrantable, give, live_grant, offerable
from agentauth.grants.models import Grant, Permission
from agentauth.oauth.trust.reading import NotGood
from agentauth.resources.models import Resource, Scope
from audit.record import Actor
from tenants.models import Member

Mode = Permission.Mode


def vouched_grant(
    issuer: TrustedIssuer, client: Agent, member: Member, resource: Resource, names: tuple[str, ...] | None
) -> Grant:
    """The live grant for what `issuer` allows: scope names, or None where it set no limit, which means reading.

    In the tenant's transaction. Raises NotGood.
    """
    wanted = _wanted(issuer, client, member, resource, names)
    grant = live_grant(client, resource, member)
    if grant is None or not _holds(grant, issuer, wanted):
        Agent.objects.select_for_update().only("id").get(pk=client.pk)  # who came first has made it meanwhile
        grant = live_grant(client, resource, member)
    if grant is not None and _holds(grant, issuer, wanted):
        return grant
    if grant is None and _was_ended(client, member, resource):
        raise NotGood("grant_revoked", "This was ended here. The person can allow it again in AgentAuth.")
    return _give(issuer, client, member, resource, wanted, before=grant)


def _wanted(
    issuer: TrustedIssuer, client: Agent, member: Member, resource: Resource, names: tuple[str, ...] | None
) -> list[Scope]:
    """Under the agent's ceiling, within the person's rights, and no more than the tenant lets this issuer allow."""
    ceiling = RISKS.index("read" if names is None else issuer.ceiling_risk)
    wanted = [
        scope
        for scope in offerable(client, resource, member)
        if RISKS.index(scope.risk) <= ceiling and (names is None or scope.name in names)
    ]
    if not wanted:
        raise NotGood("nothing_to_allow", "Nothing of what it allows may be allowed to this agent here.")
    return wanted


def _holds(grant: Grant, issuer: TrustedIssuer, wanted: list[Scope]) -> bool:
    """Is it what counts: the person's own, or this issuer's with all that is wanted spoken of in it?"""
    if not VouchedGrant.objects.filter(tenant=grant.tenant_id, trusted_issuer=issuer, grant_id=grant.id).exists():
        return True
    spoken_of = set(grant.permissions.values_list("scope_id", flat=True))
    return {scope.id for scope in wanted} <= spoken_of


def _was_ended(client: Agent, member: Member, resource: Resource) -> bool:
    """Did somebody end the last grant there? One that ended with the trust in its issuer was not meant."""
    grants = Grant.objects.filter(tenant_id=client.tenant_id, agent=client, resource=resource, member=member)
    last = grants.exclude(ended_at=None).order_by("-ended_at").first()
    if last is None or last.end_reason != Grant.EndReason.REVOKED:
        return False
    vouched = VouchedGrant.objects.filter(tenant_id=client.tenant_id, grant_id=last.id)
    return not vouched.exclude(withdrawn_at=None).exists()


def _give(
    issuer: TrustedIssuer,
    client: Agent,
    member: Member,
    resource: Resource,
    wanted: list[Scope],
    *,
    before: Grant | None,
) -> Grant:
    modes = {scope: Mode.ASK if scope.risk == "dangerous" else Mode.ALWAYS for scope in wanted}
    if before is not None:
        may = {scope.id for scope in offerable(client, resource, member)}
        for row in before.permissions.select_related("scope"):
            if row.scope_id in may or row.mode == Mode.NEVER:
                modes[row.scope] = Mode(row.mode)
    try:
        grant = give(
            agent=client,
            resource=resource,
            member=member,
            by=issuer.created_by,
            actor=Actor("issuer", str(issuer.id)),
            permissions=modes,
            expires_at=now() + timedelta(days=issuer.grant_days),
            purpose=f"Allowed by {issuer.name} ({issuer.issuer})",
            constraints=before.constraints if before is not None else None,
        )
    except NotGrantable as why:
        raise NotGood("not_grantable", "This cannot be allowed to this agent here.") from why
    VouchedGrant.objects.create(tenant_id=client.tenant_id, trusted_issuer=issuer, grant_id=grant.id)
    return grant
