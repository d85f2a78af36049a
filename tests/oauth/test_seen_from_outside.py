"""What a strict checker sees: methods, origins, frames, caches, codes and answers that were taken elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from agentauth.agents.models import Agent
from tenants.rls import in_tenant
from tests.cast import House, events_of, signed_in
from tests.oauth import test_device as device
from tests.oauth.asking import asking_flow, begin
from tests.oauth.browser import CALLBACK, Flow, answer_in, form_of, register
from tests.oauth.entry_points import ENTRY_POINTS, EntryPoint, reading
from tests.oauth.test_par import bring, pushed
from tests.oauth.test_self_registration import NATIVE

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
PROVES_ITSELF = {"token_endpoint_auth_method": "client_secret_post"}
HOSTILE_RESOURCES = {
    "not a URL": "office",
    "relative": "/acme/office",
    "with a fragment": "http://localhost:8001/acme/office#x",
    "with an empty fragment": "http://localhost:8001/acme/office#",
    "with a user": "http://acme@localhost:8001/acme/office",
    "with a slash more": "http://localhost:8001/acme/office/",
    "with dots": "http://localhost:8001/acme/x/../office",
    "with a query": "http://localhost:8001/acme/office?x=1",
    "another tenant's": "http://localhost:8001/globex/office",
    "somewhere else": "https://elsewhere.example/",
    "the issuer": "http://localhost:8000/t/acme",
}


def address(entry: EntryPoint) -> str:
    return f"/t/acme/{entry.path}".replace("<str:client_id>", "0" * 36)


@pytest.mark.parametrize("entry", ENTRY_POINTS, ids=str)
def test_a_method_that_an_endpoint_does_not_have_is_405(flow: Flow, entry: EntryPoint) -> None:
    """RFC 9110 §15.5.6: with what would do in Allow."""
    allowed = {*entry.methods, *(("OPTIONS",) if entry.cors or "page" not in entry.reads else ())}
    for method in set(METHODS) - allowed - {"HEAD", "OPTIONS"}:
        answer = flow.browser.generic(method, address(entry))
        assert answer.status_code == 405, (method, answer.status_code)
        named = set(answer["Allow"].split(", "))
        assert set(entry.methods) - {"HEAD"} <= named and ("OPTIONS" in named) == entry.cors, method


@pytest.mark.parametrize("entry", ENTRY_POINTS, ids=str)
def test_only_the_protocol_is_open_to_scripts_of_other_pages(flow: Flow, entry: EntryPoint) -> None:
    """OAuth 2.1 §7.11, RFC 9700 §2.6: never at authorize, and never with a person's cookie."""
    origin = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"}
    answers = [flow.browser.generic(method, address(entry), headers=origin) for method in ("OPTIONS", *entry.methods)]
    for answer in answers:
        assert answer.get("Access-Control-Allow-Origin") == ("*" if entry.cors else None)
        assert "Access-Control-Allow-Credentials" not in answer


@pytest.mark.parametrize("entry", [one for one in ENTRY_POINTS if "HEAD" not in one.methods], ids=str)
def test_what_only_one_may_read_is_kept_nowhere(flow: Flow, entry: EntryPoint) -> None:
    """OAuth 2.1 §3.2.3, RFC 7591 §3.2.1: also a refusal, and it says what it is."""
    for method in entry.methods:
        answer = flow.browser.generic(method, address(entry))
        assert answer.status_code < 500 and "no-store" in answer["Cache-Control"], (method, answer.headers)
        assert answer["X-Content-Type-Options"] == "nosniff"
        if entry.reads & {"form", "json", "bearer"} and answer.content:
            assert answer["Content-Type"] == "application/json" and answer.json()["error"]


