"""What an agent learns about its person besides who they are: asked about once, told at `userinfo`."""

from uuid import UUID

from agentauth.agents.models import Agent, actor_of
from agentauth.oauth.authorization_request import AuthorizationRequest
from agentauth.oauth.models import Disclosure
from audit.actions import Action
from audit.record import record
from tenants.models import Member

_PERSONAL = frozenset({"profile", "email"})  # OpenID Connect Core §5.4


def personal(asked: AuthorizationRequest) -> set[str]:
    """What of that is asked for; it means nothing without `openid`."""
    return set(asked.protocol_scope) & _PERSONAL if "openid" in asked.protocol_scope else set()


def disclosed(client: Agent, member_id: UUID) -> set[str]:
    """What this person has let this agent learn. In the tenant's transaction."""
    rows = Disclosure.objects.filter(tenant_id=client.tenant_id, agent=client, member_id=member_id)
    return set(rows.values_list("scope", flat=True))


def disclose(asked: AuthorizationRequest, client: Agent, member: Member) -> None:
    """The person has said yes to it; what is new is on record. In the tenant's transaction."""
    new = sorted(personal(asked) - disclosed(client, member.id))
    if not new:
        return
    rows = [Disclosure(tenant_id=client.tenant_id, agent=client, member=member, scope=name) for name in new]
    Disclosure.objects.bulk_create(rows, ignore_conflicts=True)
    record(
        Action.MEMBER_DISCLOSED,
        tenant_id=client.tenant_id,
        actor=actor_of(member),
        agent_id=client.id,
        member_id=member.id,
        details={"scope": " ".join(new)},
    )
