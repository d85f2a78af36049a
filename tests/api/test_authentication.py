"""A bearer token opens the API only while everything that it stands for is good."""

import time
from typing import Any

import jwt
import pytest
from django.test import Client

from agentauth.keys.addresses import issuer, management_url, resource_url
from agentauth.policy.decision import Reason
from tenants.models import Revocation, Role
from tenants.revocation import revoke
from tenants.rls import set_tenant
from tests import cast
from tests.api.tokens import Api, helper_of, management_agent, management_grant, robot, token

pytestmark = pytest.mark.django_db


@pytest.fixture
def acme():
    return cast.acme()


def refused(answer, code, status):
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["type"].endswith(f"/api/v1/problems/#{code}")
    return answer.json()


def test_without_a_token_the_answer_says_where_to_get_one(acme):
    answer = Api(acme, None).get("/agents")
    refused(answer, "no-token", 401)
    metadata = f"http://localhost:8000/.well-known/oauth-protected-resource/api/v1/tenants/{acme.tenant.slug}"
    offered = 'DPoP algs="ES256 Ed25519 EdDSA PS256 RS256"'
    assert answer["WWW-Authenticate"] == f'Bearer resource_metadata="{metadata}", {offered}'
    described = Client().get(metadata.removeprefix("http://localhost:8000")).json()
    assert described["resource"] == management_url(acme.tenant.slug)
    assert described["authorization_servers"] == [issuer(acme.tenant)]
    assert not acme.events("call.refused")
    path = metadata.removeprefix("http://localhost:8000")
    preflight = Client().options(path, headers={"Origin": "https://app.example"})
    assert preflight.status_code == 204 and preflight["Access-Control-Allow-Origin"] == "*"
    posted = Client(enforce_csrf_checks=True).post(path)
    assert (posted.status_code, posted["Allow"]) == (405, "GET, HEAD, OPTIONS")  # RFC 9110 §15.5.6
    assert Client().get(path.replace(f"/{acme.tenant.slug}", "/nobody")).status_code == 404


def test_a_good_token_opens_and_the_call_is_on_record(acme):
    answer = robot(acme, "agents:read").get("/agents")
    assert answer.status_code == 200, answer.content
    assert [one["name"] for one in answer.json()["items"]] == ["Console robot"]
    (allowed,), (finished,) = acme.events("call.allowed"), acme.events("call.finished")
    assert str(allowed.call_id) == str(finished.call_id) == answer["AgentAuth-Call"]
    assert allowed.operation == "GET /agents" and finished.status == 200


BAD: dict[str, dict[str, Any]] = {
    "another tenant's issuer": {"iss": "http://localhost:8000/t/globex"},
    "another resource": {"aud": resource_url("acme", "office")},
    "two audiences": {"aud": [management_url("acme"), resource_url("acme", "office")]},
    "expired": {"exp": int(time.time()) - 1},
    "from the future": {"iat": int(time.time()) + 600},
    "no jti": {"jti": None},
    "no grant": {"grant_id": None},
    "another grant": {"grant_id": "0192f3a0-0000-7000-8000-000000000000"},
    "a grant that is no id": {"grant_id": "'; DROP TABLE"},
    "another client": {"client_id": "someone"},
    "another subject": {"sub": "0192f3a0-0000-7000-8000-000000000000"},
    "an actor of its own making": {"act": {"sub": "0192f3a0-0000-7000-8000-000000000000"}},
    "a scope that is no text": {"scope": ["agents:read"]},
    "one call that it is for": {"authorization_details": [{"type": "operation", "actions": ["GET /agents"]}]},
    "details of nothing": {"authorization_details": []},
}


@pytest.mark.parametrize("why", BAD)
def test_a_token_with_a_wrong_claim_is_refused(acme, why):
    grant = management_grant(acme, management_agent(acme), None, {"agents:read": "always"})
    answer = Api(acme, token(acme, grant, "agents:read", **BAD[why])).get("/agents")
    refused(answer, "invalid-token", 401)
    assert 'error="invalid_token"' in answer["WWW-Authenticate"]
    (event,) = acme.events("call.refused")
    assert event.reasons[0] in set(Reason) and event.actor_kind == "anonymous"


