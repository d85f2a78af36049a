"""Giving out badges: an admin registers an agent and its credentials; a secret is seen once and kept as a hash."""

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import jwt
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.db.models import Max
from django.utils.timezone import now

from agentauth.agents.assurance import require_allowed, require_assurable
from agentauth.agents.claim_rules import RuleRefused, checked
from agentauth.agents.models import Agent, Credential, TrustedIssuer, WrongState, actor_of
from agentauth.keys.signing import thumbprint
from audit.actions import Action
from audit.record import record
from tenants.models import Member, Tenant, secret_hash
from tenants.rls import new_id

AUTH_METHODS = ("private_key_jwt", "client_secret_basic", "client_secret_post", "workload_identity", "none")
LIVE_WORKLOADS = 5
LIVE_CREDENTIALS = 2  # so that a change costs no downtime, and no third is forgotten
LONGEST = timedelta(days=366)
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # RFC 8693
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"  # RFC 7523
CIBA = "urn:openid:params:grant-type:ciba"  # OpenID Connect CIBA Core §4
DELIVERY_MODES = ("poll", "ping")
_ENDPOINT = re.compile(r"https://[A-Za-z0-9._:\[\]-]+(?:[/?][!$-~]*)?\Z")
_CONFIDENTIAL = (TOKEN_EXCHANGE, CIBA, JWT_BEARER)  # for clients that prove who they are
GRANT_TYPES = {
    Agent.Kind.DELEGATED: ("authorization_code", "refresh_token", TOKEN_EXCHANGE, CIBA, JWT_BEARER),
    Agent.Kind.AUTONOMOUS: ("client_credentials", JWT_BEARER),
    Agent.Kind.MCP: ("authorization_code", "refresh_token", JWT_BEARER),
}


def register_agent(
    tenant: Tenant,
    *,
    by: Member,
    name: str,
    purpose: str,
    owner: Member,
    kind: str,
    auth_method: str = "private_key_jwt",
    valid_until: datetime | None = None,
    redirect_uris: Sequence[str] = (),
    grant_types: Iterable[str] = (),
    high_assurance: bool = False,
) -> Agent:
    """A new active agent. What it may ever reach is set beside it (`resources.ceilings.set_ceiling`).

    Raises ValidationError with the field's name. In the tenant's transaction.
    """
    if auth_method not in AUTH_METHODS:
        raise ValidationError({"auth_method": f"Use one of {', '.join(AUTH_METHODS)}."})
    if kind == Agent.Kind.AUTONOMOUS and auth_method == "none":
        raise ValidationError({"auth_method": "An agent that runs by itself must prove itself with a key or a secret."})
    if high_assurance:
        require_assurable(auth_method)
    if valid_until is not None and not now() < valid_until <= now() + LONGEST:
        raise ValidationError({"valid_until": "Choose a day after today and within 366 days."})
    if owner.tenant_id != tenant.id or not owner.is_active:
        raise ValidationError({"owner": "The owner must be an active member."})
    usual = [one for one in GRANT_TYPES[Agent.Kind(kind)] if one not in _CONFIDENTIAL or auth_method != "none"]
    agent_id = new_id()
    agent = Agent(
        id=agent_id,
        tenant=tenant,
        client_id=str(agent_id),
        name=name.strip(),
        purpose=purpose.strip(),
        owner=owner,
        kind=kind,
        number=next_number(tenant),
        created_by=by,
        approved_by=by,
        approved_at=now(),
        valid_until=valid_until,
        redirect_uris=list(redirect_uris),
        grant_types=list(grant_types) or usual,
        token_endpoint_auth_method=auth_method,
        high_assurance=high_assurance,
    )
    agent.full_clean(exclude=["tenant", "owner", "created_by", "approved_by", "state_by"])
    with transaction.atomic():
        agent.save(force_insert=True)
        record(
            Action.AGENT_REGISTERED,
            tenant_id=tenant.id,
            actor=actor_of(by),
            agent_id=agent.id,
            subject_kind="agent",
            subject=str(agent.id),
            details={"name": agent.name, "kind": agent.kind, "owner": str(owner.id), "auth_method": auth_method}
            | ({"high_assurance": True} if high_assurance else {}),
        )
        agent.announce()
    return agent


