"""What a tenant says about itself: every form of the address, byte-exact, and only what works."""

from typing import Any

import pytest
from django.test import Client

from tenants.models import Tenant
from tests.cast import House
from tests.oauth.browser import Flow

ADDRESSES = (
    "/.well-known/oauth-authorization-server/t/{}",
    "/.well-known/openid-configuration/t/{}",
    "/t/{}/.well-known/openid-configuration",
    "/t/{}/.well-known/oauth-authorization-server",
)


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_tenant_describes_itself_everywhere_a_client_may_look(acme: House, address: str) -> None:
    answer = Client().get(address.format("acme"))
    assert answer.status_code == 200 and answer["Content-Type"] == "application/json"
    assert answer["Access-Control-Allow-Origin"] == "*"
    said = answer.json()
    assert said["issuer"] == "http://localhost:8000/t/acme"  # RFC 8414 §3.3
    assert said["code_challenge_methods_supported"] == ["S256"]
    assert said["authorization_response_iss_parameter_supported"] is True  # RFC 9207 §3
    assert said["client_id_metadata_document_supported"] is True
    assert "none" in said["token_endpoint_auth_methods_supported"]


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_unknown_or_closed_tenant_is_not_found_and_never_a_redirect(acme: House, address: str) -> None:
    assert Client().get(address.format("nobody")).status_code == 404
    assert Client().get(address.format("acme") + "/").status_code == 404
    from django.utils.timezone import now

    Tenant.objects.filter(pk=acme.tenant.pk).update(suspended_at=now())
    assert Client().get(address.format("acme")).status_code == 404


def test_every_endpoint_that_is_named_answers(flow: Flow) -> None:
    said = flow.browser.get(ADDRESSES[0].format("acme")).json()
    named = {name: url for name, url in said.items() if name.endswith("_endpoint") or name == "jwks_uri"}
    assert len(named) >= 6
    for name, url in named.items():
        path = url.removeprefix("http://localhost:8000")
        assert url.startswith(f"{said['issuer']}/oauth/"), name
        assert Client().post(path).status_code in (303, 400, 401, 405), name
    for grant in said["grant_types_supported"]:
        answer = flow.post("token", {"grant_type": grant} | flow.proof()).json()
        assert answer["error"] != "unsupported_grant_type"


def test_the_key_set_holds_no_private_part(acme: House) -> None:
    keys = Client().get("/t/acme/oauth/jwks.json").json()["keys"]
    assert keys and all(set(key) == {"kty", "crv", "x", "y", "alg", "use", "kid"} for key in keys)


def test_a_closed_tenant_does_not_advertise_registration(acme: House) -> None:
    Tenant.objects.filter(pk=acme.tenant.pk).update(open_registration=False)
    said: dict[str, Any] = Client().get(ADDRESSES[0].format("acme")).json()
    assert "registration_endpoint" not in said and said["client_id_metadata_document_supported"] is False


def test_browsers_may_call_the_protocol_but_not_authorize(flow: Flow) -> None:
    for endpoint in ("token", "register", "revoke", "jwks.json"):
        answer = Client().options(flow.path(endpoint), headers={"Origin": "https://x.example"})
        assert answer.status_code == 204 and answer["Access-Control-Allow-Origin"] == "*", endpoint
        assert "Access-Control-Allow-Credentials" not in answer
    assert "Access-Control-Allow-Origin" not in flow.authorize()  # RFC 9700 §2.6


def test_metadata_says_only_what_works(acme: House) -> None:
    """RFC 8414 §2, OpenID Connect Discovery §3: what they demand is there, empty lists are not, and no `none`."""
    said: dict[str, Any] = Client().get(ADDRESSES[0].format("acme")).json()
    demanded = {
        "issuer", "authorization_endpoint", "token_endpoint", "jwks_uri", "response_types_supported",
        "subject_types_supported", "id_token_signing_alg_values_supported",
    }  # fmt: skip
    assert demanded <= set(said) and all(value not in ([], "", None) for value in said.values())
    assert "?" not in said["issuer"] and "#" not in said["issuer"] and not said["issuer"].endswith("/")
    assert said["response_types_supported"] == ["code"] and said["response_modes_supported"] == ["query"]
    algorithms = [value for name, value in said.items() if name.endswith("_alg_values_supported")]
    assert algorithms and all("none" not in one and not any(alg.startswith("HS") for alg in one) for one in algorithms)
    assert all(Client().get(address.format("acme")).json() == said for address in ADDRESSES)


def test_the_scopes_of_the_protocol_are_named_and_each_may_be_asked_for(flow: Flow) -> None:
    """RFC 8414 §2: what is not announced may work too; `offline_access` does."""
    said = flow.browser.get(ADDRESSES[0].format("acme")).json()
    assert set(said["scopes_supported"]) == {"openid", "profile", "email"}
    for scope in (*said["scopes_supported"], "offline_access"):
        assert flow.authorize(scope=f"rooms:read {scope}").status_code == 200, scope


@pytest.mark.parametrize("slug", ["ACME", "acme%2f", "acme/..", "acme;x", "%61cme%00", "acme%20", "acme.", "."])
def test_an_issuer_in_another_spelling_is_not_there(acme: House, slug: str) -> None:
    """RFC 8414 §4: compared letter by letter, so only one spelling answers."""
    for address in ADDRESSES:
        answer = Client().get(address.format(slug))
        assert answer.status_code in (400, 404) and "Location" not in answer, address
