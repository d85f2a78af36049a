"""JSON with two readings, fed to whatever reads JSON: refused with the RFC's error, on record, and nothing is made."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from unittest import mock
from urllib.parse import quote

import orjson
import pytest
from django.test import Client

from agentauth.agents.models import Agent
from agentauth.grants.arguments import BadJSON
from agentauth.oauth import authorization_details, client_document, registration_document
from agentauth.outbound.fetch import Fetched
from audit.models import Event
from tenants.rls import in_tenant
from tests.api.tokens import robot
from tests.cast import House
from tests.oauth import test_device as device
from tests.oauth.asking import asking_flow, begin
from tests.oauth.browser import Flow, answer_in
from tests.oauth.entry_points import reading
from tests.oauth.oddities import odd_texts
from tests.oauth.test_authorization_details import ARGUMENTS, detail
from tests.oauth.test_client_configuration import Registered
from tests.oauth.test_self_registration import NATIVE, flow_of

DOCUMENT = "https://host.example/c"
# What a door answered: the status and the code of the error, where it is a protocol's
Answered = tuple[int, str]
Door = Callable[[House], Callable[[bytes], Answered]]


def said(answer: Any) -> Answered:
    return answer.status_code, answer.json().get("error", "")


def registration(house: House) -> Callable[[bytes], Answered]:
    path = f"/t/{house.tenant.slug}/oauth/register"
    # An empty body too comes with its type, which the test client would leave out
    return lambda sent: said(Client().generic("POST", path, sent, CONTENT_TYPE="application/json"))


def change(house: House) -> Callable[[bytes], Answered]:
    mine = Registered(house)
    headers = {"Authorization": f"Bearer {mine.token}"}
    return lambda sent: said(Client().generic("PUT", mine.path, sent, CONTENT_TYPE="application/json", headers=headers))


def client_document_of(house: House) -> Callable[[bytes], Answered]:
    """A person brings a client whose document says this."""
    flow = flow_of(house, DOCUMENT)

    def door(sent: bytes) -> Answered:
        fetched = Fetched(200, {"content-type": "application/json"}, sent, DOCUMENT)
        with mock.patch.object(client_document, "fetch", return_value=fetched):
            page = flow.authorize(redirect_uri="https://host.example/cb", scope="rooms:read")
        assert "Location" not in page
        return page.status_code, "invalid_client" if b"invalid_client" in page.content else "another"

    return door


def management(house: House) -> Callable[[bytes], Answered]:
    with in_tenant(house.tenant.id):
        api = robot(house)

    def door(sent: bytes) -> Answered:
        answer = api.client.generic("POST", f"{api.root}/agents", sent, CONTENT_TYPE="application/json")
        return answer.status_code, answer.json()["type"].rpartition("#")[2]

    return door


def good_document(house: House) -> dict[str, Any]:
    return NATIVE


def changed_document(house: House) -> dict[str, Any]:
    return NATIVE | {"client_id": str(Agent.objects.get(tenant=house.tenant, registration="dynamic").client_id)}


def own_document(house: House) -> dict[str, Any]:
    return {"client_id": DOCUMENT, "client_name": "C", "redirect_uris": ["https://host.example/cb"]}


def new_agent(house: House) -> dict[str, Any]:
    return {"name": "A robot", "kind": "autonomous"}


Good = Callable[[House], dict[str, Any]]
DOORS: dict[str, tuple[Door, Good, Answered, str]] = {
    "oauth/register": (registration, good_document, (400, "invalid_client_metadata"), "client.refused"),
    "oauth/register/<str:client_id>": (change, changed_document, (400, "invalid_client_metadata"), "client.refused"),
    "a client's own document": (client_document_of, own_document, (400, "invalid_client"), "client.refused"),
    "the REST API": (management, new_agent, (400, "malformed"), "call.refused"),
}


def let_through(house: House, where: str) -> list[str]:
    """The oddities that were not refused as they should be, or not on record, or of which something was made."""
    door, good, right, action = DOORS[where]
    with in_tenant(house.tenant.id):
        house.tenant.refresh_from_db()
    ask = door(house)
    with in_tenant(house.tenant.id):
        texts = [one for one in odd_texts(good(house)) if one[0] != "nothing" or where != "the REST API"]  # no fields
        before = known(house)
    wrong = []
    for why, text in texts:
        with in_tenant(house.tenant.id):
            events = Event.objects.filter(tenant=house.tenant, action=action).count()
        answered = ask(text)
        with in_tenant(house.tenant.id):
            recorded = Event.objects.filter(tenant=house.tenant, action=action).count() - events
            if answered != right or recorded != 1 or known(house) != before:
                wrong.append(f"{why}: {answered}, {recorded} events")
    return wrong


def known(house: House) -> list[Any]:
    return list(Agent.objects.filter(tenant=house.tenant).order_by("id").values_list("id", "client_metadata"))


def test_all_that_reads_json_is_fed() -> None:
    assert {one.path for one in reading("json")} <= set(DOORS)
    assert {one.path for one in reading("details")} == set(DETAILS)


@pytest.mark.parametrize("where", DOORS)
def test_json_with_two_readings_is_refused(acme: House, where: str) -> None:
    """RFC 8259 §4 and §8, RFC 7591 §3.2.2, client documents §4, RFC 9457."""
    assert let_through(acme, where) == []


def as_most_read_it(body: bytes) -> Any:
    """The last of two equal names counts."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BadJSON from None