def delivery(mode: Any, endpoint: Any) -> dict[str, str]:
    """How an agent hears that its person has answered (OpenID Connect CIBA Core §4), as `client_metadata` keeps it.

    Raises ValidationError with the name that the standard gives to what is wrong.
    """
    if mode not in DELIVERY_MODES:
        raise ValidationError({"backchannel_token_delivery_mode": f"Use {' or '.join(DELIVERY_MODES)}."})
    if mode == "poll":
        return {"backchannel_token_delivery_mode": "poll"}
    if not isinstance(endpoint, str) or not _ENDPOINT.match(endpoint) or len(endpoint) > 500:
        raise ValidationError({"backchannel_client_notification_endpoint": "Use an https address without a fragment."})
    return {"backchannel_token_delivery_mode": "ping", "backchannel_client_notification_endpoint": endpoint}


def is_pingable(agent: Agent) -> bool:
    """May an admin say where it is pinged? A client that registered itself says so itself."""
    return CIBA in agent.grant_types and agent.registration == Agent.Registration.ADMIN


def set_ping(agent: Agent, url: str, *, by: Member) -> None:
    """Where an agent that an admin registered is told that its person has answered; empty: it asks for it.

    Raises ValidationError with the field's name.
    """
    if url == agent.ping_url:
        return
    if not is_pingable(agent):
        raise ValidationError({"ping_url": "This is for registered agents that ask people by themselves."})
    try:
        told = delivery("ping", url) if url else {}
    except ValidationError:
        raise ValidationError({"ping_url": "Use an https address without a fragment."}) from None
    kept = {name: value for name, value in agent.client_metadata.items() if not name.startswith("backchannel_")}
    agent.change(by=by, client_metadata=kept | told)


