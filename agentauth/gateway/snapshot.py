"""What a worker holds in memory of each tenant: keys, resources and their operations; on demand, agents and grants.

Loaded when first needed, dropped when a notice says that it changed, asked anew on every call while nothing is heard.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import SplitResult, urlsplit
from uuid import UUID

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agentauth.gateway.database import Pool, reading
from agentauth.gateway.hearing import Hearing
from agentauth.gateway.held import Held
from agentauth.gateway.paths import Routes
from agentauth.keys import ring
from agentauth.keys.addresses import resource_url
from agentauth.keys.signing import PURPOSE, Signer
from agentauth.policy.conditions.sign_in import demanded_of
from agentauth.policy.facts import AgentFacts, GrantFacts, OperationFacts
from agentauth.resources.models import Resource as ResourceRow
from agentauth.resources.upstream import upstream_headers
from tenants.issuer import issuer_at

_AGENTS_KEPT = 20_000


@dataclass(slots=True)
class Operation:
    facts: OperationFacts
    digest: str = ""


@dataclass(slots=True)
class Resource:
    id: UUID
    slug: str
    name: str
    kind: str
    published: bool
    url: str
    upstream: SplitResult
    credential: dict[str, str] | None
    """Headers that prove us to the upstream; None when they could not be opened, and then nothing passes."""
    sends_assertion: bool
    bound_tokens_only: bool
    scopes: dict[str, str] = field(default_factory=dict)
    """Names of the scopes that some operation needs, to their risk class."""
    scope_names: dict[UUID, str] = field(default_factory=dict)
    routes: Routes = field(default_factory=Routes)
    tools: dict[str, Operation] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        return f"{self.upstream.scheme}://{self.upstream.netloc}"


@dataclass(slots=True)
class Tenant:
    id: UUID
    slug: str
    suspended: bool
    issuer: str
    keys: dict[str, ec.EllipticCurvePublicKey]
    unpublish_at: dict[str, datetime]
    signer: Signer | None
    resources: dict[str, Resource]
    verified: "OrderedDict[bytes, Any]" = field(default_factory=OrderedDict)
    """Tokens whose signature was checked, by hash; gone with this snapshot when a key changes."""


@dataclass(slots=True)
class Agent:
    client_id: str
    state: str
    valid_until: datetime | None
    ceiling_risk: str
    ceiling: frozenset[UUID] | None
    _told: dict[UUID, tuple[Resource, AgentFacts]] = field(default_factory=dict)

    def facts_for(self, resource: Resource) -> AgentFacts:
        """What `policy` must know of it at this resource. Kept, until either is read again."""
        kept = self._told.get(resource.id)
        if kept is not None and kept[0] is resource:
            return kept[1]
        names = None
        if self.ceiling is not None:
            names = frozenset(resource.scope_names[one] for one in self.ceiling if one in resource.scope_names)
        facts = AgentFacts(self.state, self.valid_until, self.ceiling_risk, names)
        self._told[resource.id] = (resource, facts)
        return facts


@dataclass(slots=True)
class Grant:
    agent_id: UUID
    resource_id: UUID
    member_id: UUID | None
    member_active: bool | None
    facts: GrantFacts


class Snapshots:
    """All that the workers know. `on_notice` and `clear` are called by who hears."""

    def __init__(self, pool: Pool, hearing: Hearing) -> None:
        self._pool = pool
        self._slugs: dict[UUID, str] = {}
        self._tenants: Held[Tenant | None] = Held(self._read_tenant, hearing, 5_000)
        self._agents: Held[Agent | None] = Held(self._read_agent, hearing, _AGENTS_KEPT)
        self._grants: Held[Grant | None] = Held(self._read_grant, hearing, _AGENTS_KEPT)

    async def tenant(self, slug: str) -> Tenant | None:
        return await self._tenants.get(slug)

    async def agent(self, tenant_id: UUID, agent_id: UUID) -> Agent | None:
        return await self._agents.get((tenant_id, agent_id))

    async def grant(self, tenant_id: UUID, grant_id: UUID) -> Grant | None:
        return await self._grants.get((tenant_id, grant_id))

    def on_notice(self, tenant_id: UUID, what: str, subject: str) -> None:
        """Drop what this may be about; what is not recognised drops the whole tenant."""
        app, _, subject_id = subject.partition(":") if what == "config" else (what, "", subject)
        try:
            one = UUID(subject_id)
        except ValueError:
            one = None
        if app in ("grants", "grant") and one is not None:
            self._grants.drop((tenant_id, one))
        elif app in ("agents", "agent") and one is not None:
            self._agents.drop((tenant_id, one))
        elif app == "member":
            self._grants.forget(lambda key: key[0] == tenant_id)
        elif app not in ("token", "credential"):
            self._drop_tenant(tenant_id)

    def clear(self) -> None:
        for held in (self._tenants, self._agents, self._grants):
            held.clear()

    def _drop_tenant(self, tenant_id: UUID) -> None:
        slug = self._slugs.get(tenant_id)
        if slug is None:
            self._tenants.clear()  # read under way, or a tenant that we knew only as unknown
        else:
            self._tenants.drop(slug)
        self._agents.forget(lambda key: key[0] == tenant_id)
        self._grants.forget(lambda key: key[0] == tenant_id)

    async def _read_tenant(self, slug: str) -> Tenant | None:
        async with reading(self._pool) as db:
            cursor = await db.execute(
                "SELECT id, suspended_at, issuer_host FROM tenants_tenant WHERE slug = %s", [slug]
            )
            row = await cursor.fetchone()
            if row is None:
                return None
            tenant_id, suspended_at, issuer_host = row
            await db.execute("SELECT set_config('agentauth.tenant', %s, true)", [str(tenant_id)])
            keys = await db.execute(_KEYS, [tenant_id])
            key_rows = await keys.fetchall()
            resources = await db.execute(_RESOURCES, [tenant_id])
            resource_rows = await resources.fetchall()
            scopes = await db.execute(_SCOPES, [tenant_id])
            scope_rows = await scopes.fetchall()
            operations = await db.execute(_OPERATIONS, [tenant_id])
            operation_rows = await operations.fetchall()
            demands = await db.execute(_SIGN_IN_RULES, [tenant_id])
            sign_in = {resource_id: rule for resource_id, *rule in await demands.fetchall()}
        self._slugs[tenant_id] = slug
        public = {kid: jwt.PyJWK(jwk, algorithm="ES256").key for kid, jwk, *_ in key_rows}
        tenant = Tenant(
            id=tenant_id,
            slug=slug,
            suspended=suspended_at is not None,
            issuer=issuer_at(slug, issuer_host),
            keys=public,
            unpublish_at={row[0]: row[4] for row in key_rows if row[4] is not None},
            signer=_signer(tenant_id, key_rows),
            resources={},
        )
        by_id: dict[UUID, Resource] = {}
        for row in resource_rows:
            resource = _resource(tenant, row)
            by_id[resource.id] = tenant.resources[resource.slug] = resource
        for scope_id, resource_id, name in scope_rows:
            if resource_id in by_id:
                by_id[resource_id].scope_names[scope_id] = name
        for resource_id, *operation in operation_rows:
            if resource_id in by_id:
                _add_operation(by_id[resource_id], operation, sign_in.get(resource_id))
        return tenant

    async def _read_agent(self, key: tuple[UUID, UUID]) -> Agent | None:
        async with reading(self._pool, key[0]) as db:
            cursor = await db.execute(_AGENT, key)
            row = await cursor.fetchone()
        if row is None:
            return None
        client_id, state, valid_until, ceiling_risk, registration, listed = row
        ceiling = frozenset(listed) if listed or registration == "admin" else None
        return Agent(client_id, state, valid_until, ceiling_risk, ceiling)

    async def _read_grant(self, key: tuple[UUID, UUID]) -> Grant | None:
        async with reading(self._pool, key[0]) as db:
            cursor = await db.execute(_GRANT, key)
            row = await cursor.fetchone()
        if row is None:
            return None
        agent_id, resource_id, member_id, active, expires_at, ended_at, constraints, modes = row
        facts = GrantFacts(expires_at, ended_at is not None, modes or {}, constraints or {})
        return Grant(agent_id, resource_id, member_id, active if member_id else None, facts)


def _signer(tenant_id: UUID, rows: list[tuple[Any, ...]]) -> Signer | None:
    """The newest key that signs. A ring that lost its key stops assertions, not verification."""
    for kid, _, sealed, row_id, _, may_sign in rows:
        if may_sign:
            try:
                der = ring.unseal(bytes(sealed), tenant_id=tenant_id, row_id=row_id, purpose=PURPOSE)
            except ring.RingError:
                return None
            private = serialization.load_der_private_key(der, None)
            return Signer(kid, private) if isinstance(private, ec.EllipticCurvePrivateKey) else None
    return None


def _resource(tenant: Tenant, row: tuple[Any, ...]) -> Resource:
    resource_id, slug, name, kind, state, upstream_url, auth, header, sealed, sends_assertion, bound_tokens_only = row
    stored = ResourceRow(
        id=resource_id, tenant_id=tenant.id, upstream_auth=auth, upstream_header=header, sealed_credential=sealed
    )
    try:
        credential = upstream_headers(stored)
    except Exception:  # whatever is wrong with it: without its credential nothing passes
        credential = None
    return Resource(
        id=resource_id,
        slug=slug,
        name=name,
        kind=kind,
        published=state == "published",
        url=resource_url(tenant.slug, slug),
        upstream=urlsplit(upstream_url),
        credential=credential,
        sends_assertion=sends_assertion,
        bound_tokens_only=bound_tokens_only,
    )


def _add_operation(resource: Resource, row: list[Any], sign_in_rule: list[Any] | None) -> None:
    key, method, path, tool, digest, held, scope, risk = row
    demanded = demanded_of(risk or "", *sign_in_rule) if sign_in_rule else {}
    operation = Operation(OperationFacts(key, scope, risk or "", held, demanded), digest)
    if scope and not held:
        resource.scopes[scope] = risk
    if tool:
        resource.tools[tool] = operation
    elif method and path:
        resource.routes.add(method, path, operation)


_KEYS = """
SELECT kid, public_jwk, sealed_private, id, unpublish_at, retired_at IS NULL AND signs_from <= now()
FROM keys_signingkey WHERE tenant_id = %s AND (unpublish_at IS NULL OR unpublish_at > now()) ORDER BY signs_from DESC
"""
_RESOURCES = """
SELECT id, slug, name, kind, state, upstream_url, upstream_auth, upstream_header, sealed_credential, sends_assertion,
    dpop_bound_access_tokens_required
