"""We pass the delegation kit; and the kit notices when a check is taken out."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import uuid4

import jwt
import pytest
from django.db import transaction
from django.test import Client
from django.utils.timezone import now

from agentauth.agents.models import Agent
from agentauth.agents.registering import add_secret, register_agent
from agentauth.grants.granting import give, live_grant
from agentauth.grants.models import Grant
from agentauth.keys.addresses import issuer, resource_url
from agentauth.keys.signing import sign
from agentauth.oauth.grants import token_exchange
from agentauth.oauth.grants.authority import Delegation
from agentauth.oauth.own_token import actors_of, tokens_behind
from agentauth.oauth.token import access_claims
from agentauth.oauth.trust.act import actors_before
from agentauth.resources.ceilings import set_ceiling
from agentauth.resources.models import Resource, Scope
from tenants.models import Member, Tenant
from tenants.rls import in_tenant
from tests import cast
from tests.conformance.delegation import __main__ as command
from tests.conformance.delegation.adapter import Adapter, Answer
from tests.conformance.delegation.runner import CASES, WORLD, Case, run_case
from tests.oauth.provider import Provider, times

PEOPLE = {"ann": "matt", "bob": "cora"}
EXCHANGE = "agentauth.oauth.grants.token_exchange"
FOREIGN = "agentauth.oauth.grants.foreign_subject"


class Ours(Adapter):
    """Acme, over Django's test client."""

    def __init__(self, slug: str = "acme") -> None:
        self.agents: dict[str, tuple[Agent, str]] = {}
        self.resources: dict[str, Resource] = {}
        with transaction.atomic():
            self.house = cast.acme(slug)
            for name, scopes in WORLD["resources"].items():
                self.resources[name] = self._resource(name, scopes)
            for name in WORLD["agents"]:
                self.agents[name] = self._agent(name)
            for person, agent, resource, scope in WORLD["grants"]:
                self._grant(person, agent, resource, scope)
        here = f"/t/{self.house.tenant.slug}/oauth"
        self.endpoints = {name: f"{here}/{name}" for name in ("token", "introspect", "revoke")}

    def _resource(self, name: str, scopes: list[str]) -> Resource:
        resource = cast.office(self.house, slug=name)
        for one in scopes:
            Scope.objects.create(tenant=self.house.tenant, resource=resource, name=one, words=one, risk="change")
        return resource

    def _agent(self, name: str) -> tuple[Agent, str]:
        method = "none" if name in WORLD["public"] else "client_secret_basic"
        agent = register_agent(
            self.house.tenant,
            by=self.house.owner,
            name=name,
            purpose="Goes on for another",
            owner=self.house.owner,
            kind=Agent.Kind.DELEGATED,
            auth_method=method,
            redirect_uris=["https://agent.example/cb"],
        )
        if method == "none":  # the endpoint is asked, not only the registration
            Agent.objects.filter(pk=agent.pk).update(grant_types=[token_exchange.GRANT_TYPE])
        set_ceiling(agent, list(Scope.objects.filter(tenant=self.house.tenant)), by=self.house.owner)
        return agent, "" if method == "none" else add_secret(agent, by=self.house.owner)[1]

    def _grant(self, person: str, agent: str, resource: str, scope: str) -> None:
        member = self.house.members[PEOPLE[person]]
        at = self.resources[resource]
        give(
            agent=self.agents[agent][0],
            resource=at,
            member=member,
            by=member,
            permissions={Scope.objects.get(resource=at, name=one): "always" for one in scope.split()},
            expires_at=now() + timedelta(days=1),
        )

    def person(self, name: str) -> str:
        return str(self.house.members[PEOPLE[name]].id)

    def actor(self, name: str) -> str:
        return str(self.agents[name][0].id)

    def client(self, name: str) -> tuple[str, str]:
        agent, secret = self.agents[name]
        return agent.client_id, secret

    def resource(self, name: str) -> str:
        return resource_url(self.house.tenant.slug, name)

    def scope(self, name: str) -> str:
        return name

    def issue(self, agent: str, person: str, resource: str, scope: list[str]) -> str:
        """As the code grant issues it (`tests/oauth/test_flow.py` has that way itself)."""
        tenant, acting = self.house.tenant, self.agents[agent][0]
        with in_tenant(tenant.id):
            grant = live_grant(acting, self.resources[resource], self.house.members[PEOPLE[person]])
            assert grant is not None
            at = int(now().timestamp())
            claims = {
                "iss": issuer(tenant),
                "sub": self.person(person),
                "aud": self.resource(resource),
                "client_id": acting.client_id,
                "scope": " ".join(scope),
                "exp": at + 100,
                "iat": at,
                "jti": str(uuid4()),
                "grant_id": str(grant.id),
                "act": {"sub": str(acting.id)},
            }
            return sign(tenant.id, claims, "at+jwt")

    def federated(self, person: str, order: str, claims: dict[str, Any]) -> str:
        member = self.house.members[PEOPLE[person]]
        idp = Provider()
        idp.trusted_by(self.house, act_order=order)
        said = {
            "iss": idp.issuer,
            "sub": f"{person} there",
            "aud": issuer(self.house.tenant),
            "email": member.user.email,
            "email_verified": True,
        }
        return idp.sign(said | times() | claims)

    def foreign(self) -> str:
        """Globex's own, with all that Acme would want to read in it."""
        claims = self.claims(self.issue("a1", "ann", "one", ["read"]))
        with transaction.atomic():
            other = cast.globex(f"globex-{uuid4().hex}")
            return sign(other.tenant.id, claims, "at+jwt")

    def expired(self, token: str) -> str:
        claims = self.claims(token)
        with in_tenant(self.house.tenant.id):
            return sign(self.house.tenant.id, claims | {"exp": claims["iat"]}, "at+jwt")

    def disable(self, agent: str) -> None:
        with in_tenant(self.house.tenant.id):
            self.agents[agent][0].suspend(by=self.house.owner)

    def end_grant(self, agent: str, person: str, resource: str) -> None:
        member = self.house.members[PEOPLE[person]]
        with in_tenant(self.house.tenant.id):
            grant = live_grant(self.agents[agent][0], self.resources[resource], member)
            assert grant is not None
            grant.revoke(by=member)

    def send(self, url: str, body: bytes, headers: dict[str, str]) -> Answer:
        content_type = headers.pop("Content-Type")
        said = Client().post(url, body, content_type=content_type, headers=headers)
        found = json.loads(said.content) if said.content else None
        return Answer(said.status_code, found, {name.lower(): value for name, value in said.items()})


