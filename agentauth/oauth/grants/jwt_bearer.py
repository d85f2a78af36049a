"""The JWT bearer grant (RFC 7523 §2.1): a token of an issuer that this tenant trusts, in exchange for one of ours.

Two profiles, told apart by `typ`. An ID-JAG (draft-ietf-oauth-identity-assertion-authz-grant; MCP enterprise-managed
authorization): the organisation's identity provider allows an agent something in a person's place. A workload's token:
an agent proves itself by where it runs, and acts for itself.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from agentauth.agents.models import Agent, TrustedIssuer
from agentauth.agents.registering import JWT_BEARER
from agentauth.keys.addresses import issuer as our_issuer
from agentauth.oauth.errors import InvalidGrant, InvalidTarget, UnauthorizedClient
from agentauth.oauth.grants import client_credentials
from agentauth.oauth.grants.authority import Authority, Delegation
from agentauth.oauth.grants.standing import still_stand
from agentauth.oauth.parameters import Parameters
from agentauth.oauth.spent import spend_once
from agentauth.oauth.target import named
from agentauth.oauth.trust import workload
from agentauth.oauth.trust.act import DEEPEST, actors_before, depth
from agentauth.oauth.trust.allowing import vouched_grant
from agentauth.oauth.trust.issuers import find_issuer, read_from
from agentauth.oauth.trust.person import member_of
from agentauth.oauth.trust.reading import ID_JAG, LEEWAY, WORKLOAD, NotGood, is_text, scope_of, text, type_of
from agentauth.resources.models import Resource

GRANT_TYPE = JWT_BEARER
GRANT_PROFILE = "urn:ietf:params:oauth:grant-profile:id-jag"  # `authorization_grant_profiles_supported`
KIND = TrustedIssuer.Kind.ENTERPRISE


def prove(asked: Parameters, client: Agent) -> Authority:
    """Raises InvalidGrant for an assertion that is not good (RFC 7523 §3.1)."""
    assertion = asked.require("assertion")
    try:
        typ = type_of(assertion)
        if typ in ID_JAG.types:
            return _for_a_person(asked, client, assertion)
        if typ in WORKLOAD.types:
            return _for_itself(asked, client, assertion)
        raise NotGood("assertion_type", "This is a token of another type.")
    except NotGood as why:
        raise InvalidGrant(str(why), reason=why.reason) from None


def _for_itself(asked: Parameters, client: Agent, assertion: str) -> Authority:
    """A workload: what an admin granted this agent for itself, as with client credentials."""
    claims = workload.require_same(client, assertion)
    authority = client_credentials.prove(asked, client)
    said = {name: claims[name] for name in ("sub", "jti") if isinstance(claims.get(name), str)}
    return replace(authority, vouched_by={"issuer": claims["iss"]} | said)


def _for_a_person(asked: Parameters, client: Agent, assertion: str) -> Authority:
    """An ID-JAG: what the identity provider allowed this client for its subject, under a grant that all can see."""
    if client.token_endpoint_auth_method == "none":  # §9.1: whoever finds one must not be able to use it
        raise UnauthorizedClient("This grant is for clients that prove who they are.", reason="public_client")
    issuer = find_issuer(client.tenant, KIND, assertion)
    claims = read_from(issuer, assertion, ID_JAG, for_us_only=True)
    jti = text(claims, "jti")
    if claims.get("client_id") != client.client_id:  # §4.4.1: MUST be the client that authenticated
        raise NotGood("assertion_client", "client_id is not the client that authenticated.")
    if claims.get("aud_tenant", client.tenant.slug) != client.tenant.slug:
        raise NotGood("assertion_tenant", "aud_tenant names another organisation.")
    if "authorization_details" in claims:  # what we do not read would be lost, and that widens
        raise NotGood("assertion_limits", "It holds limits that are not read here.")
    bound_to = _key(claims)
    resource = _resource(asked, client, claims)
    names = scope_of(claims)
    member = member_of(issuer, claims)
    grant = vouched_grant(issuer, client, member, resource, names)
    if not still_stand(client.tenant_id, [grant.id]):
        raise NotGood("grant_ended", "What was allowed has ended.")
    allowed = set(grant.permissions.exclude(mode="never").values_list("scope__name", flat=True))
    if names is None:
        names = tuple(grant.permissions.filter(scope__risk="read").values_list("scope__name", flat=True))

    return Authority(
        grant=grant,
        scope=tuple(name for name in names if name in allowed),
        spend=_once(issuer, jti, claims["exp"]),
        auth_time=datetime.fromtimestamp(claims["auth_time"], UTC) if _is_past(claims.get("auth_time")) else None,
        delegation=_actors(issuer, claims, str(member.id)),
        bound_to=bound_to,
        vouched_by={"issuer": issuer.issuer, "jti": jti},
        gives_part=True,  # a client repeats what the provider allowed it, of which the tenant may let it allow less
    )


def _once(issuer: TrustedIssuer, jti: str, expires: float) -> Callable[[UUID], None]:
    """An ID-JAG counts once (enterprise-managed authorization: replay MUST be refused until `exp`)."""
    mark = hashlib.sha256(f"{issuer.id}\0{jti}".encode()).digest()

    def spend(_: UUID) -> None:
        if not spend_once(issuer.tenant_id, "id_jag", mark, datetime.fromtimestamp(expires + LEEWAY, UTC)):
            raise InvalidGrant("This assertion was used before.", reason="assertion_replayed")

    return spend


def _key(claims: dict[str, Any]) -> str:
    """The only key that may redeem it (§9.9.1); empty if any may. Another way of binding it would be lost."""
    bound = claims.get("cnf", {})
    if "cnf" in claims and not (isinstance(bound, dict) and set(bound) == {"jkt"} and is_text(bound["jkt"])):
        raise NotGood("assertion_limits", "It is bound in a way that is not read here.")
    return str(bound.get("jkt", ""))


def _resource(asked: Parameters, client: Agent, claims: dict[str, Any]) -> Resource:
    """The one resource that the assertion is for; of several, the one that the client names. Never another."""
    said = claims.get("resource")
    able = [one for one in (said if isinstance(said, list) else [said]) if isinstance(one, str)]
    if not able:
        raise NotGood("assertion_resource", "resource must name what the token is for.")
    wanted = asked.resource or (able[0] if len(able) == 1 else "")
    if wanted not in able:
        raise InvalidTarget("Name one of the resources that the assertion is for.", reason="other_resource")
    try:
        return named(client.tenant, wanted)
    except InvalidTarget:
        raise NotGood("unknown_resource", "There is no such resource as the assertion names.") from None


def _actors(issuer: TrustedIssuer, claims: dict[str, Any], sub: str) -> Delegation | None:
    """Who acted before, if the identity provider says so: they stay in the chain."""
    before = actors_before(
        claims.get("act"),
        issuer=issuer.issuer,
        ours=our_issuer(issuer.tenant),
        reversed_order=issuer.act_order == issuer.ActOrder.REVERSED,
    )
    if depth(before) >= DEEPEST:
        raise NotGood("chain_too_deep", "The chain of actors is too long.")
    return Delegation(sub=sub, sub_is_agent=False, act=before, via=[]) if before else None


def _is_past(at: Any) -> bool:
    return isinstance(at, int) and not isinstance(at, bool) and 0 < at <= time.time() + LEEWAY
