"""Which of a tenant's trusted issuers a token says it is from, and the token read with that issuer's keys."""

import re
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from agentauth.agents.models import TrustedIssuer
from agentauth.keys.addresses import issuer as our_issuer
from agentauth.oauth.last_use import note_use
from agentauth.oauth.trust import keys
from agentauth.oauth.trust.reading import Accepts, NotGood, claims_of, header_of, is_text, read
from tenants.models import Tenant
from tenants.rls import in_tenant

Kind = TrustedIssuer.Kind
_BROUGHT = {"assertion": Kind.ENTERPRISE, "subject_token": Kind.ENTERPRISE}  # a workload's are read at the door already
_SPIFFE_ID = re.compile(r"(spiffe://[a-z0-9._-]{1,255})/[!-~]{1,1700}\Z")


def kinds_trusted(tenant: Tenant) -> set[str]:
    """Of which kinds this tenant trusts somebody now."""
    with in_tenant(tenant.id):
        now_trusted = TrustedIssuer.objects.filter(tenant=tenant, suspended_at=None, removed_at=None)
        return set(now_trusted.values_list("kind", flat=True))


def is_foreign(token: str, tenant: Tenant) -> bool:
    """Does it name another issuer than us? What cannot be read does not."""
    try:
        found = claims_of(token).get("iss")
    except NotGood:
        return False
    return isinstance(found, str) and found != our_issuer(tenant)


def find_issuer(tenant: Tenant, kind: str, token: str) -> TrustedIssuer:
    """The issuer of this kind that `tenant` trusts now and that the token names; the token itself is not verified yet.

    In the tenant's transaction. Raises NotGood.
    """
    claims = claims_of(token)
    named = claims.get("iss") if kind != Kind.SPIFFE else trust_domain(claims.get("sub"))
    if not is_text(named, longest=500):
        raise NotGood("assertion_issuer", "It does not say who issued it.")
    trusted = TrustedIssuer.objects.filter(tenant=tenant, kind=kind, issuer=named, removed_at=None)
    found = trusted.select_related("created_by").first()
    if found is None:
        raise NotGood("issuer_not_trusted", "This organisation does not trust its issuer.")
    if not found.is_trusted:
        raise NotGood("issuer_suspended", "This organisation does not trust its issuer at the moment.")
    return found


def trust_domain(sub: Any) -> str | None:
    """SPIFFE-ID §2.1: `spiffe://domain/path`; its trust domain, or None."""
    found = _SPIFFE_ID.match(sub) if isinstance(sub, str) else None
    return found[1] if found else None


def learn_foreign_keys(tenant: Tenant, asked: Mapping[str, str]) -> None:
    """Before a grant is proven: have the keys at hand of whoever issued what it brings. Says nothing of its worth."""
    for name, kind in _BROUGHT.items():
        if name in asked and is_foreign(asked[name], tenant):
            with suppress(NotGood):
                with in_tenant(tenant.id):
                    issuer = find_issuer(tenant, kind, asked[name])
                learn_keys(issuer, asked[name])


def learn_keys(issuer: TrustedIssuer, token: str) -> None:
    """Before the transaction that will read it: have the key at hand that this token names."""
    kid = header_of(token).get("kid")
    keys.learn(issuer, kid=kid if isinstance(kid, str) else None)


def read_from(issuer: TrustedIssuer, token: str, accepts: Accepts, *, for_us_only: bool = False) -> dict[str, Any]:
    """The claims of a token of this issuer that is good now. Raises NotGood.

    `aud` is our issuer, or what the tenant wrote down for this one; `for_us_only` takes our issuer alone.
    """
    here = our_issuer(issuer.tenant)
    found = keys.known(issuer)
    if not found:
        raise NotGood("issuer_keys_unavailable", "The keys of its issuer cannot be read.")
    claims = read(
        token,
        accepts=accepts,
        issuer=issuer.issuer,
        audiences=(here,) if for_us_only or not issuer.audience else (issuer.audience,),
        keys=found,
        algorithms=issuer.algorithms,
        now=time.time(),
    )
    note_use(issuer)
    return claims
