"""Token exchange (RFC 8693): an agent that was handed another's token goes on under its own grant, as the next actor.

The actor is always the client that proves itself. `sub` stays who it was; the chain in `act` only grows. A token of an
identity provider that the tenant trusts says who the person is and who acted before; it opens nothing by itself.
"""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from agentauth.agents.models import Agent
from agentauth.agents.registering import TOKEN_EXCHANGE
from agentauth.grants.granting import live_grant
from agentauth.grants.models import Grant
from agentauth.oauth.actor import require_may_act, require_own_actor
from agentauth.oauth.authorization_details import where
from agentauth.oauth.errors import InvalidGrant, InvalidRequest, InvalidTarget, UnauthorizedClient
from agentauth.oauth.grants import foreign_subject
from agentauth.oauth.grants.authority import Authority, Delegation
from agentauth.oauth.grants.standing import still_stand
from agentauth.oauth.own_token import agents_of, is_for_agent, read_own_token, strangers_of, tokens_behind
from agentauth.oauth.parameters import Parameters
from agentauth.oauth.target import audience, one_target
from agentauth.oauth.trust.act import DEEPEST
from agentauth.oauth.trust.issuers import is_foreign
from agentauth.resources.models import Resource
from tenants.models import Member

GRANT_TYPE = TOKEN_EXCHANGE
ACCESS_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"
DEEPEST_CHAIN = DEEPEST


def prove(asked: Parameters, client: Agent) -> Authority:
    """Raises InvalidRequest for a token that is not good or not acceptable, InvalidTarget for a place (§2.2.2)."""
    if client.token_endpoint_auth_method == "none":  # §2.1, §5: whoever finds a token must not be able to exchange it
        raise UnauthorizedClient("Token exchange is for clients that prove who they are.", reason="public_client")
    if asked.get("requested_token_type", ACCESS_TOKEN_TYPE) != ACCESS_TOKEN_TYPE:
        raise InvalidRequest("Only access tokens are issued here.", reason="requested_token_type")
    if is_foreign(asked.get("subject_token", ""), client.tenant):
        return foreign_subject.prove(asked, client)
    claims = _subject(asked, client)
    require_own_actor(asked, client, claims["sub"])
    require_may_act(claims, client)
    chain = agents_of(claims)
    if str(client.id) in chain:
        raise InvalidRequest("This agent is in the chain already.", reason="actor_in_chain")
    if len(chain) + len(strangers_of(claims)) >= DEEPEST_CHAIN:
        raise InvalidRequest("The chain of agents is too long.", reason="chain_too_deep")
    resource = one_target(asked, client, claims["aud"])
    grant = _own_grant(client, resource, claims)
    _require_no_fewer_limits(grant, claims)
    details = tuple(claims.get("authorization_details", ()))
    if details and where(details) != audience(client.tenant, resource):
        raise InvalidTarget("The subject_token is for one call, and not there.", reason="details_elsewhere")
    names = set(grant.permissions.exclude(mode="never").values_list("scope__name", flat=True))
    for before in tokens_behind(claims):  # every one of them, or a detour by another resource would widen it again
        if before["aud"] == audience(client.tenant, resource):
            names &= set(before["scope"].split())

    def spend(jti: UUID) -> None:
        """Nothing is used up: the subject token is good until it expires (§2.1)."""

    return Authority(
        grant=grant,
        scope=tuple(sorted(names)),
        spend=spend,
        auth_time=datetime.fromtimestamp(claims["auth_time"], UTC) if "auth_time" in claims else None,
        delegation=Delegation(
            sub=claims["sub"],
            sub_is_agent=is_for_agent(claims),
            act=claims.get("act"),
            via=tokens_behind(claims),
            expires=int(claims["exp"]),
        ),
        authorization_details=details,
        acr=claims.get("acr", ""),
    )


def _subject(asked: Parameters, client: Agent) -> dict[str, Any]:
    """The claims of the subject token: ours, good now, with a live grant behind it."""
    token = asked.require("subject_token")
    if asked.require("subject_token_type") != ACCESS_TOKEN_TYPE:
        raise InvalidRequest("The subject_token must be an access token.", reason="subject_token_type")
    claims = read_own_token(client.tenant, token)
    if claims is None:
        raise InvalidRequest("The subject_token is not good.", reason="subject_token_void")
    if "cnf" in claims:  # its holder would have to prove the key; what is bound is not handed on
        raise InvalidRequest("The subject_token is bound to a key.", reason="subject_token_bound")
    return claims


def _own_grant(client: Agent, resource: Resource, claims: dict[str, Any]) -> Grant:
    """What the same person allowed this very agent there; an admin, where an agent began for itself.

    A token handed on adds nothing to it, only takes away.
    """
    member = None
    if not is_for_agent(claims):
        member = Member.objects.select_related("user").filter(tenant_id=client.tenant_id, pk=claims["sub"]).first()
        if member is None or not member.is_active:
            raise InvalidRequest("The subject_token is not good.", reason="member_inactive")
    grant = live_grant(client, resource, member)
    if grant is None:
        raise InvalidTarget(
            "This agent has been granted nothing there.",
            reason="no_grant_of_actor",
            member_id=member.id if member else None,
        )
    behind = {grant.id, *(UUID(one["grant_id"]) for one in tokens_behind(claims))}
    if not still_stand(client.tenant_id, behind):
        raise InvalidGrant("What was allowed has ended.", reason="grant_ended", grant=grant)
    return grant


def _require_no_fewer_limits(grant: Grant, claims: dict[str, Any]) -> None:
    """At the same resource each limit on an earlier grant must stand on the actor's too, as it is there."""
    before = [one["grant_id"] for one in tokens_behind(claims)]
    for earlier in Grant.objects.filter(tenant_id=grant.tenant_id, pk__in=before, resource_id=grant.resource_id):
        if any(grant.constraints.get(name) != limit for name, limit in earlier.constraints.items()):
            raise InvalidTarget("The grant of this agent has fewer limits.", reason="constraints_grow", grant=grant)
