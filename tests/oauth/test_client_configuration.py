"""A client that registered itself reads, changes and removes what it said (RFC 7592)."""

from __future__ import annotations

import json
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import pytest
from django.test import Client

from agentauth.agents.models import Agent, Credential
from agentauth.oauth import client_configuration
from tenants.models import Tenant, secret_hash
from tenants.rls import in_tenant
from tests.cast import House, events_of
from tests.oauth.browser import Flow, answer_in, register
from tests.oauth.test_self_registration import NATIVE, agent_of

CALLBACK = "http://127.0.0.1/cb"


class Registered:
    """A client that registered itself, with what it was given."""

    def __init__(self, house: House, **document: Any) -> None:
        self.house, self.sent = house, NATIVE | document
        self.said = register(house, self.sent).json()
        self.token = self.said["registration_access_token"]

    @property
    def path(self) -> str:
        return urlsplit(str(self.said["registration_client_uri"])).path

    @property
    def agent(self) -> Agent:
        return agent_of(self.house, self.said["client_id"])

    def ask(self, method: str, document: Any = None, *, token: str | None = None, path: str = "") -> Any:
        headers = {"Authorization": f"Bearer {self.token if token is None else token}"} if token != "" else {}
        body = "" if document is None else json.dumps(document)
        return Client().generic(method.upper(), path or self.path, body, "application/json", headers=headers)

    def change(self, **changes: Any) -> Any:
        document = self.sent | {"client_id": self.said["client_id"]} | changes
        answer = self.ask("put", {name: value for name, value in document.items() if value != "(out)"})
        if answer.status_code == 200:
            self.token = answer.json()["registration_access_token"]
        return answer


@pytest.fixture
def mine(acme: House) -> Registered:
    return Registered(acme)


def refusals(house: House) -> list[str]:
    return [event.reasons[0] for event in events_of(house.tenant.id, "client.refused")]


def test_a_registration_says_where_and_how_it_is_managed(acme: House, mine: Registered) -> None:
    here = f"http://localhost:8000/t/acme/oauth/register/{mine.said['client_id']}"
    assert mine.said["registration_client_uri"] == here  # §3
    assert len(mine.token) >= 43  # §5: 256 bits, nobody guesses it
    with in_tenant(acme.tenant.id):
        assert bytes(mine.agent.registration_token_hash or b"") == secret_hash(mine.token)  # a hash and nothing else


def test_it_reads_what_it_said(mine: Registered) -> None:
    answer = mine.ask("get")
    assert answer.status_code == 200 and "no-store" in answer["Cache-Control"]  # §2.1, §3
    assert answer.json() == mine.said


def test_a_secret_is_never_said_again(acme: House) -> None:
    mine = Registered(acme, token_endpoint_auth_method="client_secret_post")
    assert "client_secret" in mine.said
    assert "client_secret" not in mine.ask("get").json()


@pytest.mark.parametrize("method", ["get", "put", "delete"])
def test_a_wrong_token_a_missing_one_and_an_unknown_client_are_all_401(
    acme: House, globex: House, mine: Registered, method: str
) -> None:
    other = Registered(acme, client_name="Another")
    unknown = mine.path.replace(mine.said["client_id"], "0" * 36)
    for asked in (
        {"token": "aar_wrong"},
        {"token": ""},
        {"token": other.token},  # of another client
        {"path": unknown},  # §2: the client does not exist
        {"path": mine.path.replace("/t/acme/", "/t/globex/")},  # of another tenant
    ):
        answer = mine.ask(method, {"client_id": mine.said["client_id"]}, **asked)
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_token"), asked
        challenge = answer["WWW-Authenticate"]  # RFC 6750 §3.1: no code for who showed no token
        shown = asked.get("token") != ""
        assert challenge.startswith("Bearer ") and ('error="invalid_token"' in challenge) == shown, asked
    assert set(refusals(acme)) == {"registration_token"} and len(refusals(acme)) == 4
    assert mine.agent.state == "active"


def test_only_clients_that_registered_themselves_are_managed_so(acme: House, flow: Flow) -> None:
    with in_tenant(acme.tenant.id):
        Agent.objects.filter(pk=flow.agent.pk).update(registration_token_hash=secret_hash("aar_x"))
    answer = Client().get(f"{flow.path('register')}/{flow.agent.client_id}", headers={"Authorization": "Bearer aar_x"})
    assert answer.status_code == 401


