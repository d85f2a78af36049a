"""Token exchange (RFC 8693): an agent that was handed another's token goes on under its own grant, as the next actor.

The actor is always the client that proves itself. `sub` stays who it was; the chain in `act` only grows.
"""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db import connection

from agentauth.agents.models import Agent
from agentauth.agents.registering import TOKEN_EXCHANGE
from agentauth.grants.granting import live_grant
from agentauth.grants.models import Grant
from agentauth.oauth.authorization_details import where
from agentauth.oauth.errors import InvalidGrant, InvalidRequest, InvalidTarget, UnauthorizedClient
from agentauth.oauth.grants.authority import Authority, Delegation
from agentauth.oauth.own_token import agents_of, is_for_agent, read_own_token, tokens_behind
from agentauth.oauth.parameters import Parameters
from agentauth.oauth.target import audience, named
from agentauth.resources.models import Resource
from tenants.models import Member

GRANT_TYPE = TOKEN_EXCHANGE
ACCESS_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"
DEEPEST_CHAIN = 5

# FOR SHARE: whoever ends one of these waits for our commit, so its revocation is not before our token (§7: narrowing).
# The ORM has no such lock, and an exclusive one would make exchanges under one grant wait for each other.
_STAND = (
    "SELECT id FROM grants_grant WHERE tenant_id = %s AND id = ANY(%s) AND ended_at IS NULL AND expires_at > now()"
    " ORDER BY id FOR SHARE"
)


def prove(asked: Parameters, client: Agent) -> Authority:
    """Raises InvalidRequest for a token that is not good or not acceptable, InvalidTarget for a place (§2.2.2)."""
    if client.token_endpoint_auth_method == "none":  # §2.1, §5: whoever finds a token must not be able to exchange it
        raise UnauthorizedClient("Token exchange is for clients that prove who they are.", reason="public_client")
    if asked.get("requested_token_type", ACCESS_TOKEN_TYPE) != ACCESS_TOKEN_TYPE:
        raise InvalidRequest("Only access tokens are issued here.", reason="requested_token_type")
    claims = _subject(asked, client)
    _require_own(asked, client, claims)
    chain = agents_of(claims)
    if str(client.id) in chain:
        raise InvalidRequest("This agent is in the chain already.", reason="actor_in_chain")
    if len(chain) >= DEEPEST_CHAIN:
        raise InvalidRequest("The chain of agents is too long.", reason="chain_too_deep")
    resource = _target(asked, client, claims)
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


def _require_own(asked: Parameters, client: Agent, subject: dict[str, Any]) -> None:
    """An actor token says nothing new: it must be this very client's, for itself or for the same person (§2.1)."""
    if ("actor_token" in asked) != ("actor_token_type" in asked):
        raise InvalidRequest("actor_token and actor_token_type go together.", reason="actor_token_type")
    if "actor_token" not in asked:
        return
    if asked["actor_token_type"] != ACCESS_TOKEN_TYPE:
        raise InvalidRequest("The actor_token must be an access token.", reason="actor_token_type")
    claims = read_own_token(client.tenant, asked["actor_token"])
    if claims is None or "cnf" in claims:
        raise InvalidRequest("The actor_token is not good.", reason="actor_token_void")
    if claims["client_id"] != client.client_id or agents_of(claims)[0] != str(client.id):
        raise InvalidRequest("The actor_token is of another client.", reason="rogue_actor")
    if claims["sub"] not in (str(client.id), subject["sub"]):
        raise InvalidRequest("The actor_token is for somebody else.", reason="rogue_actor")


def _target(asked: Parameters, client: Agent, claims: dict[str, Any]) -> Resource:
    """`resource`, or `audience` with the same URL; without either, where the subject token is for."""
    wanted = {*asked.resources, *asked.audiences}
    if len(wanted) > 1:
        raise InvalidTarget("Ask for one resource at a time.")
    return named(client.tenant, wanted.pop() if wanted else claims["aud"])


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
    with connection.cursor() as cursor:
        cursor.execute(_STAND, [client.tenant_id, list(behind)])
        if len(cursor.fetchall()) != len(behind):
            raise InvalidGrant("What was allowed has ended.", reason="grant_ended", grant=grant)
    return grant


def _require_no_fewer_limits(grant: Grant, claims: dict[str, Any]) -> None:
    """At the same resource each limit on an earlier grant must stand on the actor's too, as it is there."""
    before = [one["grant_id"] for one in tokens_behind(claims)]
    for earlier in Grant.objects.filter(tenant_id=grant.tenant_id, pk__in=before, resource_id=grant.resource_id):
        if any(grant.constraints.get(name) != limit for name, limit in earlier.constraints.items()):
            raise InvalidTarget("The grant of this agent has fewer limits.", reason="constraints_grow", grant=grant)
