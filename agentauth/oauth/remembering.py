"""What of an answer that the ordinary way just gave may be said again: read off the answer, its event and the rows.

Whatever is not wholly of a kind that `lane.py` can make is not remembered.
"""

import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import jwt
import orjson
from django.conf import settings

from agentauth.agents.models import Agent, Credential
from agentauth.grants.models import Grant
from agentauth.keys.signing import signer
from agentauth.oauth.client_authentication import read_credentials
from agentauth.oauth.lane_request import FORM, Request
from agentauth.oauth.memory import (
    LONGEST,
    LONGEST_ROTATING,
    Headers,
    Introspected,
    Issuable,
    Remembered,
    Rotatable,
    any_resource_of,
)
from agentauth.oauth.models import RefreshToken
from agentauth.oauth.parameters import Parameters, from_form
from agentauth.oauth.statements import Repeated
from audit.actions import Action
from audit.models import Event
from audit.record import Actor
from tenants.models import secret_hash
from tenants.rls import in_tenant

_MAY_BE_SENT = {
    "token": {"grant_type", "client_id", "client_secret", "scope", "resource", "refresh_token"},
    "introspect": {"token", "token_type_hint", "client_id", "client_secret"},
}
_SECRET_METHODS = ("client_secret_basic", "client_secret_post")
_CLAIMS = {"iss", "sub", "aud", "client_id", "scope", "exp", "iat", "jti", "grant_id"}
_SAID = {"access_token", "token_type", "expires_in", "scope"}
_DETAILS = {"jti", "scope", "expires", "grant_type"}


@dataclass(slots=True)
class Answer:
    """What is said."""

    status: int
    headers: Headers
    content: bytes


def worth_remembering(request: Request, tenant_id: UUID, answer: Answer) -> tuple[bytes, Remembered] | None:
    """What was said, and the key of the request to which it would be said again as long as nothing changes.

    That is this very request, or one with the refresh token that it gave. Raises what reading the database, the
    request, a token or a key may raise.
    """
    asked = from_form(request.body, FORM)
    shown = read_credentials(asked, request.authorization)
    named = {*asked, *(["resource"] if asked.resources else [])}
    if not named <= _MAY_BE_SENT[request.endpoint]:
        return None
    if any(name in (b"set-cookie", b"date") for name, _ in answer.headers):
        return None
    if (b"content-type", b"application/json") not in answer.headers:
        return None  # signed for its client (RFC 9701 §6)
    said = orjson.loads(answer.content)
    fixed = tuple((name, value) for name, value in answer.headers if name != b"content-length")
    with in_tenant(tenant_id):
        agents = Agent.objects.filter(tenant=tenant_id, client_id=shown.client_id)
        proof = None
        if shown.method in _SECRET_METHODS:
            hashes = [secret_hash(one) for one in shown.secrets]
            live = Credential.objects.select_related("agent", "agent__tenant").filter(tenant=tenant_id, retired_at=None)
            proof = live.filter(agent__in=agents, secret_hash__in=hashes).first()
            if proof is None:
                return None
        agent = proof.agent if proof else agents.filter(token_endpoint_auth_method="none").first()  # noqa: S106  # no secret: its method
        if agent is None or shown.method not in (*_SECRET_METHODS, "none"):
            return None
        if request.endpoint == "introspect":
            return _of(request.key, _introspected(proof, asked["token"], said, answer.content, fixed))
        if asked["grant_type"] == "refresh_token":
            key = request.key_after(asked["refresh_token"], said.get("refresh_token", ""))
            return _of(key, _rotatable(agent, proof, said, fixed))
        return _of(request.key, _issuable(agent, proof, asked, said, fixed))


def _of(key: bytes | None, entry: Remembered | None) -> tuple[bytes, Remembered] | None:
    return (key, entry) if key and entry else None


def _introspected(
    proof: Credential | None, token: str, said: dict[str, Any], content: bytes, headers: Headers
) -> Introspected | None:
    """Only a token that stands on one agent and one grant: what was exchanged for another stands on more."""
    if proof is None:
        return None
    agent = proof.agent
    if said.get("active") is not True or said.get("token_type") != "Bearer":
        return None
    claims = jwt.decode(token, options={"verify_signature": False})  # verified a moment ago
    act = claims.get("act", {"sub": claims["sub"]})
    if not set(claims) <= _CLAIMS | {"act", "auth_time", "acr"} or act != {"sub": str(agent.id)}:
        return None
    stands_on = (agent.tenant_id, agent.id, claims["sub"], claims["grant_id"], claims["jti"])
    return Introspected(
        subjects=frozenset(map(str, stands_on)),
        until=time.monotonic() + LONGEST,
        headers=headers,
        body=content,
        expires=min(float(claims["exp"]), _end_of(proof)),
    )