def test_pages_of_the_authorization_server_are_kept_framed_and_told_of_nowhere(flow: Flow) -> None:
    """RFC 9700 §4.16 and §4.2.4: no frame, no cache, no script, and the address is told to nobody else."""
    pages = [
        flow.authorize(),
        flow.authorize(redirect_uri="https://evil.example/"),
        flow.browser.get("/t/acme/device/"),
    ]
    for page in pages:
        assert page["Content-Type"].startswith("text/html; charset=utf-8")
        assert "frame-ancestors 'none'" in page["Content-Security-Policy"] and page["X-Frame-Options"] == "DENY"
        assert page["Referrer-Policy"] in ("same-origin", "no-referrer") and "no-store" in page["Cache-Control"]
        assert b"http://" not in page.content.replace(b"http://localhost", b"").replace(b"http://www.w3.org", b"")
    back = flow.answer(pages[0])
    assert (back.status_code, back["Referrer-Policy"]) == (303, "no-referrer") and "no-store" in back["Cache-Control"]


def test_every_answer_of_authorize_says_whose_it_is(flow: Flow) -> None:
    """RFC 9207 §2, RFC 9700 §2.1: code, no and error, straight or pushed, as the metadata spells it."""
    issuer = Client().get("/.well-known/oauth-authorization-server/t/acme").json()["issuer"]
    answers = [
        flow.answer(flow.authorize(prompt="consent")),
        flow.answer(flow.authorize(prompt="consent"), "deny"),
        flow.authorize(response_type="token"),
        flow.authorize(),
        bring(flow, pushed(flow)),
    ]
    assert [answer_in(one)["iss"] for one in answers] == [issuer] * 5


def test_a_code_taken_to_another_browser_is_of_no_use(flow: Flow) -> None:
    """OAuth 2.1 §7.5.1, RFC 9700 §4.5: a code put into another one's session meets another verifier."""
    ada = Flow(flow.house, flow.agent, flow.secret).sign_in("ada")
    stolen = ada.code()
    answer = flow.redeem(stolen)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    assert ada.redeem(stolen).json()["error"] == "invalid_grant"  # and it is gone for everybody
    assert events_of(flow.house.tenant.id, "token.refused")[0].reasons == ["pkce_wrong"]


def test_what_nobody_may_guess_has_more_bits_than_anybody_can_try(flow: Flow) -> None:
    """OAuth 2.1 §7.7, RFC 6749 §10.10: 160 bits, so 27 letters of base64url at least, and never the same ones."""
    made: dict[str, list[str]] = {"code": [], "refresh token": [], "request_uri": [], "secret": [], "device code": []}
    device_flow = device.device_flow(flow.house, name="A device")
    for number in range(5):
        made["code"].append(flow.code())
        made["refresh token"].append(flow.tokens()["refresh_token"])
        made["request_uri"].append(pushed(flow).rpartition(":")[2])
        made["device code"].append(device.start(device_flow).json()["device_code"])
        registered = register(flow.house, NATIVE | {"client_name": f"Number {number}"} | PROVES_ITSELF)
        made["secret"].append(registered.json()["client_secret"])
    for kind, values in made.items():
        assert len(set(values)) == 5 and min(map(len, values)) >= 27, kind
        assert all(len(set(value)) > 12 for value in values), kind  # letters as chance has them, not a counter


@pytest.mark.parametrize("why", HOSTILE_RESOURCES)
def test_a_resource_that_is_none_is_invalid_target_at_every_door(acme: House, globex: House, why: str) -> None:
    """RFC 8707 §2, OAuth 2.1 §3.2.4."""
    flow = device.device_flow(acme, name="One with all ways")
    asker, resource = asking_flow(acme, name="An asker"), HOSTILE_RESOURCES[why]
    token = flow.tokens()["refresh_token"]
    said = {
        "oauth/authorize": answer_in(flow.authorize(resource=resource))["error"],
        "oauth/par": flow.post("par", flow.request(resource=resource) | flow.proof()).json()["error"],
        "oauth/device_authorization": device.start(flow, resource=resource).json()["error"],
        "oauth/bc-authorize": begin(asker, resource=resource).json()["error"],
        "oauth/token": flow.refresh(token, resource=resource).json()["error"],
    }
    assert said == {one.path: "invalid_target" for one in reading("resource")}


