"""Workload identity (RFC 7523 §2.1 and §2.2, SPIFFE client authentication): an agent is let in by where it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from django.core.exceptions import ValidationError
from django.utils.timezone import now

from agentauth.agents.claim_rules import RuleRefused, checked, matches, sentence
from agentauth.agents.models import Agent, Credential, TrustedIssuer, WrongState
from agentauth.agents.registering import JWT_BEARER, LIVE_WORKLOADS, add_secret, add_workload
from agentauth.grants.distrusting import remove_issuer, suspend_issuer
from agentauth.oauth.client_assertion import ASSERTION_TYPE
from agentauth.oauth.client_authentication import SPIFFE_TYPE
from agentauth.oauth.own_token import read_own_token
from tenants.rls import in_tenant
from tests import cast
from tests.cast import House, events_of
from tests.oauth.browser import Flow
from tests.oauth.proofs import new_key
from tests.oauth.provider import ACTIONS, CLUSTER, DOMAIN, Provider, spoiled, times, us
from tests.oauth.test_token_exchange import allow_for_itself

CORPUS = json.loads((Path(__file__).parents[1] / "corpora" / "foreign_tokens.json").read_text())
RULES = {"repository": "acme/app", "ref": "refs/heads/main"}


@pytest.fixture
def acme(db: None) -> House:
    return cast.acme()


@pytest.fixture
def globex(acme: House) -> House:
    return cast.globex()


@pytest.fixture
def actions(acme: House) -> Provider:
    """Signs as GitHub does: RSA, with a kid."""
    return Provider(ACTIONS, key=rsa.generate_private_key(65537, 2048))


@pytest.fixture
def trust(actions: Provider, acme: House) -> TrustedIssuer:
    return actions.trusted_by(acme, "workload", name="GitHub Actions")


def robot(house: House, name: str = "The nightly run") -> Flow:
    """An agent that runs by itself and has no secret at all; an admin let it see rooms."""
    with in_tenant(house.tenant.id):
        agent = cast.assistant(house, name=name, kind="autonomous", auth_method="workload_identity", redirect_uris=[])
        flow = Flow(house, agent)
        allow_for_itself(flow)
    return flow


def let_in(flow: Flow, issuer: TrustedIssuer, rules: dict[str, str] | None = None, **more: Any) -> Credential:
    with in_tenant(flow.house.tenant.id):
        return add_workload(flow.agent, issuer, rules or RULES, by=flow.house.owner, **more)


def github(house: House, **changes: Any) -> dict[str, Any]:
    """What GitHub says of a run, with the audience that the workflow asked for."""
    said = {
        "iss": ACTIONS,
        "aud": us(house),
        "sub": "repo:acme/app:ref:refs/heads/main",
        "repository": "acme/app",
        "repository_id": "123456",
        "repository_owner": "acme",
        "ref": "refs/heads/main",
        "event_name": "push",
        "run_id": "77",
    }
    return {name: value for name, value in (said | times() | changes).items() if value is not None}


def by_grant(flow: Flow, assertion: str, **more: Any) -> Any:
    return flow.post("token", {"grant_type": JWT_BEARER, "assertion": assertion, "resource": flow.resource} | more)


def by_assertion(flow: Flow, assertion: str, **more: Any) -> Any:
    form = {
        "grant_type": "client_credentials",
        "client_id": flow.agent.client_id,
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": assertion,
        "resource": flow.resource,
    } | more
    return flow.post("token", {name: value for name, value in form.items() if value is not None})


def read(answer: Any) -> dict[str, Any]:
    assert answer.status_code == 200, answer.content
    found: dict[str, Any] = jwt.decode(answer.json()["access_token"], options={"verify_signature": False})
    return found


def refused(flow: Flow, answer: Any, reason: str, code: str = "invalid_grant", status: int = 400) -> None:
    assert (answer.status_code, answer.json()["error"]) == (status, code), answer.content
    action = "client.refused" if code == "invalid_client" else "token.refused"
    assert events_of(flow.house.tenant.id, action)[-1].reasons == [reason]


def test_a_workflow_gets_a_token_for_its_agent_without_any_secret(
    acme: House, actions: Provider, trust: TrustedIssuer
) -> None:
    flow = robot(acme)
    credential = let_in(flow, trust)
    assertion = actions.sign(github(acme), {"typ": "JWT", "x5t": "x"})
    claims = read(by_grant(flow, assertion))  # no client_id: the rules single it out (RFC 7521 §4.1)
    assert (claims["sub"], claims["client_id"]) == (str(flow.agent.id), flow.agent.client_id) and "act" not in claims
    assert claims["scope"] == "rooms:read" and claims["aud"] == flow.resource
    issued = events_of(acme.tenant.id, "token.issued")[-1]
    assert issued.details["vouched_by"]["issuer"] == ACTIONS and issued.details["grant_type"] == JWT_BEARER
    assert issued.details["vouched_by"]["sub"] == "repo:acme/app:ref:refs/heads/main"
    assert assertion not in issued.body
    credential.refresh_from_db()
    trust.refresh_from_db()
    assert credential.last_used_at is not None and trust.last_used_at is not None


def test_the_same_token_may_be_the_clients_proof(acme: House, actions: Provider, trust: TrustedIssuer) -> None:
    """RFC 7523 §2.2, with `client_id`: the assertion's own `sub` is the platform's word, not ours."""
    flow = robot(acme)
    let_in(flow, trust)
    assertion = actions.sign(github(acme))
    assert read(by_assertion(flow, assertion))["sub"] == str(flow.agent.id)
    assert read(by_assertion(flow, assertion, client_id=None))["sub"] == str(flow.agent.id)
    said = flow.post(
        "introspect",
        {
            "token": by_grant(flow, assertion).json()["access_token"],
            "client_id": flow.agent.client_id,
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": assertion,
        },
    )
    assert said.json()["active"] is True


@pytest.mark.parametrize("alg", [None, "EdDSA", "Ed25519"])
def test_a_platform_may_call_its_algorithm_by_either_name(acme: House, alg: str | None) -> None:
    """RFC 9864 §2.2: Ed25519 is EdDSA by a plainer name, in the header of a token and in a key set."""
    platform = Provider(ACTIONS, key=new_key("Ed25519"))
    jwk = platform.jwk | ({"alg": alg} if alg else {})
    trust = platform.trusted_by(acme, "workload", jwks={"keys": [jwk]}, algorithms=["EdDSA"])
    flow = robot(acme)
    let_in(flow, trust)
    assert read(by_grant(flow, platform.sign(github(acme))))["sub"] == str(flow.agent.id)
    other = Provider(ACTIONS, key=new_key("Ed25519"))
    refused(flow, by_grant(flow, other.sign(github(acme))), "assertion_signature")
    wrong = Provider(ACTIONS)
    refused(flow, by_grant(flow, wrong.sign(github(acme))), "assertion_algorithm")


def test_it_may_be_shown_again_until_it_expires(acme: House, actions: Provider, trust: TrustedIssuer) -> None:
    """Decided: a cluster hands a token out for an hour and it is read from a file, so `jti` is not spent."""
    flow = robot(acme)
    let_in(flow, trust)
    assertion = actions.sign(github(acme))
    assert {by_grant(flow, assertion).status_code for _ in range(3)} == {200}
    assert len({one.details["jti"] for one in events_of(acme.tenant.id, "token.issued")}) == 3


def test_a_workload_token_that_is_not_exactly_right_is_refused(
    acme: House, actions: Provider, trust: TrustedIssuer
) -> None:
    flow = robot(acme)
    let_in(flow, trust)
    for case in CORPUS:
        assertion = spoiled(actions, acme, github(acme), {"typ": "JWT"}, case)
        answer = by_grant(flow, assertion)
        assert answer.status_code in (400, 401), (case["name"], answer.content)
        assert answer.json()["error"] in ("invalid_grant", "invalid_client"), case["name"]
        answer = by_assertion(flow, assertion)
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client"), (case["name"], answer.content)
    assert not events_of(acme.tenant.id, "token.issued")


@pytest.mark.parametrize("bound", [{"jkt": "x"}, {"x5t#S256": "x"}, {}, "x"])
def test_one_that_is_bound_to_a_key_lets_nobody_in_without_it(
    acme: House, actions: Provider, trust: TrustedIssuer, bound: Any
) -> None:
    """RFC 7800: no proof of such a key is read here, so whoever shows it may have found it."""
    flow = robot(acme)
    let_in(flow, trust)
    assertion = actions.sign(github(acme, cnf=bound))
    refused(flow, by_grant(flow, assertion), "assertion_limits")
    refused(flow, by_assertion(flow, assertion), "assertion_limits", "invalid_client", 401)


def test_whatever_a_rule_names_must_be_so(acme: House, actions: Provider, trust: TrustedIssuer) -> None:
    flow = robot(acme)
    let_in(flow, trust)
    for other in (
        {"repository": "acme/app2"},
        {"repository": "evil/app"},
        {"repository": "ACME/app"},
        {"repository": None},
        {"repository": ["acme/app"]},
        {"ref": "refs/heads/main2"},
        {"ref": "refs/pull/1/merge"},
    ):
        refused(flow, by_grant(flow, actions.sign(github(acme, **other))), "workload_unknown")
        answer = by_assertion(flow, actions.sign(github(acme, **other)))
        refused(flow, answer, "workload_unknown", "invalid_client", 401)


def test_a_workload_that_two_agents_let_in_must_say_which(acme: House, actions: Provider, trust: TrustedIssuer) -> None:
    first, second = robot(acme), robot(acme, "The other run")
    let_in(first, trust)
    let_in(second, trust, {"sub": "repo:acme/app:*"})
    assertion = actions.sign(github(acme))
    refused(first, by_grant(first, assertion), "workload_ambiguous")
    for flow in (first, second):
        assert read(by_grant(flow, assertion, client_id=flow.agent.client_id))["sub"] == str(flow.agent.id)


def test_a_client_id_that_its_rules_do_not_let_in_is_refused(
    acme: House, actions: Provider, trust: TrustedIssuer
) -> None:
    let_in(robot(acme), trust)
    other = robot(acme, "The other run")
    answer = by_grant(other, actions.sign(github(acme)), client_id=other.agent.client_id)
    refused(other, answer, "workload_unknown")
    answer = by_assertion(other, actions.sign(github(acme)))
    refused(other, answer, "workload_unknown", "invalid_client", 401)


def test_beside_another_proof_it_must_be_the_same_agents(
    acme: House, flow: Flow, actions: Provider, trust: TrustedIssuer
) -> None:
    """An agent with a secret that brings somebody else's workload token gets nothing of it."""
    let_in(robot(acme), trust)
    answer = by_grant(flow, actions.sign(github(acme)), **flow.proof())
    refused(flow, answer, "workload_unknown")


