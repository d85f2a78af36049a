"""High assurance of an agent: who may have it, what then can no longer be added, and that it is on record."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from django.core.exceptions import ValidationError

from agentauth.agents.assurance import set_high_assurance
from agentauth.agents.models import Agent
from agentauth.agents.registering import add_key, add_secret
from audit.models import Event
from tests import cast
from tests.api.tokens import robot
from tests.console.test_registering import filled
from tests.oauth.proofs import Holder

pytestmark = pytest.mark.django_db


@pytest.fixture
def acme() -> cast.House:
    return cast.acme()


def keyed(house: cast.House, **more: Any) -> Agent:
    return cast.assistant(house, auth_method="private_key_jwt", **more)


def told(house: cast.House) -> list[Event]:
    """What is on record of high assurance; a ceiling that was set is a change as well."""
    return [event for event in house.events("agent.changed") if "high_assurance" in event.details.get("after", {})]


def reread(agent: Agent) -> Agent:
    return Agent.objects.get(pk=agent.pk)


def test_it_is_required_and_no_longer_and_both_are_on_record(acme: cast.House) -> None:
    agent = keyed(acme)
    set_high_assurance(agent, True, by=acme.owner)
    assert reread(agent).high_assurance
    set_high_assurance(agent, False, by=acme.owner)
    assert not reread(agent).high_assurance
    first, second = told(acme)
    assert (first.details["before"], first.details["after"]) == ({"high_assurance": ""}, {"high_assurance": "True"})
    assert second.details["after"] == {"high_assurance": ""}


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post", "none"])
def test_only_an_agent_with_a_key_can_have_it(acme: cast.House, method: str) -> None:
    with pytest.raises(ValidationError, match="proves itself with a key"):
        cast.assistant(acme, auth_method=method, high_assurance=True)
    agent = cast.assistant(acme, auth_method=method)
    with pytest.raises(ValidationError, match="proves itself with a key"):
        set_high_assurance(agent, True, by=acme.owner)
    assert not reread(agent).high_assurance and told(acme) == []


def test_a_secret_beside_the_key_must_go_first_and_none_is_added_after(acme: cast.House) -> None:
    agent = keyed(acme)
    secret, _ = add_secret(agent, by=acme.owner)
    with pytest.raises(ValidationError, match="Retire its other credentials first"):
        set_high_assurance(agent, True, by=acme.owner)
    secret.retire(by=acme.owner)
    set_high_assurance(agent, True, by=acme.owner)
    with pytest.raises(ValidationError, match="proves itself with a key"):
        add_secret(agent, by=acme.owner)
    add_key(agent, Holder(key=ec.generate_private_key(ec.SECP256R1())).jwk, by=acme.owner)


def test_over_rest(acme: cast.House) -> None:
    api = robot(acme, "agents:read", "agents:write")
    new = {"name": "Payer", "kind": "delegated", "auth_method": "private_key_jwt", "public_jwk": Holder().jwk}
    made = api.post("/agents", new | {"high_assurance": True})
    assert made.status_code == 201 and made.json()["agent"]["high_assurance"] is True, made.content
    where = f"/agents/{made.json()['agent']['id']}"
    refused = api.post(f"{where}/credentials", {"kind": "secret"})
    assert refused.status_code == 422 and refused.json()["errors"][0]["field"] == "kind"
    changed = api.patch(where, {"high_assurance": False, "dpop_bound_access_tokens": True}).json()
    assert (changed["high_assurance"], changed["dpop_bound_access_tokens"]) == (False, True)
    weak = api.post("/agents", {"name": "Weak", "kind": "delegated", "high_assurance": True})
    assert weak.status_code == 422 and weak.json()["errors"][0]["field"] == "high_assurance"


def test_in_the_console(acme: cast.House) -> None:
    ada = cast.signed_in(acme.owner)
    answer = ada.post("/t/acme/agents/new/", filled(acme, high_assurance="on"))
    agent = Agent.objects.get(tenant=acme.tenant, name="Supplier scout")
    assert answer.status_code == 303 and agent.high_assurance
    assert acme.events("agent.registered")[0].details["high_assurance"] is True
    page = ada.get(f"/t/acme/agents/{agent.id}/").content.decode()
    assert "somebody steals opens nothing" in page and "Require it no longer" in page
    assert ada.post(f"/t/acme/agents/{agent.id}/relax/").status_code == 303
    assert not reread(agent).high_assurance
    assert ada.post(f"/t/acme/agents/{agent.id}/assure/").status_code == 303
    assert reread(agent).high_assurance
    for path in ("assure", "relax"):
        for who in ("matt", "cora"):
            assert cast.signed_in(acme.members[who]).post(f"/t/acme/agents/{agent.id}/{path}/").status_code == 403
        assert ada.get(f"/t/acme/agents/{agent.id}/{path}/").status_code == 405


def test_in_the_console_a_secret_and_high_assurance_do_not_go_together(acme: cast.House) -> None:
    answer = cast.signed_in(acme.owner).post("/t/acme/agents/new/", filled(acme, proof="secret", high_assurance="on"))
    assert answer.status_code == 422 and "proves itself with a key" in answer.content.decode()
    assert not Agent.objects.filter(tenant=acme.tenant).exists()
    agent = cast.assistant(acme)
    page = cast.signed_in(acme.owner).get(f"/t/acme/agents/{agent.id}/").content.decode()
    assert 'id="assurance"' not in page  # there is nothing to choose
