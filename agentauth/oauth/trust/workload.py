"""Workload identity: an agent proves itself with the token of where it runs (GitHub Actions, Kubernetes, SPIFFE).

Such a token may be shown again until it expires: a cluster hands one out for an hour, and who holds it holds the place
where the agent runs. So it has no `jti` to spend; what it lets in is narrow (claim rules), and each use is on record.
"""

from typing import Any

from django.db.models import Q
from django.utils.timezone import now

from agentauth.agents.claim_rules import matches
from agentauth.agents.models import Agent, Credential, TrustedIssuer
from agentauth.oauth.last_use import note_use
from agentauth.oauth.trust.issuers import find_issuer, learn_keys, read_from
from agentauth.oauth.trust.reading import SPIFFE, WORKLOAD, NotGood, claims_of, type_of
from tenants.models import Tenant
from tenants.rls import in_tenant


def agent_of(tenant: Tenant, token: str, *, client_id: str = "", kind: str = TrustedIssuer.Kind.WORKLOAD) -> Agent:
    """The one agent, active or not, whose workload this token is. Raises NotGood.

    Asks the issuer for its keys, so call it outside a transaction.
    Without `client_id` the rules must single out exactly one agent; with it they must let that one in.
    """
    with in_tenant(tenant.id):
        issuer = find_issuer(tenant, kind, token)
    learn_keys(issuer, token)
    with in_tenant(tenant.id):
        claims = read_from(issuer, token, SPIFFE if kind == TrustedIssuer.Kind.SPIFFE else WORKLOAD)
        return _let_in(issuer, claims, client_id)


def require_same(client: Agent, token: str) -> dict[str, Any]:
    """The claims, if this token lets `client` in. In the tenant's transaction; asks nobody. Raises NotGood."""
    issuer = find_issuer(client.tenant, TrustedIssuer.Kind.WORKLOAD, token)
    claims = read_from(issuer, token, WORKLOAD)
    if _let_in(issuer, claims, client.client_id).id != client.id:
        raise NotGood("workload_of_another", "This token is of another agent's workload.")
    return claims


def is_of_platform(assertion: str) -> bool:
    """Is a `client_assertion` by where the client runs, not by itself (then `iss` is `sub`)? Going by its claims."""
    try:
        claims = claims_of(assertion)
    except NotGood:
        return False
    named = claims.get("iss")
    return isinstance(named, str) and "://" in named and named != claims.get("sub")


def is_workload_token(token: str) -> bool:
    """Does it look like one, going by `typ`? An ID-JAG does not."""
    try:
        return type_of(token) in WORKLOAD.types
    except NotGood:
        return False


def _let_in(issuer: TrustedIssuer, claims: dict[str, Any], client_id: str) -> Agent:
    if "cnf" in claims:  # RFC 7800: it counts only beside a proof of that key, and none is read with it
        raise NotGood("assertion_limits", "It is bound to a key, and no proof of that key is read here.")
    alive = Q(expires_at=None) | Q(expires_at__gt=now())
    rules = Credential.objects.filter(
        alive, tenant=issuer.tenant_id, kind=Credential.Kind.WORKLOAD, trusted_issuer=issuer, retired_at=None
    ).exclude(agent__state=Agent.State.RETIRED)
    if client_id:
        rules = rules.filter(agent__client_id=client_id)
    let_in = [one for one in rules.select_related("agent") if matches(one.claim_rules, claims)]
    agents = {one.agent_id for one in let_in}
    if not agents:
        raise NotGood("workload_unknown", "No rule of an agent lets this workload in.")
    if len(agents) > 1:
        raise NotGood("workload_ambiguous", "This workload is let in as more than one agent. Send client_id.")
    note_use(let_in[0])
    agent: Agent = let_in[0].agent
    return agent