def test_without_an_admins_grant_it_opens_nothing(acme: House, actions: Provider, trust: TrustedIssuer) -> None:
    with in_tenant(acme.tenant.id):
        agent = cast.assistant(acme, name="Idle", kind="autonomous", auth_method="workload_identity", redirect_uris=[])
    flow = Flow(acme, agent)
    let_in(flow, trust)
    refused(flow, by_grant(flow, actions.sign(github(acme))), "no_grant", "unauthorized_client")


def test_what_has_ended_lets_nobody_in(acme: House, actions: Provider, trust: TrustedIssuer) -> None:
    flow = robot(acme)
    credential, assertion = let_in(flow, trust), actions.sign(github(acme))
    with in_tenant(acme.tenant.id):
        Credential.objects.filter(pk=credential.pk).update(expires_at=now())
    refused(flow, by_grant(flow, assertion), "workload_unknown")
    with in_tenant(acme.tenant.id):
        Credential.objects.filter(pk=credential.pk).update(expires_at=None)
        flow.agent.suspend(by=acme.owner)
    refused(flow, by_grant(flow, assertion), "agent_suspended", "unauthorized_client")
    with in_tenant(acme.tenant.id):
        flow.agent.let_back(by=acme.owner)
        credential.retire(by=acme.owner)
    refused(flow, by_grant(flow, assertion), "workload_unknown")