def test_a_change_replaces_everything_and_what_is_left_out_is_gone(acme: House) -> None:
    mine = Registered(acme, software_id="s", contacts=["a@b.example"], scope="rooms:read")
    answer = mine.change(client_name="Renamed", scope=None, software_id="(out)", contacts="(out)")
    assert answer.status_code == 200, answer.content  # §2.2
    said = answer.json()
    assert said["client_name"] == "Renamed" and not {"software_id", "contacts", "scope"} & set(said)
    assert said["client_id"] == mine.said["client_id"]
    assert mine.agent.name == "Renamed"
    assert mine.ask("get").json() == said
    (event,) = events_of(acme.tenant.id, "agent.changed")
    assert (event.actor_kind, event.actor) == ("agent", str(mine.agent.id))


def test_a_change_makes_a_new_token_and_ends_the_old_one(mine: Registered) -> None:
    old = mine.token
    assert mine.change(client_name="Renamed").status_code == 200
    assert mine.token != old and mine.ask("get").status_code == 200
    assert mine.ask("get", token=old).status_code == 401  # §2.2, §5


@pytest.mark.parametrize(
    "wrong",
    [
        {"client_id": "(out)"},  # §2.2: MUST be there
        {"client_id": "another"},  # §2.2: MUST be the same
        {"registration_access_token": "x"},  # §2.2: MUST NOT be there, as the next three
        {"registration_client_uri": "https://x.example"},
        {"client_secret_expires_at": 0},
        {"client_id_issued_at": 1},
        {"client_secret": "chosen-by-the-client"},  # §2.2: MUST match
        {"grant_types": ["client_credentials"]},
        {"token_endpoint_auth_method": "tls_client_auth"},
    ],
    ids=str,
)
def test_a_change_that_may_not_be_is_refused_and_changes_nothing(
    acme: House, mine: Registered, wrong: dict[str, Any]
) -> None:
    answer = mine.change(**wrong)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_client_metadata")
    assert mine.ask("get").json() == mine.said
    assert events_of(acme.tenant.id, "agent.changed") == [] and len(refusals(acme)) == 1


def test_its_own_secret_may_be_sent_back(acme: House) -> None:
    mine = Registered(acme, token_endpoint_auth_method="client_secret_basic")
    answer = mine.change(client_secret=mine.said["client_secret"])
    assert answer.status_code == 200 and "client_secret" not in answer.json()


def test_a_redirect_that_may_not_be_is_named_so(mine: Registered) -> None:
    answer = mine.change(redirect_uris=["http://evil.example/cb"])
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_redirect_uri")


def test_another_way_to_prove_itself_gets_a_secret_or_ends_the_old_one(acme: House, mine: Registered) -> None:
    said = mine.change(token_endpoint_auth_method="client_secret_basic").json()
    assert said["client_secret"] and said["client_secret_expires_at"] == 0
    assert mine.change(token_endpoint_auth_method="none").status_code == 200
    with in_tenant(acme.tenant.id):
        (credential,) = Credential.objects.filter(agent=mine.agent)
        assert credential.retired_at is not None
    assert len(events_of(acme.tenant.id, "credential.retired")) == 1


def test_who_became_another_client_is_asked_about_again(acme: House, mine: Registered) -> None:
    flow = Flow(acme, mine.agent).sign_in()
    asked = {"redirect_uri": CALLBACK, "scope": "rooms:read"}
    flow.answer(flow.authorize(**asked))
    assert flow.authorize(**asked).status_code == 303
    assert mine.change(client_name="Same addresses").status_code == 200
    assert flow.authorize(**asked).status_code == 303
    assert mine.change(redirect_uris=[CALLBACK, "https://other.example/cb"]).status_code == 200
    assert "identity_changed_at" not in mine.ask("get").json()
    assert flow.authorize(**asked).status_code == 200


def test_an_approved_badge_keeps_the_name_that_was_approved(acme: House, mine: Registered) -> None:
    with in_tenant(acme.tenant.id):
        mine.agent.approve(by=acme.owner, owner=acme.owner, ceiling_risk="read")
    assert mine.change(client_name="The payroll").status_code == 200
    assert mine.agent.name == NATIVE["client_name"]