FROM resources_resource WHERE tenant_id = %s AND kind IN ('rest', 'mcp')
"""
_SCOPES = "SELECT id, resource_id, name FROM resources_scope WHERE tenant_id = %s"
_OPERATIONS = """
SELECT o.resource_id, o.key, o.method, o.path, o.tool, o.digest, o.changed_at IS NOT NULL, s.name, s.risk
FROM resources_operation o LEFT JOIN resources_scope s ON s.tenant_id = o.tenant_id AND s.id = o.scope_id
WHERE o.tenant_id = %s
"""
_SIGN_IN_RULES = "SELECT resource_id, from_risk, acr, max_age FROM grants_signinrule WHERE tenant_id = %s"
_AGENT = """
SELECT client_id, state, valid_until, ceiling_risk, registration,
    ARRAY(SELECT c.scope_id FROM resources_ceiling c WHERE c.tenant_id = a.tenant_id AND c.agent_id = a.id)
FROM agents_agent a WHERE a.tenant_id = %s AND a.id = %s
"""
_GRANT = """
SELECT g.agent_id, g.resource_id, g.member_id, m.deactivated_at IS NULL AND u.is_active, g.expires_at, g.ended_at,
    g.constraints,
    (SELECT jsonb_object_agg(s.name, p.mode) FROM grants_permission p
     JOIN resources_scope s ON s.tenant_id = p.tenant_id AND s.id = p.scope_id
     WHERE p.tenant_id = g.tenant_id AND p.grant_id = g.id)
FROM grants_grant g
LEFT JOIN tenants_member m ON m.tenant_id = g.tenant_id AND m.id = g.member_id
LEFT JOIN tenants_user u ON u.id = m.user_id
WHERE g.tenant_id = %s AND g.id = %s
"""
