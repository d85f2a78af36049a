"""An agent with high assurance (the shape of the FAPI 2.0 Security Profile): what it may not leave out."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import jwt
import pytest
from jwt.algorithms import get_default_algorithms

from agentauth.agents.models import Agent, Credential
from agentauth.agents.registering import add_key
from agentauth.oauth.models import AuthorizationCode
from tenants.models import secret_hash
from tenants.rls import in_tenant
from tests import cast
from tests.cast import events_of
from tests.oauth.browser import CALLBACK, Flow, answer_in, basic
from tests.oauth.proofs import Holder, new_key

KINDS = {"ES256": "EC", "PS256": "RSA", "RS256": "RSA", "EdDSA": "OKP"}


class Assured(Flow):
    """Matt's assistant with keys of its own, and high assurance required of it."""

    keys: dict[str, Any]

    def assertion(self, alg: str = "ES256", **changes: Any) -> dict[str, str]:
        now = int(time.time())
        me = self.agent.client_id
        claims = {"iss": me, "sub": me, "aud": self.issuer, "jti": uuid4().hex, "iat": now, "exp": now + 60} | changes
        key = self.keys[KINDS[alg]]
        return {
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": jwt.encode(claims, key, alg, headers={"kid": KINDS[alg]}),
        }

    def push(self, **changes: Any) -> Any:
        return self.post("par", self.request() | self.assertion() | changes)

    def pushed_code(self) -> str:
        uri = self.push().json()["request_uri"]
        asked = dict.fromkeys(self.request()) | {"client_id": self.agent.client_id, "request_uri": uri}
        return self.code(**asked)

    def spend(self, code: str, holder: Holder | None, **changes: Any) -> Any:
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK}
        form |= {"code_verifier": self.verifier} | (changes or self.assertion())
        headers = {"DPoP": holder.proof("POST", f"{self.issuer}/oauth/token")} if holder else {}
        return self.post("token", form, **headers)

    def refused(self, answer: Any, status: int, code: str, reason: str, action: str = "token.refused") -> None:
        assert (answer.status_code, answer.json()["error"]) == (status, code), answer.content
        assert events_of(self.house.tenant.id, action)[-1].reasons == [reason]


