"""Clients that introduce themselves: dynamically (RFC 7591) or by a document of their own, capped until looked at."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import uuid4

import jwt
import pytest
from django.test import Client
from django.utils.timezone import now

from agentauth.agents.models import Agent
from agentauth.oauth import client_document
from agentauth.oauth import register as registration
from agentauth.oauth.client_assertion import ASSERTION_TYPE
from agentauth.oauth.client_metadata import SELF_SERVICE_GRANTS
from agentauth.outbound.fetch import Fetched, FetchFailed
from tenants.models import Tenant
from tenants.rls import in_tenant
from tests.cast import House, events_of
from tests.oauth.browser import Flow, answer_in, register
from tests.oauth.forging import Key, jwk_of, new_key

DOCUMENTS = json.loads((Path(__file__).parents[1] / "corpora" / "client_documents.json").read_text())
NATIVE = {
    "client_name": "Some MCP client",
    "redirect_uris": ["http://127.0.0.1/cb"],
    "grant_types": ["authorization_code", "refresh_token"],
    "response_types": ["code"],
    "token_endpoint_auth_method": "none",
    "application_type": "native",
}

WITH_KEY = NATIVE | {"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://a.example/keys"}


def agent_of(house: House, client_id: str) -> Agent:
    with in_tenant(house.tenant.id):
        return Agent.objects.get(tenant=house.tenant, client_id=client_id)


# RFC 7591


def test_a_client_registers_itself_and_everything_is_echoed(acme: House) -> None:
    answer = register(acme, NATIVE | {"scope": "rooms:read", "software_id": "s", "unknown": 1})
    assert answer.status_code == 201 and "no-store" in answer["Cache-Control"]  # §3.2.1
    said = answer.json()
    assert {name: said[name] for name in NATIVE} == NATIVE and said["scope"] == "rooms:read"
    assert said["id_token_signed_response_alg"] == "ES256"  # OpenID Registration §2 has RS256 where nothing is said
    assert "client_secret" not in said and "unknown" not in said and isinstance(said["client_id_issued_at"], int)
    agent = agent_of(acme, said["client_id"])
    assert agent.approved_at is None and agent.owner_id is None and agent.ceiling_risk == "read"
    assert [e.agent_id for e in events_of(acme.tenant.id, "agent.self_registered")] == [agent.id]


def test_a_secret_comes_with_its_expiry_and_works(acme: House) -> None:
    said = register(acme, {"redirect_uris": ["https://a.example/cb"]}).json()
    assert said["token_endpoint_auth_method"] == "client_secret_basic"  # the default of §2
    assert said["client_secret_expires_at"] == 0 and said["client_secret"].replace("-", "").replace("_", "").isalnum()
    flow = Flow(acme, agent_of(acme, said["client_id"]), said["client_secret"])
    assert flow.redeem("nothing").json()["error"] == "invalid_grant"


def test_each_registration_gets_an_id_and_a_secret_of_its_own(acme: House) -> None:
    """§3.2.1, and though they say the same of themselves."""
    one, other = (register(acme, {"redirect_uris": ["https://a.example/cb"]}).json() for _ in range(2))
    assert one["client_id"] != other["client_id"] and one["client_secret"] != other["client_secret"]
    crossed = Flow(acme, agent_of(acme, one["client_id"]), other["client_secret"])
    assert crossed.redeem("nothing").json()["error"] == "invalid_client"
    assert events_of(acme.tenant.id, "client.refused")[-1].reasons == ["wrong_secret"]


def test_a_software_statement_is_passed_over_and_vouches_for_nothing(acme: House) -> None:
    """§3.1.1: it MAY be ignored. Nobody's is trusted here, so it changes nothing and is not repeated."""
    claims = {"iss": "https://bank.example", "client_name": "Bank", "redirect_uris": ["https://bank.example/cb"]}
    said = register(acme, NATIVE | {"software_statement": jwt.encode(claims, "k" * 32)}).json()
    assert {name: said[name] for name in NATIVE} == NATIVE and "software_statement" not in said
    assert agent_of(acme, said["client_id"]).approved_at is None


