"""An issuer at a host of its own: all of it is there, none of it anywhere else, and no other tenant answers there."""

from __future__ import annotations

from typing import Any

import jwt
import pytest
from django.conf import settings
from django.core.exceptions import ValidationError
from django.test import Client
from django.urls import URLPattern

from agentauth.keys.addresses import issuer
from agentauth.oauth.urls import at_own_host, urlpatterns
from audit.actions import Action
from tenants.hosts import read_issuer_host
from tenants.issuer import move_issuer
from tenants.models import Tenant
from tenants.rls import in_tenant
from tests.cast import CAST, House, events_of, signed_in
from tests.oauth.browser import Flow, answer_in, form_of

HOST = "auth.acme.example"
BASE = "http://localhost:8000"
HERE = f"http://{HOST}:8000"
FORMS = ("/.well-known/oauth-authorization-server{}", "/.well-known/openid-configuration{}")


def move(house: House, host: str = HOST) -> None:
    with in_tenant(house.tenant.id):
        move_issuer(house.tenant, host, by=CAST)


def at(host: str) -> Client:
    return Client(HTTP_HOST=host)


class OwnFlow(Flow):
    """The same client and person, who find the issuer at its own host."""

    def path(self, endpoint: str) -> str:
        return f"/oauth/{endpoint}"

    def sign_in(self, who: str = "matt") -> OwnFlow:
        super().sign_in(who)
        self.browser.defaults["HTTP_HOST"] = HOST
        session = self.browser.session
        session["signed-in-at-host"] = HOST
        session.save()
        return self

    def post(self, endpoint: str, form: Any, **headers: str) -> Any:
        return super().post(endpoint, form, Host=HOST, **headers)


@pytest.fixture
def own(flow: Flow) -> OwnFlow:
    move(flow.house)
    return OwnFlow(flow.house, flow.agent, flow.secret).sign_in()


@pytest.fixture
def production(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "ANY_HOST", False)
    return


@pytest.mark.parametrize("form", FORMS)
def test_the_host_describes_its_issuer_byte_for_byte(own: OwnFlow, form: str) -> None:
    answer = at(HOST).get(form.format(""))
    assert answer.status_code == 200
    said = answer.json()
    assert said["issuer"] == HERE == issuer(own.house.tenant)  # RFC 8414 §3.3
    addresses = [url for name, url in said.items() if name.endswith("_endpoint") or name == "jwks_uri"]
    assert len(addresses) >= 8 and all(url.startswith(f"{HERE}/oauth/") for url in addresses)


def test_every_endpoint_that_the_host_names_answers_there(own: OwnFlow) -> None:
    said = at(HOST).get(FORMS[0].format("")).json()
    for name, url in said.items():
        if name.endswith("_endpoint") or name == "jwks_uri":
            assert at(HOST).post(url.removeprefix(HERE)).status_code in (303, 400, 401, 405), name


@pytest.mark.parametrize("form", [form.format("/t/acme") for form in FORMS] + ["/t/acme" + f.format("") for f in FORMS])
def test_the_path_is_no_issuer_any_more(own: OwnFlow, form: str) -> None:
    for host in ("localhost", HOST):
        assert at(host).get(form).status_code == 404, host  # no redirect: RFC 8414 §3.3 compares with what was asked


def test_no_address_of_an_issuer_answers_where_the_issuer_is_not(own: OwnFlow, globex: House) -> None:
    """Each path of the map, so that a new endpoint cannot be forgotten."""
    paths = [pattern for pattern in urlpatterns if isinstance(pattern, URLPattern)]
    assert len(paths) >= 13
    inside = signed_in(own.house.members["matt"])
    for pattern in paths:
        route = str(pattern.pattern)
        moved, stayed = (route.replace("<issuer:tenant>", slug) for slug in ("acme", "globex"))
        for host, browser, path in (("ours", inside, moved), (HOST, own.browser, moved), (HOST, own.browser, stayed)):
            answers = {browser.get(f"/{path}").status_code, browser.post(f"/{path}").status_code}
            assert 404 in answers <= {404, 405}, (host, path, answers)
    own_paths = [str(p.pattern).replace("<here:tenant>", "") for p in at_own_host if isinstance(p, URLPattern)]
    for path in own_paths:
        assert at("localhost").get(f"/{path}").status_code == 404, path
        assert at("other.globex.example").get(f"/{path}").status_code == 404, path