def test_a_client_with_several_addresses_names_one(flow: Flow) -> None:
    """OAuth 2.1 §2.3.2."""
    with in_tenant(flow.house.tenant.id):
        Agent.objects.filter(pk=flow.agent.pk).update(redirect_uris=[CALLBACK, CALLBACK + "2"])
    answer = flow.authorize(redirect_uri=None)
    assert answer.status_code == 400 and "Location" not in answer
    assert events_of(flow.house.tenant.id, "authorization.refused")[-1].reasons == ["redirect_uri_missing"]


def test_a_client_does_not_choose_its_client_id(acme: House) -> None:
    """RFC 7591 §3.2.1, RFC 9700 §4.15: what looks like a person's id can never be a client's."""
    wanted = str(acme.members["matt"].id)
    said = [register(acme, NATIVE | {"client_id": wanted}).json()["client_id"] for _ in range(2)]
    assert len({*said, wanted}) == 3


@pytest.mark.parametrize(
    "grant_type", ["password", "implicit", "urn:ietf:params:oauth:grant-type:saml2-bearer", "CODE"]
)
def test_a_password_is_no_grant(flow: Flow, grant_type: str) -> None:
    """RFC 9700 §2.4, OAuth 2.1 §10: nor is anything else that is gone."""
    form = {"grant_type": grant_type, "username": "matt@acme.example", "password": "secret"} | flow.proof()
    assert flow.post("token", form).json()["error"] == "unsupported_grant_type"


@pytest.mark.parametrize("value", ["token", "id_token", "code id_token", "none", "CODE", "code code", " code"])
def test_no_response_type_but_code(flow: Flow, value: str) -> None:
    """OAuth 2.1 §3.1.1, RFC 9700 §2.1.2: MUST be an error, and nothing comes in a fragment."""
    answer = flow.authorize(response_type=value)
    assert answer_in(answer)["error"] == "unsupported_response_type" and "#" not in answer["Location"]


@pytest.mark.parametrize("value", ["fragment", "form_post", "jwt", "query.jwt", "web_message", "QUERY"])
def test_no_response_mode_but_query(flow: Flow, value: str) -> None:
    assert answer_in(flow.authorize(response_mode=value))["error"] == "invalid_request"


def test_what_another_tenant_gave_out_is_unknown_here(flow: Flow, globex: House) -> None:
    """Its client, its pushed request and its question; the same answer as for what nobody gave out."""
    request_uri, page = pushed(flow), flow.authorize()
    gus = Flow(globex, flow.agent, flow.secret, browser=signed_in(globex.members["gus"]))
    for answer in (gus.authorize(), bring(gus, request_uri), bring(gus, request_uri[:-4] + "AAAA")):
        assert answer.status_code == 400 and "Location" not in answer
    assert {event.reasons[0] for event in events_of(globex.tenant.id, "client.refused")} == {"unknown_client"}
    assert events_of(globex.tenant.id, "authorization.refused") == []
    answered: Any = flow.browser.post("/t/globex/oauth/consent", {"answer": "allow"} | form_of(page))
    assert answered.status_code in (400, 403, 404) and "Location" not in answered


def test_the_host_that_a_client_names_changes_nothing(flow: Flow) -> None:
    """RFC 8414 §3.3: the issuer is what the operator says, whatever the request says."""
    said = Client().get("/t/acme/.well-known/openid-configuration").json()
    for headers in ({"X-Forwarded-Host": "evil.example"}, {"Forwarded": "host=evil.example"}, {"X-Original-URL": "/x"}):
        assert Client().get("/t/acme/.well-known/openid-configuration", headers=headers).json() == said
        assert b"evil" not in flow.browser.get(flow.path("authorize"), headers=headers).content