def next_number(tenant: Tenant) -> int:
    """The number of the next badge, given out once: until the end of the transaction nobody else gets one here."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"badges of {tenant.id}"])
    return int(tenant.agents.aggregate(last=Max("number"))["last"] or 0) + 1


def add_secret(agent: Agent, *, by: Member, expires_at: datetime | None = None) -> tuple[Credential, str]:
    """A new secret and its text, which is shown once and never again. Unreserved characters only (RFC 3986 §2.3)."""
    secret = f"aas_{secrets.token_urlsafe(32)}"
    credential = Credential(kind=Credential.Kind.SECRET, secret_hash=secret_hash(secret), hint=secret[-4:])
    return _add(agent, credential, by=by, expires_at=expires_at), secret


def add_key(agent: Agent, public_jwk: dict[str, Any], *, by: Member, expires_at: datetime | None = None) -> Credential:
    """A public key for `private_key_jwt`: EC P-256, Ed25519 or RSA of 2048 bits or more. A private key is refused."""
    public = public_part(public_jwk)
    credential = Credential(kind=Credential.Kind.KEY, public_jwk=public, kid=public["kid"])
    return _add(agent, credential, by=by, expires_at=expires_at)


def add_workload(
    agent: Agent, issuer: TrustedIssuer, rules: Mapping[str, Any], *, by: Member, expires_at: datetime | None = None
) -> Credential:
    """Let in what `issuer` says runs there, where its token holds what `rules` say. Raises ValidationError."""
    if issuer.kind == TrustedIssuer.Kind.ENTERPRISE:
        raise ValidationError({"trusted_issuer": "An identity provider speaks for people, not for machines."})
    if issuer.removed_at is not None:
        raise ValidationError({"trusted_issuer": "This issuer is not trusted any more."})
    if agent.token_endpoint_auth_method == "none":
        raise ValidationError({"trusted_issuer": "This agent is registered as one that cannot prove itself."})
    if agent.high_assurance:
        raise ValidationError({"trusted_issuer": "An agent of high assurance proves itself with a key of its own."})
    try:
        sound = checked(rules)
    except RuleRefused as why:
        raise ValidationError({"claims": str(why)}) from None
    if issuer.kind == TrustedIssuer.Kind.SPIFFE and not sound.get("sub", "").startswith(f"{issuer.issuer}/"):
        raise ValidationError({"claims": f"sub begins with {issuer.issuer}/."})
    credential = Credential(kind=Credential.Kind.WORKLOAD, trusted_issuer=issuer, claim_rules=sound)
    with transaction.atomic():
        if JWT_BEARER not in agent.grant_types:
            agent.change(by=by, grant_types=[*agent.grant_types, JWT_BEARER])
        return _add(agent, credential, by=by, expires_at=expires_at)


def public_part(jwk: dict[str, Any]) -> dict[str, Any]:
    """The JWK as we keep it: checked, with a `kid` and nothing that is not public."""
    if not isinstance(jwk, dict) or any(part in jwk for part in ("d", "p", "q", "k")):
        raise ValidationError(
            {"key": "This is a private key. Paste the public one; the private one stays with the agent."}
        )
    try:
        key = jwt.PyJWK({name: value for name, value in jwk.items() if name != "alg"}).key
        kid = str(jwk.get("kid") or thumbprint(jwk))
    except (jwt.PyJWTError, KeyError, TypeError, ValueError):
        raise ValidationError({"key": "This is not a public JWK. Use EC P-256, Ed25519 or RSA."}) from None
    needed = {"EC": ("kty", "crv", "x", "y"), "OKP": ("kty", "crv", "x"), "RSA": ("kty", "n", "e")}[jwk["kty"]]
    if jwk.get("crv") not in (None, "P-256", "Ed25519") or (jwk["kty"] == "RSA" and key.key_size < 2048):
        raise ValidationError({"key": "Use EC P-256, Ed25519, or RSA with at least 2048 bits."})
    return {name: jwk[name] for name in needed} | {"kid": kid[:128]}


def _add(agent: Agent, credential: Credential, *, by: Member, expires_at: datetime | None) -> Credential:
    require_allowed(agent, credential.kind)
    if expires_at is not None and not now() < expires_at <= now() + LONGEST:
        raise ValidationError({"expires_at": "Choose a day after today and within 366 days."})
    with transaction.atomic():
        Agent.objects.select_for_update().get(pk=agent.pk)
        is_workload = credential.kind == Credential.Kind.WORKLOAD
        every = [one for one in agent.credentials.all() if one.is_live]
        live = [one for one in every if (one.kind == Credential.Kind.WORKLOAD) == is_workload]
        if is_workload and len(live) >= LIVE_WORKLOADS:
            raise WrongState(f"{LIVE_WORKLOADS} workloads are let in already. Retire one first.")
        if not is_workload and len(live) >= LIVE_CREDENTIALS:
            raise WrongState("Two credentials are live already. Retire one first.")
        if credential.kid and any(one.kid == credential.kid for one in live):
            raise ValidationError({"key": "This agent has this key already."})
        credential.tenant_id, credential.agent = agent.tenant_id, agent
        credential.created_by, credential.expires_at = by, expires_at
        credential.save(force_insert=True)
        record(
            Action.CREDENTIAL_ADDED,
            tenant_id=agent.tenant_id,
            actor=actor_of(by),
            agent_id=agent.id,
            subject_kind="credential",
            subject=str(credential.id),
            details={"kind": credential.kind, "kid": credential.kid} | _workload(credential),
        )
        agent.announce()
    return credential


def _workload(credential: Credential) -> dict[str, Any]:
    issuer = credential.trusted_issuer
    return {"issuer": issuer.issuer, "claims": credential.claim_rules} if issuer else {}