def test_a_hosts_secrets_are_of_no_use_at_another_tenants_host(own: OwnFlow, globex: House) -> None:
    move(globex, "auth.globex.example")
    form = {"grant_type": "client_credentials"} | own.proof()
    answer = Client().post(
        "/oauth/token", "&".join(f"{k}={v}" for k, v in form.items()), headers={"Host": "auth.globex.example"},
        content_type="application/x-www-form-urlencoded",
    )  # fmt: skip
    assert answer.status_code == 401 and answer.json()["error"] == "invalid_client"
    assert answer["WWW-Authenticate"].startswith('Basic realm="http://auth.globex.example:8000"')
    assert events_of(globex.tenant.id, Action.CLIENT_REFUSED) and not events_of(
        own.house.tenant.id, Action.CLIENT_REFUSED
    )
    token = own.tokens()["access_token"]
    told = Client().post(
        "/oauth/introspect", f"token={token}&client_id={own.agent.client_id}&client_secret={own.secret}",
        content_type="application/x-www-form-urlencoded", headers={"Host": "auth.globex.example"},
    )  # fmt: skip
    assert told.status_code == 401


def test_a_person_signs_in_and_answers_at_the_issuers_host(own: OwnFlow) -> None:
    stranger = at(HOST)
    sent = stranger.get(own.path("authorize") + "?" + "&".join(f"{k}={v}" for k, v in own.request(state="s").items()))
    assert sent.status_code in (302, 303) and sent["Location"].startswith("/account/login/?next=%2Foauth%2Fauthorize")
    assert stranger.get(sent["Location"]).status_code == 200
    page = own.authorize()
    assert 'action="/oauth/consent"' in page.content.decode()
    answered = answer_in(own.answer(page))
    assert answered["iss"] == HERE  # RFC 9207 §2
    tokens = own.redeem(answered["code"]).json()
    claims = jwt.decode(tokens["access_token"], options={"verify_signature": False})
    assert claims["iss"] == HERE
    told = own.post("introspect", {"token": tokens["access_token"]} | own.proof()).json()
    assert told["active"] is True and told["iss"] == HERE
    assert events_of(own.house.tenant.id, Action.TOKEN_ISSUED)


def test_a_session_counts_at_the_host_where_it_began_and_ends_anywhere_else(own: OwnFlow) -> None:
    """Who rules a tenant's name can have it lead to them, and gets the cookies of all who come, an operator's too."""
    person = own.house.members["matt"].user
    person.set_password("correct horse battery staple")
    person.save()
    form = {"login": person.email, "password": "correct horse battery staple"}
    for begun, other in ((HOST, "localhost"), ("localhost", HOST)):
        browser = at(begun)
        assert browser.post("/account/login/", form).status_code == 302
        assert browser.get("/account/login/").status_code == 302  # is signed in there
        thief = at(other)
        thief.cookies = browser.cookies
        assert thief.get("/account/login/").status_code == 200, other
        assert browser.get("/account/login/").status_code == 200  # and the session is over


def test_denial_and_errors_name_the_issuer_too(own: OwnFlow) -> None:
    assert answer_in(own.answer(own.authorize(), "deny")) | {"error_description": ""} == {
        "error": "access_denied", "state": "s t&=é", "iss": HERE, "error_description": "",
    }  # fmt: skip
    assert answer_in(own.authorize(response_type="token"))["iss"] == HERE  # RFC 9207 §2


