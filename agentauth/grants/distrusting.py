"""When the trust in an issuer ends: what it had allowed ends with it, and tokens that it got are void."""

from django.db import transaction
from django.utils.timezone import now

from agentauth.agents.models import Credential, TrustedIssuer, VouchedGrant, actor_of
from agentauth.grants.models import Grant
from audit.actions import Action
from tenants.models import Member, Revocation
from tenants.revocation import Ended, lift, live_tokens, revoke


def suspend_issuer(issuer: TrustedIssuer, *, by: Member) -> Ended:
    """Nothing that it says counts until it is let back. Grants that people gave themselves stay. Raises WrongState."""
    with transaction.atomic():
        ended = _end(issuer, by)
        at = issuer.suspend(by=by, ended=_counts(ended))
        return Ended(grants=ended.grants, tokens=ended.tokens, at=at)


def remove_issuer(issuer: TrustedIssuer, *, by: Member) -> Ended:
    """For good; workload identities of it count for nothing. Raises WrongState."""
    with transaction.atomic():
        ended = _end(issuer, by)
        at = issuer.remove(by=by, ended=_counts(ended))
        live = Credential.objects.filter(tenant=issuer.tenant_id, trusted_issuer=issuer, retired_at=None)
        for credential in live:
            credential.retire(by=by)
        return Ended(grants=ended.grants, tokens=ended.tokens, at=at)


def _counts(ended: Ended) -> dict[str, int]:
    return {"grants_ended": ended.grants, "tokens_ended": ended.tokens}


def _end(issuer: TrustedIssuer, by: Member) -> Ended:
    grants = tokens = 0
    vouched = VouchedGrant.objects.filter(tenant=issuer.tenant_id, trusted_issuer=issuer, withdrawn_at=None)
    ids = list(vouched.values_list("grant_id", flat=True))
    for grant in Grant.objects.select_for_update().filter(tenant=issuer.tenant_id, id__in=ids, ended_at=None):
        ended = grant.end(Grant.EndReason.REVOKED, Action.GRANT_REVOKED, actor=actor_of(by), by=by)
        vouched.filter(grant_id=grant.id).update(withdrawn_at=now())
        grants, tokens = grants + ended.grants, tokens + ended.tokens
    # A token does not say by which credential it was had, so all of such an agent's are void; it asks for new ones
    agents = Credential.objects.filter(tenant=issuer.tenant_id, trusted_issuer=issuer, retired_at=None)
    for agent_id in set(agents.values_list("agent_id", flat=True)):
        tokens += live_tokens(issuer.tenant_id, agent_id=agent_id)
        already = Revocation.objects.filter(
            tenant=issuer.tenant_id, kind=Revocation.Kind.AGENT, subject=str(agent_id), lifted_at=None
        )
        if not already.exists():
            revoke(issuer.tenant_id, Revocation.Kind.AGENT, agent_id)
            lift(issuer.tenant_id, Revocation.Kind.AGENT, agent_id)
    return Ended(grants=grants, tokens=tokens, at=now())