def test_a_self_registered_client_works_at_once_but_only_to_read(acme: House) -> None:
    said = register(acme, NATIVE).json()
    flow = Flow(acme, agent_of(acme, said["client_id"])).sign_in()
    page = flow.authorize(redirect_uri="http://127.0.0.1:5555/cb", scope="rooms:read rooms:book finance:enter")
    html = page.content.decode()
    assert "a program on this computer" in html and "rooms:book" not in html and "Nobody has checked" in html
    assert NATIVE["client_name"] in html  # §2.2: as it is
    code = answer_in(flow.answer(page))["code"]
    tokens = flow.redeem(code, redirect_uri="http://127.0.0.1:5555/cb").json()
    assert tokens["scope"] == "rooms:read" and "refresh_token" in tokens


@pytest.mark.parametrize(
    ("document", "error"),
    [
        ("[]", "invalid_client_metadata"),
        ("{", "invalid_client_metadata"),
        ({}, "invalid_redirect_uri"),
        ({"redirect_uris": "https://a.example/cb"}, "invalid_redirect_uri"),
        ({"redirect_uris": ["http://evil.example/cb"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["javascript:alert(1)"]}, "invalid_redirect_uri"),
        (NATIVE | {"application_type": "web"}, "invalid_redirect_uri"),
        (NATIVE | {"application_type": "toaster"}, "invalid_client_metadata"),
        # OpenID Registration §2: a web application is not on its person's computer
        ({"application_type": "web", "redirect_uris": ["https://localhost/cb"]}, "invalid_redirect_uri"),
        ({"application_type": "web", "redirect_uris": ["https://127.0.0.1:8443/cb"]}, "invalid_redirect_uri"),
        (NATIVE | {"scope": 'a"b'}, "invalid_client_metadata"),
        (WITH_KEY | {"token_endpoint_auth_signing_alg": "none"}, "invalid_client_metadata"),
        (WITH_KEY | {"token_endpoint_auth_signing_alg": ["ES256"]}, "invalid_client_metadata"),
        (NATIVE | {"require_pushed_authorization_requests": "yes"}, "invalid_client_metadata"),
        (NATIVE | {"token_endpoint_auth_method": "tls_client_auth"}, "invalid_client_metadata"),
        (NATIVE | {"token_endpoint_auth_method": ["none"]}, "invalid_client_metadata"),
        (NATIVE | {"token_endpoint_auth_method": "private_key_jwt"}, "invalid_client_metadata"),
        (NATIVE | {"grant_types": ["client_credentials"]}, "invalid_client_metadata"),
        (NATIVE | {"grant_types": "authorization_code"}, "invalid_client_metadata"),
        (NATIVE | {"response_types": ["token"]}, "invalid_client_metadata"),
        (NATIVE | {"client_name": {"x": 1}}, "invalid_client_metadata"),
        (NATIVE | {"logo_uri": "javascript:x"}, "invalid_client_metadata"),
        (NATIVE | {"client_name": "a\0b"}, "invalid_client_metadata"),
        # §2: keys that would not be used must be right all the same
        (NATIVE | {"jwks_uri": "http://127.0.0.1/keys"}, "invalid_client_metadata"),
        (NATIVE | {"jwks_uri": "https://a.example/keys", "jwks": {"keys": []}}, "invalid_client_metadata"),
        (NATIVE | {"jwks": {"keys": [{"kty": "oct", "k": "AAAA"}]}}, "invalid_client_metadata"),
        (
            NATIVE | {"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "http://localhost/keys"},
            "invalid_client_metadata",
        ),
    ],
)
def test_metadata_that_cannot_be_is_refused(acme: House, document: Any, error: str) -> None:
    answer = register(acme, document)
    assert (answer.status_code, answer.json()["error"]) == (400, error)  # §3.2.2
    assert events_of(acme.tenant.id, "agent.self_registered") == []
    assert len(events_of(acme.tenant.id, "client.refused")) == 1


@pytest.mark.parametrize(("alg", "answer"), [("ES256", "invalid_grant"), ("RS256", "invalid_client")])
def test_a_client_that_names_one_algorithm_proves_itself_with_no_other(acme: House, alg: str, answer: str) -> None:
    """OpenID Registration §2: token_endpoint_auth_signing_alg."""
    key = new_key()
    keys = {"jwks_uri": None, "jwks": {"keys": [jwk_of(key) | {"kid": "one"}]}}
    said = register(acme, WITH_KEY | keys | {"token_endpoint_auth_signing_alg": alg}).json()
    assert said["token_endpoint_auth_signing_alg"] == alg
    flow = Flow(acme, agent_of(acme, said["client_id"]))
    assert (
        flow.post("token", {"grant_type": "refresh_token", "refresh_token": "x"} | proof_by(key, flow)).json()["error"]
        == answer
    )
    refused = events_of(acme.tenant.id, "client.refused")
    assert [event.reasons for event in refused] == ([["assertion_header"]] if answer == "invalid_client" else [])


def test_a_name_that_tries_to_mislead_is_cleaned(acme: House) -> None:
    said = register(acme, NATIVE | {"client_name": "Good\u202e\u200b \x1b[31mBank\n" + "x" * 200}).json()
    assert said["client_name"].startswith("Good") and len(said["client_name"]) <= 80
    assert said["client_name"].isprintable()


@pytest.mark.parametrize("blank", ["\u3164", "\u2800\u115f", "\u200b\u3164 \uffa0"])
def test_a_name_that_shows_nothing_is_none(acme: House, blank: str) -> None:
    web = {"application_type": "web", "redirect_uris": ["https://a.example/cb"]}
    said = register(acme, NATIVE | web | {"client_name": blank}).json()
    assert said["client_name"] == "Unnamed client of a.example"


def test_a_tenant_may_close_registration(acme: House) -> None:
    Tenant.objects.filter(pk=acme.tenant.pk).update(open_registration=False)
    assert register(acme, NATIVE).status_code == 403


def test_registration_is_held_to_a_rate(acme: House) -> None:
    with mock.patch.object(registration, "_PER_ADDRESS", 2):
        assert [register(acme, NATIVE).status_code for _ in range(3)] == [201, 201, 429]
        assert "Retry-After" in register(acme, NATIVE)


# Client ID Metadata Documents


class Web:
    """Other people's servers: what they answer now."""

    def __init__(self) -> None:
        self.pages: dict[str, Fetched] = {}
        self.asked: list[str] = []

    def put(
        self, url: str, document: Any, *, status: int = 200, kind: str = "application/json", **headers: str
    ) -> None:
        body = document.encode() if isinstance(document, str) else json.dumps(document).encode()
        said = {"content-type": kind} | {name.replace("_", "-"): value for name, value in headers.items()}
        self.pages[url] = Fetched(status, said, body, url)

    def fetch(self, url: str, **_: Any) -> Fetched:
        self.asked.append(url)
        if url not in self.pages:
            raise FetchFailed("It did not answer.")
        return self.pages[url]


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Web:
    found = Web()
    monkeypatch.setattr(client_document, "fetch", found.fetch)
    return found


def flow_of(house: House, url: str) -> Flow:
    return Flow(house, Agent(client_id=url)).sign_in()


@pytest.mark.parametrize("case", DOCUMENTS["accepted"], ids=lambda case: case["name"])
def test_real_shapes_of_documents_are_accepted(acme: House, web: Web, case: dict[str, Any]) -> None:
    web.put(case["url"], {"client_id": case["url"], **case["document"]})
    uri = next(u for u in case["document"]["redirect_uris"] if not u.startswith("http://evil"))
    page = flow_of(acme, case["url"]).authorize(redirect_uri=uri, scope="rooms:read")
    assert page.status_code == 200
    html = page.content.decode()
    assert "Verified host" in html and case["url"].split("/")[2] in html
    agent = agent_of(acme, case["url"])
    assert agent.token_endpoint_auth_method == case["method"]
    assert agent.approved_at is None and agent.ceiling_risk == "read"
    assert set(agent.grant_types) <= set(SELF_SERVICE_GRANTS)
    assert not set(case.get("aside", ())) & set(agent.client_metadata)


@pytest.mark.parametrize("case", DOCUMENTS["refused"], ids=lambda case: case["name"])
def test_hostile_documents_are_refused_on_a_page(acme: House, web: Web, case: dict[str, Any]) -> None:
    url = "https://host.example/c"
    good = {"client_id": url, "client_name": "C", "redirect_uris": ["https://host.example/cb"]}
    document = case.get("raw") or {n: v for n, v in (good | case["document"]).items() if v is not None}
    web.put(url, document, status=case.get("status", 200), kind=case.get("type", "application/json"))
    answer = flow_of(acme, url).authorize(redirect_uri="https://host.example/cb")
    assert answer.status_code == 400 and "Location" not in answer
    with in_tenant(acme.tenant.id):
        assert not Agent.objects.filter(client_id=url).exists()
    flow_of(acme, url).authorize(redirect_uri="https://host.example/cb")
    assert len(web.asked) == 2  # errors are not kept


def document_with(key: Key, url: str = "https://host.example/c", **changes: Any) -> dict[str, Any]:
    said = {"client_id": url, "client_name": "C", "redirect_uris": ["https://host.example/cb"]}
    proves = {"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [jwk_of(key) | {"kid": "one"}]}}
    return said | proves | changes


def proof_by(key: Key, flow: Flow) -> dict[str, str]:
    me, at = flow.agent.client_id, int(time.time())
    claims = {"iss": me, "sub": me, "aud": flow.issuer, "jti": uuid4().hex, "iat": at, "exp": at + 60}
    signed = jwt.encode(claims, key, "ES256", headers={"kid": "one"})
    return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": signed}


def test_a_client_whose_document_holds_its_key_proves_itself_with_it_wherever_it_calls(acme: House, web: Web) -> None:
    """§8.2: any communication MUST include the client's proof, of the kind that its document declares."""
    key, callback = new_key(), "https://host.example/cb"
    web.put("https://host.example/c", document_with(key))
    flow = flow_of(acme, "https://host.example/c")
    code = flow.code(redirect_uri=callback, scope="rooms:read")
    fetch = {"grant_type": "authorization_code", "code": code, "redirect_uri": callback}
    forms: dict[str, dict[str, Any]] = {
        "token": fetch | {"code_verifier": flow.verifier},
        "par": flow.request(redirect_uri=callback, scope="rooms:read"),
        "revoke": {"token": "x"},
        "introspect": {"token": "x"},
        "device_authorization": {"scope": "rooms:read", "resource": flow.resource},
        "bc-authorize": {"scope": "openid rooms:read", "resource": flow.resource, "login_hint": "matt@acme.example"},
    }
    for endpoint, form in forms.items():
        for shown, reason in (
            ({"client_id": flow.agent.client_id}, "authentication_method"),
            (proof_by(new_key(), flow), "assertion_signature"),
        ):
            answer = flow.post(endpoint, form | shown)
            assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client"), (endpoint, reason)
            assert events_of(acme.tenant.id, "client.refused")[-1].reasons == [reason], endpoint
    assert flow.post("par", forms["par"] | proof_by(key, flow)).status_code == 201
    assert flow.post("token", forms["token"] | proof_by(key, flow)).status_code == 200


def test_the_page_says_at_whose_host_the_answer_arrives(acme: House, web: Web) -> None:
    """MCP, Localhost Redirect URI Risks: MUST be shown, whatever the client says of itself."""
    url, callback = "https://host.example/c", "https://elsewhere.example/cb"
    web.put(url, {"client_id": url, "client_name": "Elsewhere is not host.example", "redirect_uris": [callback]})
    html = flow_of(acme, url).authorize(redirect_uri=callback, scope="rooms:read").content.decode()
    assert '<b class="mono">elsewhere.example</b>' in html


@pytest.mark.parametrize("url", DOCUMENTS["not_urls"])
def test_what_is_no_document_url_is_never_fetched(acme: House, web: Web, url: str) -> None:
    assert flow_of(acme, url).authorize().status_code == 400
    assert web.asked == []


def test_nobody_makes_us_fetch_without_signing_in(acme: House, web: Web) -> None:
    flow = flow_of(acme, "https://host.example/c")
    flow.browser.logout()
    assert flow.authorize().status_code == 302 and web.asked == []


def test_a_document_is_kept_while_fresh_and_the_last_good_copy_longer(acme: House, web: Web) -> None:
    url, callback = "https://host.example/c", "https://host.example/cb"
    web.put(url, {"client_id": url, "client_name": "C", "redirect_uris": [callback]}, cache_control="max-age=600")
    flow = flow_of(acme, url)
    for _ in range(3):
        assert flow.authorize(redirect_uri=callback, scope="rooms:read").status_code == 200
    assert web.asked == [url]
    with in_tenant(acme.tenant.id):
        Agent.objects.filter(client_id=url).update(document_fresh_until=now())
    web.pages.clear()
    assert flow.authorize(redirect_uri=callback, scope="rooms:read").status_code == 200
    assert len(web.asked) == 2


@pytest.mark.parametrize("said", [{}, {"cache_control": "no-store"}, {"cache_control": "max-age=60", "age": "60"}])
def test_a_document_that_may_not_be_kept_is_read_each_time(acme: House, web: Web, said: dict[str, Any]) -> None:
    """Draft §4.1, RFC 9111 §4.2: what changed there counts at once."""
    url, one, other = "https://host.example/c", "https://host.example/cb", "https://host.example/other"
    for callback in (one, other):
        web.put(url, {"client_id": url, "client_name": "C", "redirect_uris": [callback]}, **said)
        assert flow_of(acme, url).authorize(redirect_uri=callback, scope="rooms:read").status_code == 200
    assert flow_of(acme, url).authorize(redirect_uri=one, scope="rooms:read").status_code == 400
    assert web.asked == [url] * 3


def test_a_document_that_became_another_client_is_asked_about_again(acme: House, web: Web) -> None:
    url, callback = "https://host.example/c", "https://host.example/cb"
    document = {"client_id": url, "client_name": "C", "redirect_uris": [callback]}
    web.put(url, document)
    flow = flow_of(acme, url)
    flow.answer(flow.authorize(redirect_uri=callback, scope="rooms:read"))
    assert flow.authorize(redirect_uri=callback, scope="rooms:read").status_code == 303
    web.put(url, document | {"redirect_uris": [callback, "https://other.example/cb"]})
    again = flow.authorize(redirect_uri=callback, scope="rooms:read")
    assert again.status_code == 200
    assert flow.answer(again).status_code == 303
    assert flow.authorize(redirect_uri=callback, scope="rooms:read").status_code == 303


def test_a_program_on_this_computer_with_a_public_name_is_asked_about_each_time(acme: House, web: Web) -> None:
    url = "https://cli.example/oauth/cli.json"
    web.put(url, {"client_id": url, "client_name": "CLI", "redirect_uris": ["http://localhost/callback"]})
    flow, callback = flow_of(acme, url), "http://localhost:4321/callback"
    flow.answer(flow.authorize(redirect_uri=callback, scope="rooms:read"))
    assert flow.authorize(redirect_uri=callback, scope="rooms:read").status_code == 200  # RFC 8252 §8.6


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""])
def test_a_registration_of_another_type_is_refused(acme: House, kind: str) -> None:
    """RFC 7591 §3.1: a form of a strange page could send anything else."""
    answer = Client().generic("POST", "/t/acme/oauth/register", json.dumps(NATIVE), CONTENT_TYPE=kind)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert events_of(acme.tenant.id, "client.refused")[-1].reasons == ["wrong_content_type"]