def test_the_question_of_one_host_is_not_answered_at_another(own: OwnFlow) -> None:
    page = own.authorize()
    own.browser.defaults["HTTP_HOST"] = "localhost"
    form = form_of(page) | {"answer": "allow"}
    assert own.browser.post("/t/acme/oauth/consent", form).status_code == 404
    assert own.browser.post("/oauth/consent", form).status_code == 404
    assert not events_of(own.house.tenant.id, Action.GRANT_GIVEN)


def test_behind_tls_the_forms_origin_is_the_issuers(own: OwnFlow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings.KNOBS, "base_url", "https://auth.example.com")
    browser = Client(enforce_csrf_checks=True, HTTP_HOST=HOST)
    browser.cookies = own.browser.cookies
    page = own.browser.get("/device/")
    browser.cookies.update(own.browser.cookies)
    form = form_of(page) | {"user_code": "BCDF-GHJK"}
    token = form["csrfmiddlewaretoken"]
    assert token
    for origin, status in ((f"https://{HOST}", 422), ("https://auth.globex.example", 403), (f"http://{HOST}", 403)):
        assert browser.post("/device/", form, headers={"Origin": origin}).status_code == status, origin


def test_a_device_is_sent_to_the_issuers_host(own: OwnFlow) -> None:
    with in_tenant(own.house.tenant.id):
        own.agent.grant_types = [*own.agent.grant_types, "urn:ietf:params:oauth:grant-type:device_code"]
        own.agent.save()
    said = own.post("device_authorization", own.proof() | {"resource": own.resource, "scope": "rooms:read"}).json()
    assert said["verification_uri"] == f"{HERE}/device/"
    page = own.browser.get("/device/", {"user_code": said["user_code"]})
    asked = own.browser.post("/device/", form_of(page) | {"user_code": said["user_code"]})
    told = own.browser.post("/oauth/consent", form_of(asked) | {"answer": "allow"})
    assert told.status_code == 200 and "/t/acme/my/agents/" in told.content.decode()


def test_tokens_of_the_former_name_end_with_it(flow: Flow) -> None:
    token = flow.tokens()["access_token"]
    move(flow.house)
    own = OwnFlow(flow.house, flow.agent, flow.secret).sign_in()
    assert own.post("introspect", {"token": token} | own.proof()).json() == {"active": False}
    assert at(HOST).get("/oauth/userinfo", headers={"Authorization": f"Bearer {token}"}).status_code == 401
    (event,) = events_of(flow.house.tenant.id, Action.TENANT_CHANGED)
    assert event.details == {"issuer": HERE, "was": f"{BASE}/t/acme"} and event.actor == CAST.id


def test_a_client_assertion_is_for_the_issuer_at_its_host(own: OwnFlow) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec

    from agentauth.agents.registering import add_key
    from agentauth.keys.signing import _public_jwk

    key = ec.generate_private_key(ec.SECP256R1())
    with in_tenant(own.house.tenant.id):
        from tests import cast

        robot = cast.assistant(own.house, name="Robot", auth_method="private_key_jwt")
        add_key(robot, by=own.house.owner, public_jwk=_public_jwk(key.public_key()))
    import time
    import uuid

    for audience, status in ((HERE, 400), (f"{BASE}/t/acme", 401)):
        claims = {
            "iss": robot.client_id, "sub": robot.client_id, "aud": audience,
            "exp": int(time.time()) + 60, "jti": str(uuid.uuid4()),
        }  # fmt: skip
        kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        form = {"grant_type": "authorization_code", "code": "none", "redirect_uri": "https://assistant.example/cb"}
        form |= {"client_assertion_type": kind, "client_assertion": jwt.encode(claims, key, "ES256")}
        assert own.post("token", form | {"code_verifier": "v" * 43}).status_code == status, audience