def test_only_our_own_signature_and_type_count(acme):
    grant = management_grant(acme, management_agent(acme), None, {"agents:read": "always"})
    good = token(acme, grant, "agents:read")
    head, payload, signature = good.split(".")
    claims = jwt.decode(good, options={"verify_signature": False})
    kid = jwt.get_unverified_header(good)["kid"]
    nameless = jwt.utils.base64url_encode(b'{"alg":"ES256","typ":"at+jwt"}').decode()
    forged = {
        "another type": token(acme, grant, "agents:read", header={"typ": "JWT"}),
        "no algorithm": jwt.encode(claims, "", algorithm="none", headers={"typ": "at+jwt", "kid": kid}),
        "a shared secret": jwt.encode(claims, "s" * 32, algorithm="HS256", headers={"typ": "at+jwt", "kid": kid}),
        "a changed signature": f"{head}.{payload}.{'A' * len(signature)}",
        "no kid": f"{nameless}.{payload}.{signature}",
        "too long": good + "A" * 9000,
        "rubbish": "x.y.z",
    }
    for bad in forged.values():
        refused(Api(acme, bad).get("/agents"), "invalid-token", 401)
    assert Api(acme, good).get("/agents").status_code == 200


def test_a_token_in_the_query_is_no_token(acme):
    grant = management_grant(acme, management_agent(acme), None, {"agents:read": "always"})
    refused(Api(acme, None).get("/agents", access_token=token(acme, grant, "agents:read")), "no-token", 401)


@pytest.mark.parametrize("what", ["grant revoked", "agent suspended", "token revoked", "tenant revoked", "admin left"])
def test_what_has_ended_ends_the_token_at_once(acme, what):
    agent = management_agent(acme)
    grant = management_grant(acme, agent, None, {"agents:read": "always"})
    api = Api(acme, token(acme, grant, "agents:read", jti="mine"))
    assert api.get("/agents").status_code == 200
    set_tenant(acme.tenant.id)
    match what:
        case "grant revoked":
            grant.revoke(by=acme.owner)
        case "agent suspended":
            agent.suspend(by=acme.owner)
        case "token revoked":
            revoke(acme.tenant.id, Revocation.Kind.TOKEN, "mine")
        case "tenant revoked":
            revoke(acme.tenant.id, Revocation.Kind.TENANT, acme.tenant.id)
        case "admin left":
            acme.owner.user.is_active = False
            acme.owner.user.save()
    refused(api.get("/agents"), "invalid-token", 401)


@pytest.mark.parametrize("what", ["agent suspended", "grant revoked", "token revoked"])
def test_what_ends_for_an_agent_earlier_in_the_chain_ends_the_token(acme, what):
    """RFC 8693: the token was exchanged for one of `first`."""
    first, last = management_agent(acme, name="First"), management_agent(acme, name="Last")
    before = management_grant(acme, first, acme.owner, {"agents:read": "always"})
    grant = management_grant(acme, last, acme.owner, {"agents:read": "always"})
    via = [{"grant_id": str(before.id), "jti": "its", "aud": management_url("acme"), "scope": "agents:read"}]
    act = {"sub": str(last.id), "act": {"sub": str(first.id)}}
    api = Api(acme, token(acme, grant, "agents:read", act=act, via=via))
    assert api.get("/agents").status_code == 200
    set_tenant(acme.tenant.id)
    match what:
        case "agent suspended":
            first.suspend(by=acme.owner)
        case "grant revoked":
            before.revoke(by=acme.owner)
        case "token revoked":
            revoke(acme.tenant.id, Revocation.Kind.TOKEN, "its")
    refused(api.get("/agents"), "invalid-token", 401)


