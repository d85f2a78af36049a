"""Token exchange where the subject token is of an identity provider that the tenant trusts (RFC 8693 §2.1).

It says who the person is and who acted before. What this agent may do is only in the grant that the person gave it.
"""

import time
from collections.abc import Collection
from typing import Any
from uuid import UUID

from agentauth.agents.models import Agent, TrustedIssuer
from agentauth.grants.granting import live_grant
from agentauth.keys.addresses import issuer as our_issuer
from agentauth.oauth.actor import require_may_act, require_own_actor
from agentauth.oauth.authorization_request import PROTOCOL_SCOPES
from agentauth.oauth.errors import InvalidGrant, InvalidRequest, InvalidTarget
from agentauth.oauth.grants.authority import Authority, Delegation
from agentauth.oauth.grants.standing import still_stand
from agentauth.oauth.parameters import Parameters
from agentauth.oauth.target import one_target
from agentauth.oauth.trust.act import DEEPEST, actors_before, depth
from agentauth.oauth.trust.issuers import find_issuer, read_from
from agentauth.oauth.trust.person import member_of
from agentauth.oauth.trust.reading import SUBJECT, NotGood, scope_of, type_of

_TYPES = {  # §3, and the values of `typ` that each may have
    "urn:ietf:params:oauth:token-type:access_token": ("at+jwt", "jwt", ""),
    "urn:ietf:params:oauth:token-type:id_token": ("jwt", ""),
    "urn:ietf:params:oauth:token-type:jwt": ("at+jwt", "jwt", ""),
}


def prove(asked: Parameters, client: Agent) -> Authority:
    """Raises InvalidRequest for a token that is not good or not acceptable, InvalidTarget for a place (§2.2.2)."""
    try:
        issuer, claims = _read(asked, client)
        limit = scope_of(claims)
        member = member_of(issuer, claims)
        before = actors_before(
            claims.get("act"),
            issuer=issuer.issuer,
            ours=our_issuer(client.tenant),
            reversed_order=issuer.act_order == issuer.ActOrder.REVERSED,
        )
    except NotGood as why:
        raise InvalidRequest(f"The subject_token is not good. {why}", reason=why.reason) from None
    if depth(before) >= DEEPEST:
        raise InvalidRequest("The chain of actors is too long.", reason="chain_too_deep")
    require_own_actor(asked, client, str(member.id))
    require_may_act(claims, client)
    if not asked.resources and not asked.audiences:
        raise InvalidTarget("Name the resource that the token is for.", reason="resource_missing")
    resource = one_target(asked, client, "")
    grant = live_grant(client, resource, member)
    if grant is None:
        raise InvalidTarget(
            "This agent has been granted nothing there.", reason="no_grant_of_actor", member_id=member.id
        )
    if not still_stand(client.tenant_id, [grant.id]):
        raise InvalidGrant("What was allowed has ended.", reason="grant_ended", grant=grant)
    names = set(grant.permissions.exclude(mode="never").values_list("scope__name", flat=True))
    said = {name: claims[name] for name in ("jti",) if isinstance(claims.get(name), str)}
    return Authority(
        grant=grant,
        scope=tuple(sorted(_within(limit, names))),
        spend=_nothing,
        delegation=Delegation(sub=str(member.id), sub_is_agent=False, act=before, via=[], expires=int(claims["exp"])),
        vouched_by={"issuer": issuer.issuer} | said,
    )


def _read(asked: Parameters, client: Agent) -> tuple[TrustedIssuer, dict[str, Any]]:
    token, kind = asked.require("subject_token"), asked.require("subject_token_type")
    if kind not in _TYPES:
        raise InvalidRequest("This subject_token_type is not taken.", reason="subject_token_type")
    issuer = find_issuer(client.tenant, TrustedIssuer.Kind.ENTERPRISE, token)
    if issuer.act_order == issuer.ActOrder.REFUSED:
        raise NotGood("issuer_not_exchanged", "Tokens of its issuer are not exchanged here.")
    if type_of(token) not in _TYPES[kind]:
        raise NotGood("assertion_type", "It is a token of another type.")
    claims = read_from(issuer, token, SUBJECT)
    if "cnf" in claims or "authorization_details" in claims:  # what we cannot keep to would be lost, and that widens
        raise NotGood("subject_token_bound", "It is bound to more than is read here.")
    if claims["exp"] <= time.time():  # what comes of it ends with it: clocks that differ help nobody here
        raise NotGood("assertion_expired", "It has expired.")
    return issuer, claims


def _within(limit: Collection[str] | None, granted: set[str]) -> set[str]:
    """Less than the grant, where the token speaks of our permissions; a mere sign-in says nothing about them."""
    names = set(limit or ()) - set(PROTOCOL_SCOPES)
    return granted & names if names else granted


def _nothing(jti: UUID) -> None:
    """Nothing is used up: the subject token is good until it expires (§2.1)."""