def test_when_trust_ends_tokens_that_it_got_end_too(acme: House, actions: Provider, trust: TrustedIssuer) -> None:
    flow = robot(acme)
    credential, assertion = let_in(flow, trust), actions.sign(github(acme))
    token = by_grant(flow, assertion).json()["access_token"]
    with in_tenant(acme.tenant.id):
        assert read_own_token(acme.tenant, token) is not None
        assert suspend_issuer(trust, by=acme.owner).tokens == 1
        assert read_own_token(acme.tenant, token) is None
        assert Agent.objects.get(pk=flow.agent.pk).is_active  # the agent itself is not stopped
    refused(flow, by_grant(flow, assertion), "issuer_suspended")
    with in_tenant(acme.tenant.id):
        trust.let_back(by=acme.owner)
    assert by_grant(flow, assertion).status_code == 200
    with in_tenant(acme.tenant.id):
        remove_issuer(trust, by=acme.owner)
        with pytest.raises(WrongState):
            remove_issuer(trust, by=acme.owner)
        with pytest.raises(WrongState):
            trust.let_back(by=acme.owner)
    credential.refresh_from_db()
    assert credential.retired_at is not None
    refused(flow, by_grant(flow, assertion), "issuer_not_trusted")


def test_another_tenants_platform_is_nobodys_here(acme: House, globex: House, actions: Provider) -> None:
    with in_tenant(acme.tenant.id):
        flow = robot(acme)
    actions.trusted_by(globex, "workload")
    refused(flow, by_grant(flow, actions.sign(github(acme))), "issuer_not_trusted")