def jwk_of(key: Any, alg: str) -> dict[str, Any]:
    jwk: dict[str, Any] = json.loads(get_default_algorithms()[alg].to_jwk(key.public_key()))
    return {name: jwk[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in jwk} | {"kid": jwk["kty"]}


@pytest.fixture
def assured(acme: cast.House) -> Assured:
    keys = {"EC": new_key("ES256"), "RSA": new_key("PS256")}
    with in_tenant(acme.tenant.id):
        agent = cast.assistant(acme, auth_method="private_key_jwt", high_assurance=True)
        for kind, alg in (("EC", "ES256"), ("RSA", "PS256")):
            add_key(agent, jwk_of(keys[kind], alg), by=acme.owner)
    found = Assured(acme, agent)
    found.keys = keys
    found.sign_in()
    return found


def test_it_gets_a_bound_token_by_the_whole_way(assured: Assured) -> None:
    holder = Holder()
    answer = assured.spend(assured.pushed_code(), holder)
    assert answer.status_code == 200, answer.content
    claims = jwt.decode(answer.json()["access_token"], options={"verify_signature": False})
    assert claims["cnf"] == {"jkt": holder.jkt} and answer.json()["token_type"] == "DPoP"
    with in_tenant(assured.house.tenant.id):
        code = AuthorizationCode.objects.get()
    assert (code.expires_at - code.created_at).total_seconds() <= 61  # §5.3.2.1: at most 60 seconds


def test_a_request_that_was_not_pushed_is_refused(assured: Assured) -> None:
    """§5.3.2.2."""
    answer = answer_in(assured.authorize())
    assert answer["error"] == "invalid_request" and "push" in answer["error_description"] and answer["iss"]
    event = events_of(assured.house.tenant.id, "authorization.refused")[-1]
    assert (event.reasons, event.agent_id) == (["not_pushed"], assured.agent.id)


def test_a_token_without_a_proof_is_not_given(assured: Assured) -> None:
    """§5.3.2.1: sender-constrained access tokens only."""
    assured.refused(assured.spend(assured.pushed_code(), None), 400, "invalid_dpop_proof", "proof_missing")


def test_no_shared_secret_counts_even_if_there_is_one(assured: Assured) -> None:
    """§5.3.2.1: private_key_jwt alone."""
    with in_tenant(assured.house.tenant.id):
        Credential.objects.create(
            tenant=assured.house.tenant, agent=assured.agent, kind="secret", secret_hash=secret_hash("a-secret")
        )
    me = assured.agent.client_id
    form = {"grant_type": "refresh_token", "refresh_token": "x"}
    tries = (
        assured.post("token", form, Authorization=basic(me, "a-secret")),
        assured.post("token", form | {"client_id": me, "client_secret": "a-secret"}),
        assured.post("token", form | {"client_id": me}),
        assured.post("par", assured.request()),
        assured.post("revoke", {"token": "x", "client_id": me}),
    )
    for answer in tries:
        assured.refused(answer, 401, "invalid_client", "weak_authentication", "client.refused")


def test_the_assertion_is_for_the_issuer_and_nothing_else(assured: Assured) -> None:
    """§5.3.2.1 no. 6: the issuer as a string; the token endpoint is what is tolerated of others."""
    for aud in (
        f"{assured.issuer}/oauth/token",
        f"{assured.issuer}/",
        [assured.issuer],
        [assured.issuer, "https://else.example"],
    ):
        answer = assured.spend("x", Holder(), **assured.assertion(aud=aud))
        assured.refused(answer, 401, "invalid_client", "assertion_audience", "client.refused")


def test_algorithms_that_are_no_longer_recommended_are_refused(assured: Assured) -> None:
    """§5.4.1: PS256, ES256 or EdDSA."""
    answer = assured.spend("x", Holder(), **assured.assertion("RS256"))
    assured.refused(answer, 401, "invalid_client", "assertion_header", "client.refused")
    weak = assured.spend(assured.pushed_code(), Holder("RS256"))
    assured.refused(weak, 400, "invalid_dpop_proof", "weak_proof")
    assert assured.spend(assured.pushed_code(), Holder("PS256"), **assured.assertion("PS256")).status_code == 200


def test_no_device_asks_for_it(assured: Assured) -> None:
    with in_tenant(assured.house.tenant.id):
        grants = [*assured.agent.grant_types, "urn:ietf:params:oauth:grant-type:device_code"]
        Agent.objects.filter(pk=assured.agent.pk).update(grant_types=grants)
    answer = assured.post("device_authorization", {"client_id": assured.agent.client_id} | assured.assertion())
    assured.refused(answer, 400, "unauthorized_client", "device_not_assured", "authorization.refused")


def test_its_refresh_goes_on_with_key_and_proof_only(assured: Assured) -> None:
    first = assured.spend(assured.pushed_code(), Holder()).json()["refresh_token"]
    form = {"grant_type": "refresh_token", "refresh_token": first}
    assured.refused(assured.post("token", form | assured.assertion()), 400, "invalid_dpop_proof", "proof_missing")
    proof = Holder().proof("POST", f"{assured.issuer}/oauth/token")
    assert assured.post("token", form | assured.assertion(), DPoP=proof).status_code == 200


def test_a_pushed_request_says_where_the_answer_goes(assured: Assured) -> None:
    """§5.3.2.2: redirect_uri, though only one is registered."""
    asked = assured.request(redirect_uri=None) | assured.assertion()
    assured.refused(assured.post("par", asked), 400, "invalid_request", "missing_parameter", "authorization.refused")


def test_what_stands_beside_a_pushed_request_is_not_read(assured: Assured) -> None:
    """§5.3.2.2, RFC 9126 §4: what a browser adds to client_id and request_uri counts for nothing."""
    uri = assured.push().json()["request_uri"]
    asked = {"client_id": assured.agent.client_id, "request_uri": uri, "scope": "finance:enter"}
    page = assured.browser.get(f"{assured.path('authorize')}?{urlencode(asked)}")
    code = answer_in(assured.answer(page))["code"]
    assert set(assured.spend(code, Holder()).json()["scope"].split()) == {"rooms:read", "meeting:enter"}