def test_everything_else_of_the_product_is_at_the_installations_host(own: OwnFlow) -> None:
    assert own.browser.get("/")["Location"] == f"{BASE}/t/acme/"
    assert own.browser.get("/t/acme/my/agents/")["Location"] == f"{BASE}/t/acme/my/agents/"
    for path in ("/t/acme/agents/", "/api/v1/openapi.json", "/operator/", "/api/v1/tenants/acme/agents"):
        assert own.browser.get(path).status_code == 404, path
    assert signed_in(own.house.members["matt"]).get("/t/acme/my/agents/").status_code == 200


@pytest.mark.parametrize("path", ["/account/login/", "/account/2fa/", "/nothing/", "/account/password/change/"])
def test_pages_around_the_sign_in_work_at_the_host(own: OwnFlow, path: str) -> None:
    assert own.browser.get(path).status_code in (200, 302, 404)
    assert at(HOST).get(path).status_code in (200, 302, 404)


def test_in_production_a_host_of_nobody_is_refused(own: OwnFlow, production: None) -> None:
    for host in ("evil.example", "acme.example", "auth.acme.example.evil.example", "10.0.0.1", "xauth.acme.example"):
        assert at(host).get("/.well-known/oauth-authorization-server").status_code == 400, host
        assert at(host).get("/t/globex/oauth/jwks.json").status_code == 400, host
    for host in (HOST, HOST.upper(), f"{HOST}:443", f"{HOST}."):
        answer = Client().get("/.well-known/oauth-authorization-server", headers={"Host": host})
        assert answer.status_code == 200 and answer.json()["issuer"] == HERE, host
    assert at("localhost").get("/account/login/").status_code == 200


def test_what_a_proxy_or_a_client_says_of_the_host_is_not_believed(own: OwnFlow, globex: House) -> None:
    headers = {"X-Forwarded-Host": HOST, "Forwarded": f"host={HOST}"}
    assert at("localhost").get("/.well-known/oauth-authorization-server", headers=headers).status_code == 404
    said = at(HOST).get("/.well-known/oauth-authorization-server", headers={"X-Forwarded-Host": "globex.example"})
    assert said.json()["issuer"] == HERE


def test_a_closed_tenants_host_is_not_found(own: OwnFlow) -> None:
    from django.utils.timezone import now

    Tenant.objects.filter(pk=own.house.tenant.pk).update(suspended_at=now())
    assert at(HOST).get("/.well-known/oauth-authorization-server").status_code == 404


def test_back_at_the_path_the_host_is_nobodys(own: OwnFlow, production: None) -> None:
    move(own.house, "")
    assert at(HOST).get("/.well-known/oauth-authorization-server").status_code == 400
    said = at("localhost").get("/.well-known/oauth-authorization-server/t/acme").json()
    assert said["issuer"] == f"{BASE}/t/acme"


@pytest.mark.parametrize(
    "typed",
    [
        "https://auth.acme.example", "auth.acme.example/x", "auth.acme.example:8443", "acme", "127.0.0.1", "[::1]",
        "localhost", "-a.example", "a-.example", "a..example", "*.acme.example", "a_b.example", "müller.example",
        f"{'a' * 64}.example", f"{'a.' * 130}example", "a b.example", "a.example\x00", "10.1", "auth.acme.1",
    ],
)  # fmt: skip
def test_what_is_no_host_name_is_refused(typed: str) -> None:
    with pytest.raises(ValidationError):
        read_issuer_host(typed)


def test_the_installations_own_hosts_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings.KNOBS, "base_url", "https://auth.example.com")
    monkeypatch.setattr(settings.KNOBS, "gateway_url", "https://gate.example.com")
    for host in ("auth.example.com", "GATE.example.com.", " gate.example.com "):
        with pytest.raises(ValidationError, match="at this host"):
            read_issuer_host(host)
    assert read_issuer_host(" Login.Example.COM. ") == "login.example.com"


def test_a_host_is_one_tenants(own: OwnFlow, globex: House) -> None:
    with pytest.raises(ValidationError, match="another organisation"):
        move(globex, HOST)
    assert Tenant.objects.get(slug="globex").issuer_host == ""