def test_an_identity_provider_is_no_platform(acme: House, actions: Provider) -> None:
    """Nor the other way round: a person's id token must not be able to log a machine in."""
    trust = actions.trusted_by(acme)
    flow = robot(acme)
    with pytest.raises(ValidationError, match="speaks for people"):
        let_in(flow, trust)
    refused(flow, by_grant(flow, actions.sign(github(acme))), "issuer_not_trusted")


def test_a_public_client_or_one_of_high_assurance_is_let_in_by_nothing_else(acme: House, trust: TrustedIssuer) -> None:
    with in_tenant(acme.tenant.id):
        public = cast.assistant(acme, auth_method="none")
        assured = cast.assistant(acme, name="Payments")
        Agent.objects.filter(pk=assured.pk).update(high_assurance=True)
        assured.refresh_from_db()
    for agent in (public, assured):
        with pytest.raises(ValidationError):
            let_in(Flow(acme, agent), trust)


def test_one_who_became_of_high_assurance_later_is_refused_too(
    acme: House, actions: Provider, trust: TrustedIssuer
) -> None:
    flow = robot(acme)
    let_in(flow, trust)
    with in_tenant(acme.tenant.id):
        Agent.objects.filter(pk=flow.agent.pk).update(high_assurance=True)
    answer = by_assertion(flow, actions.sign(github(acme)))
    refused(flow, answer, "weak_authentication", "invalid_client", 401)


def test_letting_a_workload_in_is_on_record_and_has_an_end(acme: House, trust: TrustedIssuer) -> None:
    flow = robot(acme)
    for number in range(LIVE_WORKLOADS):
        let_in(flow, trust, {"repository_id": str(number)})
    event = events_of(acme.tenant.id, "credential.added")[-1]
    assert event.details == {"kind": "workload", "kid": "", "issuer": ACTIONS, "claims": {"repository_id": "4"}}
    with pytest.raises(WrongState, match="5 workloads"):
        let_in(flow, trust)
    with in_tenant(acme.tenant.id):  # keys and secrets are counted for themselves
        add_secret(flow.agent, by=acme.owner)


