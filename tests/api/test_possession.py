"""Bound tokens at our own API (RFC 9449 §7): the same rules as at the gateway, and the same words on record."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings
from django.test import Client

from agentauth.keys.addresses import management_url
from agentauth.policy.decision import Reason
from tests import cast
from tests.api.tokens import management_agent, management_grant, token
from tests.oauth.proofs import Holder

pytestmark = pytest.mark.django_db


class BoundApi:
    """An agent with a token that is bound to its key."""

    def __init__(self, house: cast.House) -> None:
        self.holder = Holder()
        grant = management_grant(house, management_agent(house), None, {"agents:read": "always"})
        self.agent_id = grant.agent_id
        self.path = management_url(house.tenant.slug).removeprefix(settings.KNOBS.base_url) + "/agents"
        self.token = token(house, grant, "agents:read", cnf={"jkt": self.holder.jkt})
        self.unbound = token(house, grant, "agents:read")

    def proof(self, path: str = "", **changes: Any) -> str:
        return self.holder.proof(
            "GET", settings.KNOBS.base_url + (path or self.path), **({"token": self.token} | changes)
        )

    def get(self, proof: str | None = None, *, scheme: str = "DPoP", token: str = "", path: str = "") -> Any:
        headers = {"Authorization": f"{scheme} {token or self.token}"} | ({"DPoP": proof} if proof is not None else {})
        return Client().get(path or self.path, headers=headers)


@pytest.fixture
def acme() -> cast.House:
    return cast.acme()


@pytest.fixture
def api(acme: cast.House) -> BoundApi:
    return BoundApi(acme)


def refused(acme: cast.House, answer: Any, error: str, reason: Reason, agent_id: object) -> None:
    assert answer.status_code == 401 and f'error="{error}"' in answer["WWW-Authenticate"], answer.content
    event = acme.events("call.refused")[-1]
    assert (event.reasons, event.agent_id) == ([reason.value], agent_id)


def test_with_a_proof_it_opens(acme: cast.House, api: BoundApi) -> None:
    answer = api.get(api.proof(), path=api.path + "?limit=5")
    assert answer.status_code == 200 and answer["DPoP-Nonce"] and answer["Cache-Control"] == "no-store"
    assert acme.events("call.allowed")[-1].agent_id == api.agent_id


def test_without_our_nonce_it_is_told_and_nothing_is_on_record(acme: cast.House, api: BoundApi) -> None:
    """§9."""
    told = api.get(api.proof(nonce=None))
    assert told.status_code == 401 and "DPoP algs=" in told["WWW-Authenticate"]
    assert 'error="use_dpop_nonce"' in told["WWW-Authenticate"]
    assert acme.events("call.refused") == []
    assert api.get(api.proof(nonce=told["DPoP-Nonce"])).status_code == 200


def test_as_bearer_it_is_nothing_and_unbound_it_does_not_pass_for_bound(acme: cast.House, api: BoundApi) -> None:
    """§7.2."""
    refused(acme, api.get(scheme="Bearer"), "invalid_token", Reason.PROOF_MISSING, api.agent_id)
    refused(acme, api.get(api.proof(), scheme="Bearer"), "invalid_token", Reason.PROOF_MISSING, api.agent_id)
    answer = api.get(api.proof(token=api.unbound), token=api.unbound)
    refused(acme, answer, "invalid_token", Reason.TOKEN_NOT_BOUND, api.agent_id)


def test_a_proof_counts_once_and_for_this_request(acme: cast.House, api: BoundApi) -> None:
    """§4.3, §11.1."""
    proof = api.proof()
    assert api.get(proof).status_code == 200
    refused(acme, api.get(proof), "invalid_dpop_proof", Reason.PROOF_REPLAYED, api.agent_id)
    others = (
        api.proof(api.path + "/another"),
        api.proof(htm="POST"),
        api.proof(token="aaa.bbb.ccc"),
        Holder().proof("GET", settings.KNOBS.base_url + api.path, token=api.token),
        "",
    )
    for wrong in others:
        refused(acme, api.get(wrong), "invalid_dpop_proof", Reason.PROOF_INVALID, api.agent_id)


def test_the_metadata_says_so(acme: cast.House) -> None:
    path = f"/.well-known/oauth-protected-resource/api/v1/tenants/{acme.tenant.slug}"
    said = Client().get(path).json()
    assert "ES256" in said["dpop_signing_alg_values_supported"] and said["dpop_bound_access_tokens_required"] is False