def test_an_agent_let_back_in_needs_a_new_token(acme):
    agent = management_agent(acme)
    grant = management_grant(acme, agent, None, {"agents:read": "always"})
    old = Api(acme, token(acme, grant, "agents:read", iat=int(time.time()) - 60))
    agent.suspend(by=acme.owner)
    agent.let_back(by=acme.owner)
    refused(old.get("/agents"), "invalid-token", 401)
    later = int(time.time()) + 1  # iat is in whole seconds: one issued in the second of the ban stays void
    with_later = token(acme, grant, "agents:read", iat=later)
    time.sleep(max(0.0, later - time.time()) + 0.05)
    assert Api(acme, with_later).get("/agents").status_code == 200


def test_a_scope_that_the_token_lacks_is_named(acme):
    answer = robot(acme, "agents:read").post("/agents", {"name": "Another", "kind": "delegated"})
    problem = refused(answer, "insufficient-scope", 403)
    assert problem["scope"] == "agents:write"
    assert 'error="insufficient_scope", scope="agents:write"' in answer["WWW-Authenticate"]
    (event,) = acme.events("call.refused")
    assert event.reasons == ["scope_missing"] and event.details["scope"] == "agents:write"


def test_a_scope_taken_from_the_ceiling_counts_no_more(acme):
    from agentauth.resources.ceilings import set_ceiling

    agent = management_agent(acme)
    grant = management_grant(acme, agent, None, {"agents:read": "always"})
    api = Api(acme, token(acme, grant, "agents:read"))
    set_ceiling(agent, [], by=acme.owner)
    refused(api.get("/agents"), "insufficient-scope", 403)


def test_an_agent_can_do_no_more_than_its_persons_role(acme):
    api = helper_of(acme, acme.members["ada"], agents__read="always")
    assert api.get("/agents").status_code == 200
    set_tenant(acme.tenant.id)
    acme.owner.role = Role.MEMBER
    acme.owner.save()
    refused(api.get("/agents"), "role", 403)


def test_ask_me_waits_for_the_persons_yes_to_this_very_call_and_spends_it_once(acme):
    from agentauth.grants.models import Approval

    api = helper_of(acme, acme.owner, agents__write="ask")
    new = {"name": "Night porter", "kind": "delegated"}
    problem = refused(api.post("/agents", new), "needs-approval", 403)
    set_tenant(acme.tenant.id)
    question = Approval.objects.get(id=problem["approval"])
    assert question.operation == "POST /agents" and question.args["body"] == new
    assert problem["ask_at"].endswith(f"/t/acme/my/inbox/{question.id}/")
    assert refused(api.post("/agents", new), "needs-approval", 403)["approval"] == str(question.id)
    set_tenant(acme.tenant.id)
    question.give(by=acme.owner)
    other = refused(api.post("/agents", new | {"name": "Day porter"}), "needs-approval", 403)
    assert other["approval"] != str(question.id)
    assert api.post("/agents", new).status_code == 201
    refused(api.post("/agents", new), "needs-approval", 403)
    assert len(acme.events("call.asked")) == 4


def test_a_question_never_holds_a_secret(acme):
    from agentauth.api.authentication import _without_secrets

    asked = {"body": {"upstream_auth": {"kind": "bearer", "secret": "hush"}, "list": [{"secret": "hush"}]}}
    assert "hush" not in str(_without_secrets(asked))


@pytest.mark.parametrize("path", ["/api/v1/tenants/nobody/agents", "/api/v1/tenants/acme/elsewhere", "/api/v1/x"])
def test_what_is_not_there_is_a_problem_not_a_page(acme, path):
    refused(Client().get(path), "not-found", 404)


def test_a_token_of_globex_opens_nothing_of_acme(acme):
    globex = cast.globex()
    theirs = robot(globex, "agents:read")
    set_tenant(acme.tenant.id)
    theirs.root = "/api/v1/tenants/acme"
    refused(theirs.get("/agents"), "invalid-token", 401)