def test_an_audience_of_its_own_takes_the_place_of_ours(acme: House, actions: Provider) -> None:
    trust = actions.trusted_by(acme, "workload", audience="https://acme.example/agents")
    flow = robot(acme)
    let_in(flow, trust)
    refused(flow, by_grant(flow, actions.sign(github(acme))), "assertion_audience")
    read(by_grant(flow, actions.sign(github(acme, aud="https://acme.example/agents"))))


def test_a_pod_is_let_in_by_its_service_account(acme: House) -> None:
    cluster = Provider(CLUSTER, key=rsa.generate_private_key(65537, 2048))
    trust = cluster.trusted_by(acme, "workload", name="Shop cluster")
    flow = robot(acme)
    let_in(flow, trust, {"sub": "system:serviceaccount:shop:agent"})
    pod = {
        "iss": CLUSTER,
        "aud": [us(acme)],
        "sub": "system:serviceaccount:shop:agent",
        "kubernetes.io": {"namespace": "shop", "serviceaccount": {"name": "agent", "uid": "1"}},
    }
    read(by_grant(flow, cluster.sign(pod | times(3607))))
    other = pod | {"sub": "system:serviceaccount:shop:agent2"}
    refused(flow, by_grant(flow, cluster.sign(other | times(3607))), "workload_unknown")
    forever = {name: value for name, value in (pod | times()).items() if name != "exp"}
    refused(flow, by_grant(flow, cluster.sign(forever)), "assertion_expired")  # the old kind that never expires


# Rules


@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"ref": "refs/heads/main"},
        {"repository_owner": "acme"},
        {"sub": "*"},
        {"sub": "repo:*"},
        {"sub": "repo:acme/*"},
        {"sub": "repo:acme/app*"},
        {"sub": "system:serviceaccount:*"},
        {"sub": "system:serviceaccount:shop*"},
        {"sub": "spiffe://acme.example/*"},
        {"sub": "repo:*/app:ref:refs/heads/main"},
        {"repository": "acme/*"},
        {"repository": ""},
        {"repository": "a\0b"},
        {"repository": 5},
        {"repository": "acme/app", "ref": "*"},
        {"repository": "acme/app", "": "x"},
        {"repository": "x" * 301},
        {"repository": "acme/app"} | {f"c{n}": "x" for n in range(10)},
    ],
)
def test_a_rule_that_would_let_anybody_in_is_none(rules: dict[str, Any]) -> None:
    with pytest.raises(RuleRefused):
        checked(rules)


@pytest.mark.parametrize(
    ("rules", "claims", "fits"),
    [
        ({"sub": "repo:acme/app:*"}, {"sub": "repo:acme/app:ref:refs/heads/x"}, True),
        ({"sub": "repo:acme/app:*"}, {"sub": "repo:acme/app:"}, False),
        ({"sub": "repo:acme/app:*"}, {"sub": "repo:acme/app2:ref:x"}, False),
        ({"sub": "system:serviceaccount:shop:*"}, {"sub": "system:serviceaccount:shop:agent"}, True),
        ({"repository": "acme/app", "ref": "refs/tags/v*"}, {"repository": "acme/app", "ref": "refs/tags/v1"}, True),
        ({"repository": "acme/app", "ref_protected": "true"}, {"repository": "acme/app", "ref_protected": True}, True),
        ({"project_id": "5"}, {"project_id": 5}, True),
        ({"project_id": "5"}, {"project_id": 50}, False),
        ({"project_id": "5"}, {"project_id": 5.0}, False),
        ({"project_id": "5"}, {}, False),
        ({}, {"sub": "x"}, False),
    ],
)
def test_rules_compare_whole_values(rules: dict[str, str], claims: dict[str, Any], fits: bool) -> None:
    assert matches(checked(rules) if rules else rules, claims) is fits


