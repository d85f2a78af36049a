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

from agentauth.agents.models import Credential
from agentauth.grants.models import Grant
from agentauth.keys.signing import signer
from agentauth.oauth.client_authentication import read_credentials
from agentauth.oauth.lane_request import FORM, Request
from agentauth.oauth.memory import LONGEST, Headers, Introspected, Issuable, Remembered, any_resource_of
from agentauth.oauth.parameters import Parameters, from_form
from audit.actions import Action
from audit.models import Event
from audit.record import Actor
from tenants.models import secret_hash
from tenants.rls import in_tenant

_MAY_BE_SENT = {
    "token": {"grant_type", "client_id", "client_secret", "scope", "resource"},
    "introspect": {"token", "token_type_hint", "client_id", "client_secret"},
}
_SECRET_METHODS = ("client_secret_basic", "client_secret_post")
_CLAIMS = {"iss", "sub", "aud", "client_id", "scope", "exp", "iat", "jti", "grant_id"}
_SAID = {"access_token", "token_type", "expires_in", "scope"}
_DETAILS = {"jti", "scope", "expires", "grant_type"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What the ordinary way said."""

    status: int
    headers: Headers
    content: bytes


def worth_remembering(request: Request, tenant_id: UUID, answer: Answer) -> Remembered | None:
    """What was said, if it would be said again to the same request as long as nothing changes.

    Raises what reading the database, the request, a token or a key may raise.
    """
    asked = from_form(request.body, FORM)
    shown = read_credentials(asked, request.authorization)
    named = {*asked, *(["resource"] if asked.resources else [])}
    if not named <= _MAY_BE_SENT[request.endpoint] or shown.method not in _SECRET_METHODS:
        return None
    if any(name in (b"set-cookie", b"date") for name, _ in answer.headers):
        return None
    if (b"content-type", b"application/json") not in answer.headers:
        return None  # signed for its client (RFC 9701 §6)
    said = orjson.loads(answer.content)
    with in_tenant(tenant_id):
        hashes = [secret_hash(one) for one in shown.secrets]
        proofs = Credential.objects.select_related("agent", "agent__tenant").filter(
            tenant=tenant_id, agent__client_id=shown.client_id, secret_hash__in=hashes, retired_at=None
        )
        proof = proofs.first()
        if proof is None:
            return None
        fixed = tuple((name, value) for name, value in answer.headers if name != b"content-length")
        if request.endpoint == "introspect":
            return _introspected(proof, asked["token"], said, answer.content, fixed)
        return _issuable(proof, asked, said, fixed)


def _introspected(
    proof: Credential, token: str, said: dict[str, Any], content: bytes, headers: Headers
) -> Introspected | None:
    """Only a token that stands on one agent and one grant: what was exchanged for another stands on more."""
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


def _issuable(proof: Credential, asked: Parameters, said: dict[str, Any], headers: Headers) -> Issuable | None:
    """Only a token, an answer and an event that are wholly of the kind that `Lane._issue` makes."""
    if asked["grant_type"] != "client_credentials" or set(said) != _SAID:
        return None
    agent, by = proof.agent, signer(proof.tenant_id)
    claims = jwt.decode(said["access_token"], options={"verify_signature": False})  # made a moment ago
    if set(claims) != _CLAIMS or claims["sub"] != str(agent.id):
        return None
    grant = Grant.objects.get(tenant=proof.tenant_id, pk=claims["grant_id"])
    event = _event_of(proof.tenant_id, UUID(claims["jti"]))
    ends = [int(grant.expires_at.timestamp())] + ([int(agent.valid_until.timestamp())] if agent.valid_until else [])
    expires = min(claims["iat"] + settings.KNOBS.access_token_seconds, *ends)
    if (
        event is None
        or event.agent_id != agent.id
        or set(event.details) != _DETAILS
        or jwt.get_unverified_header(said["access_token"]) != {"alg": "ES256", "typ": "at+jwt", "kid": by.kid}
        or (claims["exp"], said["expires_in"]) != (expires, expires - claims["iat"])
    ):
        return None
    subjects = {str(agent.tenant_id), str(agent.id), str(grant.id)}
    if not asked.resources:  # any new grant may change which is meant
        subjects.add(any_resource_of(str(agent.tenant_id)))
    return Issuable(
        subjects=frozenset(subjects),
        until=time.monotonic() + LONGEST,
        headers=headers,
        tenant_id=agent.tenant_id,
        claims={name: value for name, value in claims.items() if name not in ("exp", "iat", "jti")},
        signer=by,
        ends=min(ends),
        credential_id=proof.id,
        credential_ends=_end_of(proof),
        event={
            "actor": Actor(event.actor_kind, event.actor),
            "agent_id": event.agent_id,
            "member_id": event.member_id,
            "grant_id": event.grant_id,
            "resource_id": event.resource_id,
        },
    )


def _event_of(tenant_id: UUID, jti: UUID) -> Event | None:
    """The event of the token just issued. Ids are UUIDv7, so it is among those since the token's own millisecond."""
    since = UUID(int=jti.int >> 80 << 80)
    recent = Event.objects.filter(tenant=tenant_id, id__gte=since, action=Action.TOKEN_ISSUED).order_by("id")[:200]
    return next((event for event in recent if event.details.get("jti") == str(jti)), None)


def _end_of(proof: Credential) -> float:
    return proof.expires_at.timestamp() if proof.expires_at else float("inf")
