"""Changing credentials without downtime: two live, each retired alone, keys published elsewhere read again."""

from __future__ import annotations

import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from agentauth.agents.models import Agent, WrongState
from agentauth.agents.registering import add_key, add_secret
from agentauth.keys.signing import thumbprint
from agentauth.oauth import client_keys
from agentauth.outbound.fetch import Fetched, FetchFailed
from tenants.rls import in_tenant
from tests import cast
from tests.cast import House, events_of
from tests.oauth.browser import Flow
from tests.oauth.test_token import assertion, by_key

KEYS = "https://client.example/keys.json"


def proven(answer: Any) -> bool:
    """Authentication went well; what failed comes after it."""
    assert answer.json()["error"] in ("invalid_grant", "invalid_client"), answer.content
    return bool(answer.json()["error"] == "invalid_grant")


def new_key() -> tuple[ec.EllipticCurvePrivateKey, dict[str, Any]]:
    private = ec.generate_private_key(ec.SECP256R1())
    jwk = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(private.public_key()))
    return private, jwk | {"kid": thumbprint(jwk)}


def test_two_secrets_prove_the_same_agent_and_each_is_retired_alone(flow: Flow) -> None:
    first, house = flow.secret, flow.house
    with in_tenant(house.tenant.id):
        _, second = add_secret(flow.agent, by=house.owner)
        with pytest.raises(WrongState):
            add_secret(flow.agent, by=house.owner)  # no third that somebody forgets
    assert proven(flow.redeem("none")) and proven(flow.redeem("none", client_secret=second))
    with in_tenant(house.tenant.id):
        flow.agent.credentials.get(hint=first[-4:]).retire(by=house.owner)
    assert not proven(flow.redeem("none", client_secret=first))
    assert proven(flow.redeem("none", client_secret=second))
    assert len(events_of(house.tenant.id, "credential.retired")) == 1


def test_two_keys_prove_the_same_agent_and_each_is_retired_alone(acme: House) -> None:
    (first, first_jwk), (second, second_jwk) = new_key(), new_key()
    with in_tenant(acme.tenant.id):
        agent = cast.assistant(acme, auth_method="private_key_jwt")
        old = add_key(agent, first_jwk, by=acme.owner)
        add_key(agent, second_jwk, by=acme.owner)
    flow = Flow(acme, agent)
    assert proven(by_key(flow, assertion(flow, first))) and proven(by_key(flow, assertion(flow, second)))
    with in_tenant(acme.tenant.id):
        old.retire(by=acme.owner)
    assert not proven(by_key(flow, assertion(flow, first)))
    assert proven(by_key(flow, assertion(flow, second)))


def test_a_jti_is_spent_whatever_audience_it_came_with(acme: House) -> None:
    private, jwk = new_key()
    with in_tenant(acme.tenant.id):
        agent = cast.assistant(acme, auth_method="private_key_jwt")
        add_key(agent, jwk, by=acme.owner)
    flow = Flow(acme, agent)
    assert proven(by_key(flow, assertion(flow, private, jti="one")))
    again = assertion(flow, private, jti="one", aud=f"{flow.issuer}/oauth/token")  # RFC 7523 §3
    assert not proven(by_key(flow, again))


def test_keys_that_a_client_publishes_are_read_again_for_a_new_one_and_kept_when_it_is_away(
    acme: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first, first_jwk), (second, second_jwk) = new_key(), new_key()
    published: list[dict[str, Any]] | None = [first_jwk]
    asked: list[str] = []

    def fetch(url: str, **_: Any) -> Fetched:
        asked.append(url)
        if published is None:
            raise FetchFailed("It did not answer.")
        return Fetched(200, {"cache-control": "max-age=600"}, json.dumps({"keys": published}).encode(), url)

    monkeypatch.setattr(client_keys, "fetch", fetch)
    monkeypatch.setattr(client_keys, "_AGAIN", 0.0)
    client_keys._kept.clear()
    with in_tenant(acme.tenant.id):
        agent = cast.assistant(acme, auth_method="private_key_jwt")
        Agent.objects.filter(pk=agent.pk).update(jwks_uri=KEYS)
    flow = Flow(acme, agent)

    def come(key: Any, jwk: dict[str, Any]) -> bool:
        return proven(by_key(flow, assertion(flow, key, header={"kid": jwk["kid"]})))

    assert come(first, first_jwk) and come(first, first_jwk) and asked == [KEYS]
    published = [first_jwk, second_jwk]
    assert come(second, second_jwk) and len(asked) == 2  # an unknown kid has them read again
    published = None
    assert come(first, first_jwk) and come(second, second_jwk) and len(asked) == 2
    published = [second_jwk]
    client_keys._kept[KEYS].fresh_until = 0.0
    assert not come(first, first_jwk) and come(second, second_jwk)