def test_a_rule_is_said_in_words() -> None:
    said = sentence({"ref": "refs/tags/*", "repository": "acme/app"})
    assert said == "repository is acme/app and ref begins with refs/tags/"


# SPIFFE


def svid(house: House, **changes: Any) -> dict[str, Any]:
    """JWT-SVID §3: sub, aud and exp; neither iss nor iat is promised."""
    said = {"sub": "spiffe://acme.example/ns/shop/sa/agent", "aud": [us(house)], "exp": times()["exp"]}
    return {name: value for name, value in (said | changes).items() if value is not None}


@pytest.fixture
def domain(acme: House) -> Provider:
    return Provider(DOMAIN, use="jwt-svid")


def by_svid(flow: Flow, assertion: str, **more: Any) -> Any:
    return by_assertion(flow, assertion, client_assertion_type=SPIFFE_TYPE, **more)


def test_a_jwt_svid_proves_the_agent_where_the_trust_domain_is_trusted(acme: House, domain: Provider) -> None:
    flow = robot(acme)
    refused(flow, by_svid(flow, domain.sign(svid(acme))), "issuer_not_trusted", "invalid_client", 401)  # the switch
    trust = domain.trusted_by(acme, "spiffe", name="Shop")
    let_in(flow, trust, {"sub": "spiffe://acme.example/ns/shop/sa/agent"})
    assert read(by_svid(flow, domain.sign(svid(acme))))["sub"] == str(flow.agent.id)
    assert read(by_svid(flow, domain.sign(svid(acme)), client_id=None))["sub"] == str(flow.agent.id)
    for changes, reason in (
        ({"sub": "spiffe://acme.example/ns/shop/sa/other"}, "workload_unknown"),
        ({"sub": "spiffe://evil.example/ns/shop/sa/agent"}, "issuer_not_trusted"),
        ({"sub": "spiffe://acme.example.evil/ns"}, "issuer_not_trusted"),
        ({"sub": "spiffe://acme.example"}, "assertion_issuer"),
        ({"sub": None}, "assertion_issuer"),
        ({"aud": [us(acme), "https://other.example"]}, "assertion_audience"),
        ({"aud": "spiffe://acme.example/other"}, "assertion_audience"),
        ({"exp": None}, "assertion_expired"),
        ({"exp": 5}, "assertion_expired"),
        ({"exp": times(200_000)["exp"]}, "assertion_too_long"),
        ({"cnf": {"jkt": "x"}}, "assertion_limits"),
    ):
        answer = by_svid(flow, domain.sign(svid(acme, **changes)))
        refused(flow, answer, reason, "invalid_client", 401)
    answer = by_svid(flow, domain.sign(svid(acme), key="other"))
    refused(flow, answer, "assertion_signature", "invalid_client", 401)


def test_other_keys_of_a_bundle_sign_no_jwt_svid(acme: House, domain: Provider) -> None:
    """SPIFFE trust domain and bundle §4.2.2: only those with `use` jwt-svid."""
    domain.use = "x509-svid"
    trust = domain.trusted_by(acme, "spiffe", name="Shop")
    flow = robot(acme)
    let_in(flow, trust, {"sub": "spiffe://acme.example/ns/shop/sa/agent"})
    refused(flow, by_svid(flow, domain.sign(svid(acme))), "issuer_keys_unavailable", "invalid_client", 401)


def test_a_rule_of_a_trust_domain_stays_in_it(acme: House, domain: Provider) -> None:
    trust = domain.trusted_by(acme, "spiffe", name="Shop")
    with pytest.raises(ValidationError, match="sub begins with"):
        let_in(robot(acme), trust, {"sub": "spiffe://evil.example/ns/shop/sa/agent"})
