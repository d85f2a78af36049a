"""Addresses that may not be, fed to every door that takes one or answers to one: none is taken, none is followed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from unittest import mock
from urllib.parse import urlencode

import pytest

from agentauth.agents.models import Agent
from agentauth.api import agents as management
from agentauth.console import agent_form
from agentauth.oauth import authorization_request, client_document, client_metadata
from agentauth.outbound.fetch import Fetched
from tenants.rls import in_tenant
from tests import cast
from tests.api.tokens import robot
from tests.cast import House, events_of, signed_in
from tests.console.test_registering import filled
from tests.oauth.browser import CALLBACK, Flow, register
from tests.oauth.entry_points import reading
from tests.oauth.test_client_configuration import Registered
from tests.oauth.test_redirect_uris import CORPUS
from tests.oauth.test_self_registration import NATIVE, flow_of

TEXTS = [uri for uri in CORPUS["refused_at_registration"] if isinstance(uri, str) and uri]
UNREGISTERED = TEXTS + CORPUS["not_the_registered"] + CORPUS["loopback_other"]
DOCUMENT = "https://host.example/c"

Takes = Callable[[Any], bool]  # was it taken, or followed?


def asks_by_get(flow: Flow) -> Takes:
    return lambda uri: leads_away(flow.authorize(redirect_uri=uri))


def asks_by_post(flow: Flow) -> Takes:
    """A POST becomes a GET of our own; that is followed too."""

    def door(uri: Any) -> bool:
        body = urlencode(flow.request(redirect_uri=uri))
        answer = flow.browser.post(flow.path("authorize"), body, content_type="application/x-www-form-urlencoded")
        if answer.status_code != 303:
            return leads_away(answer)
        assert answer["Location"].startswith(flow.path("authorize") + "?")
        return leads_away(flow.browser.get(answer["Location"]))

    return door


def leads_away(answer: Any) -> bool:
    return answer.status_code != 400 or "Location" in answer


def pushes(flow: Flow) -> Takes:
    def door(uri: Any) -> bool:
        answer = flow.post("par", flow.request(redirect_uri=uri) | flow.proof())
        return (answer.status_code, answer.json().get("error")) != (400, "invalid_request")

    return door


def registers(flow: Flow) -> Takes:
    def door(uri: Any) -> bool:
        return is_taken(register(flow.house, NATIVE | {"redirect_uris": ["https://a.example/cb", uri]}), uri)

    return door


def changes(flow: Flow) -> Takes:
    mine = Registered(flow.house)

    return lambda uri: is_taken(mine.change(redirect_uris=[uri]), uri)


def is_taken(answer: Any, uri: Any) -> bool:
    """With NUL in it, it is the document that is no text."""
    code = "invalid_client_metadata" if "\0" in str(uri) else "invalid_redirect_uri"
    return (answer.status_code, answer.json().get("error")) != (400, code)


def introduces_itself(flow: Flow) -> Takes:
    """By a document that names a good address and this one, and asks for this one."""
    other = flow_of(flow.house, DOCUMENT)

    def door(uri: Any) -> bool:
        said = {"client_id": DOCUMENT, "client_name": "C", "redirect_uris": ["https://host.example/cb", uri]}
        body = client_body(said)
        fetched = Fetched(200, {"content-type": "application/json", "cache-control": "no-store"}, body, DOCUMENT)
        with in_tenant(flow.house.tenant.id):
            Agent.objects.filter(client_id=DOCUMENT).update(document_fresh_until=None)
        with mock.patch.object(client_document, "fetch", return_value=fetched):
            page = other.authorize(redirect_uri=uri, scope="rooms:read")
        with in_tenant(flow.house.tenant.id):
            kept = Agent.objects.filter(client_id=DOCUMENT).values_list("redirect_uris", flat=True).first()
        return (isinstance(uri, str) and leads_away(page)) or kept not in (None, ["https://host.example/cb"])

    return door


def client_body(said: dict[str, Any]) -> bytes:
    return json.dumps(said).encode()


def over_rest(flow: Flow) -> Takes:
    with in_tenant(flow.house.tenant.id):
        api = robot(flow.house)

    def door(uri: Any) -> bool:
        made = api.post("/agents", {"name": "X", "kind": "delegated", "redirect_uris": [uri]})
        changed = api.patch(f"/agents/{flow.agent.id}", {"redirect_uris": [uri]})
        return {made.status_code, changed.status_code} - {400, 422} != set()

    return door


def in_the_console(flow: Flow) -> Takes:
    browser = signed_in(flow.house.owner)
    with in_tenant(flow.house.tenant.id):
        form = filled(flow.house)
    edit = f"/t/acme/agents/{flow.agent.id}/edit/"

    def door(uri: Any) -> bool:
        said = form | {"redirect_uris": f"{CALLBACK}\n{uri}"}
        answers = [browser.post("/t/acme/agents/new/", said), browser.post(edit, said)]
        return {answer.status_code for answer in answers} - {400, 422} != set()

    return door


# Each with what it is fed, and the check that a mutant takes away
DOORS: dict[str, tuple[Callable[[Flow], Takes], list[Any], tuple[Any, str]]] = {
    "oauth/authorize": (asks_by_get, UNREGISTERED, (authorization_request, "is_registered")),
    "oauth/authorize by POST": (asks_by_post, UNREGISTERED, (authorization_request, "is_registered")),
    "oauth/par": (pushes, UNREGISTERED, (authorization_request, "is_registered")),
    "oauth/register": (registers, CORPUS["refused_at_registration"], (client_metadata, "require_registrable")),
    "oauth/register/<str:client_id>": (changes, CORPUS["refused_at_registration"],
                                       (client_metadata, "require_registrable")),
    "a client's own document": (introduces_itself, [uri for uri in CORPUS["refused_at_registration"] if uri != ""],
                                (client_metadata, "require_registrable")),
    "the REST API": (over_rest, CORPUS["refused_at_registration"], (management, "require_registrable")),
    "the console": (in_the_console, [uri for uri in TEXTS if uri.split() == [uri]],
                    (agent_form, "require_registrable")),
}  # fmt: skip


@pytest.fixture
def registered(flow: Flow) -> Flow:
    with in_tenant(flow.house.tenant.id):
        uris = [CORPUS["registered"], *CORPUS["loopback_registered"]]
        Agent.objects.filter(pk=flow.agent.pk).update(redirect_uris=uris)
    return flow


def taken(flow: Flow, where: str, fed: list[Any]) -> list[Any]:
    takes = DOORS[where][0](flow)
    return [uri for uri in fed if takes(uri)]


def test_every_door_that_takes_an_address_is_fed() -> None:
    assert {one.path for one in reading("redirect_uri")} <= set(DOORS)


@pytest.mark.parametrize("where", DOORS)
def test_no_door_takes_or_follows_an_address_that_may_not_be(registered: Flow, where: str) -> None:
    """OAuth 2.1 §2.3 and §7.12, RFC 9700 §2.1, RFC 9126 §2.1, RFC 7591 §5."""
    assert taken(registered, where, DOORS[where][1]) == []
    with in_tenant(registered.house.tenant.id):
        kept = [uri for agent in Agent.objects.filter(tenant=registered.house.tenant) for uri in agent.redirect_uris]
    assert not set(kept) & set(TEXTS)
    if "authorize" in where or "par" in where:
        refused = events_of(registered.house.tenant.id, "authorization.refused")
        assert len(refused) >= len(UNREGISTERED) * 0.9  # the rest is malformed before it is an address at all


@pytest.mark.parametrize("where", ["oauth/authorize", "oauth/par", "oauth/register", "the REST API", "the console"])
def test_the_sweep_notices_a_door_without_its_check(registered: Flow, where: str) -> None:
    room, name = DOORS[where][2]
    with mock.patch.object(room, name, side_effect=lambda uri, *_: uri):
        assert taken(registered, where, TEXTS[:1]) == TEXTS[:1]


def test_a_door_takes_what_real_clients_use(acme: House) -> None:
    """A sweep that refuses everything proves nothing."""
    for uri in CORPUS["accepted_at_registration"]:
        assert register(acme, NATIVE | {"redirect_uris": [uri]}).status_code == 201, uri
    with in_tenant(acme.tenant.id):
        agent = cast.assistant(acme, redirect_uris=CORPUS["accepted_at_registration"])
    flow = Flow(acme, agent).sign_in()
    for uri in CORPUS["accepted_at_registration"]:
        assert flow.authorize(redirect_uri=uri).status_code == 200, uri