@pytest.fixture
def ours(db: None) -> Ours:
    return Ours()


def test_the_kit_has_cases_enough_with_names_of_their_own() -> None:
    assert len(CASES) >= 40 and len({case["name"] for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_we_pass(case: Case, ours: Ours) -> None:
    assert run_case(case, ours) == ""


def unverified(tenant: Tenant, presented: str) -> dict[str, Any] | None:
    try:
        return jwt.decode(presented, options={"verify_signature": False})
    except jwt.PyJWTError:
        return None


def grant_of_anybody(agent: Agent, resource: Resource, member: Member | None) -> Grant | None:
    return Grant.objects.filter(resource=resource, member=member, ended_at=None).exclude(agent=agent).first()


def only_the_latest(claims: dict[str, Any]) -> list[dict[str, str]]:
    return tokens_behind(claims)[:1]


def only_the_outermost(claims: dict[str, Any]) -> list[str]:
    return actors_of(claims)[:1]


def chain_dropped(*args: Any, **times: Any) -> dict[str, Any]:
    claims = access_claims(*args, **times)
    claims["act"].pop("act", None)
    return claims


def without_end(**said: Any) -> Delegation:
    return Delegation(**(said | {"expires": said["expires"] + 1000}))


def order_forgotten(act: Any, **said: Any) -> dict[str, Any] | None:
    return actors_before(act, **said | {"reversed_order": False})


MUTANTS: dict[str, tuple[str, object, str]] = {
    # what is taken out: where, what stands there instead, a case that must notice
    "the depth": (f"{EXCHANGE}.DEEPEST_CHAIN", 99, "a chain of six agents is refused"),
    "the chain": ("agentauth.oauth.token.access_claims", chain_dropped, "each hop comes outside the one before"),
    "the end": (f"{EXCHANGE}.Delegation", without_end, "the token does not outlive the subject token"),
    "once in a chain": (f"{EXCHANGE}.agents_of", only_the_outermost, "an agent does not come twice in a chain"),
    "the actor token": (
        f"{EXCHANGE}.require_own_actor",
        lambda *args: None,
        "an actor_token of another agent is refused",
    ),
    "the actor's own grant": (
        f"{EXCHANGE}.live_grant",
        grant_of_anybody,
        "an audience swap without the actor's own grant is refused",
    ),
    "earlier scopes": (f"{EXCHANGE}.tokens_behind", only_the_latest, "a detour by another resource does not widen"),
    "earlier agents": (
        "agentauth.oauth.own_token.actors_of",
        only_the_outermost,
        "an agent disabled in the middle of the chain ends it",
    ),
    "the order of foreign actors": (
        f"{FOREIGN}.actors_before",
        order_forgotten,
        "actors that a trusted issuer nests the other way round become the same chain",
    ),
    "foreign actors": (
        f"{FOREIGN}.actors_before",
        lambda *args, **said: None,
        "actors of a trusted issuer stay in the chain",
    ),
    "the count of foreign actors": (
        f"{EXCHANGE}.strangers_of",
        lambda claims: [],
        "a chain counted from its beginning ends after five",
    ),
    "may_act": (f"{FOREIGN}.require_may_act", lambda *args: None, "may_act that names another actor refuses"),
    "the grant beside a foreign token": (
        f"{FOREIGN}.live_grant",
        grant_of_anybody,
        "the word of a trusted issuer is no grant",
    ),
    "the scope of a foreign token": (
        f"{FOREIGN}._within",
        lambda limit, granted: granted,
        "a scope of a trusted issuer narrows the grant",
    ),
    "our name in a foreign token": (
        "agentauth.oauth.trust.reading._require_for_us",
        lambda *args: None,
        "a token of a trusted issuer for somebody else is refused",
    ),
    "the times of a foreign token": (
        "agentauth.oauth.trust.reading._require_now",
        lambda *args: None,
        "a token of a trusted issuer that is not good yet is refused",
    ),
    "earlier grants": (
        "agentauth.oauth.own_token.tokens_behind",
        only_the_latest,
        "when an earlier grant is taken back the token ends",
    ),
} | {
    f"the signature: {case}": (f"{EXCHANGE}.read_own_token", unverified, case)
    for case in (
        "a subject_token with another person in it is refused",
        "an unsigned subject_token is refused",
        "an expired subject_token is refused",
        "a revoked subject_token is refused",
        "a subject_token of another issuer or tenant is refused",
    )
}


@pytest.mark.parametrize("taken_out", MUTANTS)
def test_the_kit_notices_what_is_taken_out(taken_out: str, ours: Ours) -> None:
    where, instead, name = MUTANTS[taken_out]
    (case,) = [case for case in CASES if case["name"] == name]
    with mock.patch(where, instead):
        assert run_case(case, ours) != ""


def test_the_command_asks_over_http_and_says_what_failed(
    transactional_db: None,
    live_server: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ("what one hop took away does not come back at the next", "a revoked subject_token is refused")
    chosen = [case for case in CASES if case["name"] in names]
    impossible = {"name": "a pig flies", "section": "none", "steps": [chosen[0]["steps"][0]]}
    impossible["steps"] = [*impossible["steps"], {"do": "introspect", "by": "a1", "token": "t1", "active": False}]
    monkeypatch.setattr(command, "CASES", chosen)
    file = tmp_path / "adapter.py"
    file.write_text(ADAPTER.format(url=live_server.url))
    assert command.main(str(file)) == 0
    assert capsys.readouterr().out.endswith("2 of 2 passed\n")
    monkeypatch.setattr(command, "CASES", [*chosen, impossible])
    assert command.main(str(file)) == 1
    assert "FAIL a pig flies (none): t1 is active\n2 of 3 passed" in capsys.readouterr().out


ADAPTER = """
from uuid import uuid4

from tests.conformance.delegation import __main__ as command
from tests.conformance.delegation.adapter import Adapter
from tests.conformance.delegation.test_delegation import Ours


class OverHttp(Ours):
    send = Adapter.send


def adapter():
    found = OverHttp(f"acme-{{uuid4().hex[:8]}}")
    found.endpoints = {{name: "{url}" + path for name, path in found.endpoints.items()}}
    return found
"""