def _issuable(
    agent: Agent, proof: Credential | None, asked: Parameters, said: dict[str, Any], headers: Headers
) -> Issuable | None:
    """Only a token, an answer and an event that are wholly of the kind that `Lane._issue` makes."""
    if proof is None or asked["grant_type"] != "client_credentials" or set(said) != _SAID:
        return None
    claims = jwt.decode(said["access_token"], options={"verify_signature": False})  # made a moment ago
    if set(claims) != _CLAIMS or claims["sub"] != str(agent.id):
        return None
    shared = _shared(agent, proof, claims, said, "client_credentials")
    if shared is None:
        return None
    if not asked.resources:  # any new grant may change which is meant
        shared["subjects"] |= {any_resource_of(str(agent.tenant_id))}
    return Issuable(headers=headers, until=time.monotonic() + LONGEST, **shared)


def _rotatable(agent: Agent, proof: Credential | None, said: dict[str, Any], headers: Headers) -> Rotatable | None:
    """The next rotation of the family, if it will be wholly like this one."""
    if set(said) != _SAID | {"refresh_token"}:
        return None
    claims = jwt.decode(said["access_token"], options={"verify_signature": False})  # made a moment ago
    if set(claims) - {"acr"} != _CLAIMS | {"act", "auth_time"} or claims["act"] != {"sub": str(agent.id)}:
        return None
    row = RefreshToken.objects.select_related("grant").get(
        tenant=agent.tenant_id, token_hash=secret_hash(said["refresh_token"]), agent=agent
    )
    shared = _shared(agent, proof, claims, said, "refresh_token")
    if shared is None or row.jkt or row.authorization_details or str(row.grant_id) != claims["grant_id"]:
        return None
    # A credential's last use is noted by the ordinary way, so that must be asked now and then; a public client has none
    return Rotatable(
        headers=headers,
        until=time.monotonic() + (LONGEST if proof else LONGEST_ROTATING),
        family=str(row.family),
        family_scope=row.scope,
        auth_time=row.auth_time,
        acr=row.acr,
        family_ends=row.family_expires_at,
        grant_ends=row.grant.expires_at,
        **shared,
    )


def _shared(
    agent: Agent, proof: Credential | None, claims: dict[str, Any], said: dict[str, Any], grant_type: str
) -> dict[str, Any] | None:
    by = signer(agent.tenant_id)
    grant = Grant.objects.get(tenant=agent.tenant_id, pk=claims["grant_id"])
    event = _event_of(agent.tenant_id, UUID(claims["jti"]))
    ends = [int(grant.expires_at.timestamp())] + ([int(agent.valid_until.timestamp())] if agent.valid_until else [])
    expires = min(claims["iat"] + settings.KNOBS.access_token_seconds, *ends)
    if (
        event is None
        or event.agent_id != agent.id
        or event.member_id != grant.member_id
        or set(event.details) != _DETAILS
        or jwt.get_unverified_header(said["access_token"]) != {"alg": "ES256", "typ": "at+jwt", "kid": by.kid}
        or (claims["exp"], said["expires_in"]) != (expires, expires - claims["iat"])
    ):
        return None
    return {
        "subjects": frozenset(map(str, (agent.tenant_id, agent.id, grant.id, grant.member_id or agent.id))),
        "claims": {name: value for name, value in claims.items() if name not in ("exp", "iat", "jti")},
        "signer": by,
        "ends": min(ends),
        "credential_ends": _end_of(proof) if proof else float("inf"),
        "grant_type": grant_type,
        "event": Repeated(
            str(proof.id) if proof else None,
            actor=Actor(event.actor_kind, event.actor),
            tenant_id=event.tenant_id,
            agent_id=event.agent_id,
            member_id=event.member_id,
            grant_id=event.grant_id,
            resource_id=event.resource_id,
        ),
    }


def _event_of(tenant_id: UUID, jti: UUID) -> Event | None:
    """The event of the token just issued. Ids are UUIDv7, so it is among those since the token's own millisecond."""
    since = UUID(int=jti.int >> 80 << 80)
    recent = Event.objects.filter(tenant=tenant_id, id__gte=since, action=Action.TOKEN_ISSUED).order_by("id")[:200]
    return next((event for event in recent if event.details.get("jti") == str(jti)), None)


def _end_of(proof: Credential) -> float:
    return proof.expires_at.timestamp() if proof.expires_at else float("inf")
