"""Tokens for the management API: a grant at the tenant's built-in resource and a signed token for it."""

import time
from datetime import timedelta
from typing import Any

from django.test import Client
from django.utils.timezone import now

from agentauth.agents.models import Agent
from agentauth.agents.registering import register_agent
from agentauth.grants.granting import give
from agentauth.grants.models import Grant
from agentauth.keys.addresses import management_url
from agentauth.keys.signing import sign
from agentauth.resources.ceilings import set_ceiling
from agentauth.resources.models import Resource, Scope
from tenants.issuer import issuer_at
from tenants.models import Member
from tenants.rls import new_id
from tests.cast import House


def management_agent(house: House, name: str = "Console robot", kind: str = "autonomous") -> Agent:
    """An agent that may ever be granted all of the management API."""
    agent = register_agent(
        house.tenant, by=house.owner, owner=house.owner, name=name, purpose="", kind=kind,
        auth_method="client_secret_basic",
    )  # fmt: skip
    set_ceiling(agent, list(Scope.objects.filter(tenant=house.tenant, resource__kind="management")), by=house.owner)
    return agent


def management_grant(house: House, agent: Agent, member: Member | None, modes: dict[str, str]) -> Grant:
    resource = Resource.objects.get(tenant=house.tenant, kind="management")
    scopes = {scope.name: scope for scope in Scope.objects.filter(tenant=house.tenant, resource=resource)}
    return give(
        agent=agent,
        resource=resource,
        member=member,
        by=member or house.owner,
        permissions={scopes[name]: mode for name, mode in modes.items()},
        expires_at=now() + timedelta(days=1),
    )


def token(house: House, grant: Grant, *scopes: str, header: dict[str, Any] | None = None, **claims: Any) -> str:
    """An access token as the token endpoint makes it; `claims` change it."""
    slug, at = house.tenant.slug, int(time.time())
    mine: dict[str, Any] = {
        "iss": issuer_at(slug, ""),
        "aud": management_url(slug),
        "sub": str(grant.member_id or grant.agent_id),
        "client_id": grant.agent.client_id,
        "scope": " ".join(scopes),
        "exp": at + 300,
        "iat": at,
        "jti": str(new_id()),
        "grant_id": str(grant.id),
    }
    if grant.member_id:
        mine["act"] = {"sub": str(grant.agent_id)}
    said = {name: value for name, value in (mine | claims).items() if value is not None}
    return sign(house.tenant.id, said, (header or {}).get("typ", "at+jwt"))


class Api:
    """A caller of one tenant's API with one token."""

    def __init__(self, house: House, bearer: str | None) -> None:
        self.root = f"/api/v1/tenants/{house.tenant.slug}"
        self.headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        self.client = Client(headers=self.headers)

    def get(self, path: str, **query: Any) -> Any:
        return self.client.get(self.root + path, query)

    def post(self, path: str, body: Any = None) -> Any:
        return self.client.post(self.root + path, {} if body is None else body, content_type="application/json")

    def patch(self, path: str, body: Any) -> Any:
        return self.client.patch(self.root + path, body, content_type="application/json")


WRITE = ("agents:read", "agents:write", "resources:read", "resources:write", "grants:read", "grants:write",
         "keys:read", "keys:write", "events:read", "exports:read", "exports:write")  # fmt: skip


def robot(house: House, *scopes: str) -> Api:
    """An agent that acts for itself and may do what `scopes` say (all unless told)."""
    wanted = scopes or WRITE
    grant = management_grant(house, management_agent(house), None, dict.fromkeys(wanted, "always"))
    return Api(house, token(house, grant, *wanted))


def helper_of(house: House, member: Member, **modes: str) -> Api:
    """An agent that acts for `member`; scopes are written `events__read="always"`."""
    wanted = {name.replace("__", ":"): mode for name, mode in modes.items()}
    agent = management_agent(house, f"{member.name}'s helper", kind="delegated")
    return Api(house, token(house, management_grant(house, agent, member, wanted), *wanted))