def test_where_an_admin_approves_first_who_became_another_client_waits_again(acme: House, mine: Registered) -> None:
    """Else one comes with a good address, is approved, and then has the answers sent elsewhere."""
    with in_tenant(acme.tenant.id):
        Tenant.objects.filter(pk=acme.tenant.pk).update(approval_first=True)
        mine.agent.approve(by=acme.owner, owner=acme.owner, ceiling_risk="read")
    assert mine.change(client_name="Only another name").status_code == 200 and mine.agent.is_approved
    assert mine.change(redirect_uris=["https://other.example/cb"]).status_code == 200
    assert not mine.agent.is_approved
    flow = Flow(acme, mine.agent).sign_in()
    assert flow.authorize(redirect_uri="https://other.example/cb", scope="rooms:read").status_code == 403
    refused = events_of(acme.tenant.id, "authorization.refused")[-1]
    assert refused.reasons == ["approval_first"]


def test_what_an_admin_demands_of_an_approved_client_it_does_not_lift_itself(acme: House, mine: Registered) -> None:
    assert mine.change(dpop_bound_access_tokens=True).status_code == 200
    assert mine.change(dpop_bound_access_tokens=False).status_code == 200 and not mine.agent.dpop_bound_access_tokens
    with in_tenant(acme.tenant.id):
        mine.agent.approve(by=acme.owner, owner=acme.owner, ceiling_risk="read")
        mine.agent.change(by=acme.owner, dpop_bound_access_tokens=True)
    answer = mine.change(dpop_bound_access_tokens=False)
    assert answer.status_code == 200 and answer.json()["dpop_bound_access_tokens"] is True  # §2.2: told what counts
    assert mine.agent.dpop_bound_access_tokens


def test_removing_it_ends_its_grants_and_tokens_and_is_for_good(acme: House, mine: Registered) -> None:
    flow = Flow(acme, mine.agent).sign_in()
    page = flow.authorize(redirect_uri=CALLBACK, scope="rooms:read")
    tokens = flow.redeem(answer_in(flow.answer(page))["code"], redirect_uri=CALLBACK).json()
    answer = mine.ask("delete")
    assert (answer.status_code, answer.content) == (204, b"")  # §2.3
    assert mine.agent.state == "retired"
    answer = flow.refresh(tokens["refresh_token"])  # what has clients register again
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    page = flow.authorize(redirect_uri=CALLBACK, scope="rooms:read")
    assert page.status_code == 400 and "Location" not in page  # nobody is sent on to who is gone
    assert refusals(acme) == ["agent_retired"] * 2
    with in_tenant(acme.tenant.id):
        assert not mine.agent.grants.filter(ended_at=None).exists()
    (event,) = events_of(acme.tenant.id, "agent.retired")
    assert event.actor == str(mine.agent.id)
    assert mine.ask("get").status_code == 401
    assert mine.ask("delete").status_code == 401


def test_a_stopped_client_changes_nothing_about_itself(acme: House, mine: Registered) -> None:
    with in_tenant(acme.tenant.id):
        mine.agent.suspend(by=acme.owner, reason="Odd")
    for method in ("get", "put", "delete"):
        answer = mine.ask(method, {})
        assert (answer.status_code, answer.json()["error"]) == (403, "access_denied")
    assert mine.agent.state == "suspended" and refusals(acme) == ["agent_suspended"] * 3


def test_changes_and_wrong_tokens_are_held_to_a_rate(mine: Registered) -> None:
    with mock.patch.object(client_configuration, "_CHANGES", 2):
        assert [mine.change(client_name=f"N{n}").status_code for n in range(3)] == [200, 200, 429]
    with mock.patch.object(client_configuration, "_WRONG", 2):
        assert [mine.ask("get", token="aar_x").status_code for _ in range(3)] == [401, 401, 429]


def test_other_methods_are_refused_and_any_page_may_ask(mine: Registered) -> None:
    answer = mine.ask("post", {})
    assert answer.status_code == 405 and "PUT" in answer["Allow"]
    asked = Client().options(mine.path)
    assert asked.status_code == 204 and "DELETE" in asked["Access-Control-Allow-Methods"]


def test_closing_registration_leaves_those_who_are_in(acme: House, mine: Registered) -> None:
    Tenant.objects.filter(pk=acme.tenant.pk).update(open_registration=False)
    assert mine.ask("get").status_code == 200