def test_the_sweep_notices_a_parser_that_takes_a_name_twice(acme: House) -> None:
    with mock.patch.object(registration_document, "read_json", as_most_read_it):
        assert any("a name twice" in one for one in let_through(acme, "oauth/register"))


# Details of one call (RFC 9396 §2): JSON within a form


def by_redirect(answer: Any) -> str:
    return answer_in(answer)["error"] if answer.status_code == 303 else str(answer.status_code)


def of_json(answer: Any) -> str:
    return str(answer.json().get("error")) if answer.status_code == 400 else str(answer.status_code)


def asked_by_authorize(flow: Flow) -> Callable[[Any], str]:
    return lambda text: by_redirect(flow.authorize(scope=None, authorization_details=text))


def asked_by_par(flow: Flow) -> Callable[[Any], str]:
    asked = flow.request(scope=None) | flow.proof()
    return lambda text: of_json(flow.post("par", asked | {"authorization_details": text}))


def asked_by_token(flow: Flow) -> Callable[[Any], str]:
    token = flow.tokens()["refresh_token"]
    return lambda text: of_json(flow.refresh(token, authorization_details=text))


def asked_by_device(flow: Flow) -> Callable[[Any], str]:
    shown = device.device_flow(flow.house, name="A device")
    return lambda text: of_json(device.start(shown, scope=None, authorization_details=text))


def asked_by_backchannel(flow: Flow) -> Callable[[Any], str]:
    asker = asking_flow(flow.house, name="An asker")
    return lambda text: of_json(begin(asker, scope="openid", authorization_details=text))


DETAILS: dict[str, Callable[[Flow], Callable[[Any], str]]] = {
    "oauth/authorize": asked_by_authorize,
    "oauth/par": asked_by_par,
    "oauth/token": asked_by_token,
    "oauth/device_authorization": asked_by_device,
    "oauth/bc-authorize": asked_by_backchannel,
}


def details_let_through(flow: Flow, where: str) -> list[str]:
    """The odd member stands where any member may: among what the call's body holds."""
    ask, before, after = DETAILS[where](flow), *json.dumps([detail(flow)]).split(json.dumps(ARGUMENTS["body"]))
    odd = [one for one in odd_texts(ARGUMENTS["body"], before=before, after=after) if one[0] not in _ALSO_PLAIN]
    return [f"{why}: {got}" for why, text in odd if (got := ask(text)) not in _refusals(text, where)]


_ALSO_PLAIN = ("nothing",)  # a parameter without a value counts as left out


def _refusals(text: bytes, where: str) -> tuple[str, ...]:
    """What is no text, or longer than any may be, never comes to be read as details. At authorize all of it must fit
    into an address, written out twice."""
    plain = b"\0" not in text and len(text) <= 8192
    if where == "oauth/authorize":
        plain = plain and len(quote(quote(text))) <= 15_000
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        plain = False
    return ("invalid_authorization_details",) if plain else ("invalid_request", "400", "invalid_authorization_details")


@pytest.mark.parametrize("where", DETAILS)
def test_details_with_two_readings_are_refused(flow: Flow, where: str) -> None:
    """RFC 9396 §5."""
    assert details_let_through(flow, where) == []


def test_the_sweep_notices_details_that_are_read_leniently(flow: Flow) -> None:
    with mock.patch.object(authorization_details, "read_json", as_most_read_it):
        assert any("a name twice" in one for one in details_let_through(flow, "oauth/par"))
