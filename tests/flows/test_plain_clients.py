"""OAuth clients that know nothing of MCP: Authlib, requests-oauthlib and openid-client, which checks every answer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from authlib.integrations.requests_client import OAuth2Session as AuthlibSession
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc.jwk import ECKey
from jwt.algorithms import ECAlgorithm
from oauthlib.oauth2 import AccessDeniedError, BackendApplicationClient
from requests_oauthlib import OAuth2Session as RequestsSession

from tests.flows.admin import register_agent, register_agent_with_key, scopes_of
from tests.flows.installation import Installation
from tests.flows.node_program import NodeProgram, Problem, node_program

pytestmark = [pytest.mark.flow, pytest.mark.timeout(120)]

CALLBACK = "http://127.0.0.1:43119/callback"
NO_HURRY: dict[str, Any] = {"leeway": 0, "timeout": 10}  # Authlib gives up a token a minute before it ends
VERIFIER = "a-verifier-of-a-test-that-is-long-enough-for-rfc-7636"


@pytest.fixture(autouse=True)
def _http_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both Python clients insist on https unless they are told."""
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")


@pytest.fixture(scope="module")
def metadata(here: Installation) -> dict[str, Any]:
    issuer = here.issuer.replace("/t/", "/.well-known/oauth-authorization-server/t/")
    found: dict[str, Any] = requests.get(issuer, timeout=10).json()
    return found


def registered(here: Installation, name: str, *, by_itself: bool = False) -> tuple[str, str]:
    scopes = scopes_of(here.stack, "office", "read") + scopes_of(here.stack, "office", "change")
    return register_agent(here.stack, here.ada, name, scopes, redirect="" if by_itself else CALLBACK)


def key_pair() -> tuple[str, str]:
    """A private key and its public part, as JWKs."""
    key = ec.generate_private_key(ec.SECP256R1())
    return ECAlgorithm.to_jwk(key), ECAlgorithm.to_jwk(key.public_key())


# -- Authlib


def test_authlib_acts_for_a_person_refreshes_introspects_and_revokes(
    here: Installation, metadata: dict[str, Any]
) -> None:
    client_id, secret = registered(here, "Authlib for Matt")
    session = AuthlibSession(
        client_id, secret, scope="rooms:read", redirect_uri=CALLBACK, code_challenge_method="S256", **NO_HURRY
    )
    address, state = session.create_authorization_url(
        metadata["authorization_endpoint"], code_verifier=VERIFIER, resource=here.office
    )
    landed = here.matt.answer(address)
    token = session.fetch_token(
        metadata["token_endpoint"],
        authorization_response=landed,
        state=state,
        code_verifier=VERIFIER,
        resource=here.office,
    )
    assert (token["token_type"], token["scope"]) == ("Bearer", "rooms:read")
    assert session.get(f"{here.office}/rooms").json()["rooms"]
    newer = session.refresh_token(metadata["token_endpoint"])
    assert newer["refresh_token"] != token["refresh_token"]
    assert session.get(f"{here.office}/rooms").status_code == 200
    introspect, revoke = metadata["introspection_endpoint"], metadata["revocation_endpoint"]
    told = session.introspect_token(introspect, newer["access_token"]).json()
    assert told["active"] and told["client_id"] == client_id and told["scope"] == "rooms:read"
    answer = session.revoke_token(revoke, newer["refresh_token"], token_type_hint="refresh_token")
    assert answer.status_code == 200
    assert session.introspect_token(introspect, newer["access_token"]).json() == {"active": False}
    assert here.events("token.revoked", client_id)
    with pytest.raises(Exception, match="invalid_grant"):
        session.refresh_token(metadata["token_endpoint"], refresh_token=newer["refresh_token"])


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_authlib_acts_for_itself_with_a_secret(here: Installation, metadata: dict[str, Any], method: str) -> None:
    client_id, secret = registered(here, f"Authlib by itself, {method}", by_itself=True)
    session = AuthlibSession(client_id, secret, token_endpoint_auth_method=method, **NO_HURRY)
    token = session.fetch_token(
        metadata["token_endpoint"], grant_type="client_credentials", resource=here.office, scope="rooms:read"
    )
    assert token["scope"] == "rooms:read" and "refresh_token" not in token
    assert session.get(f"{here.office}/rooms").status_code == 200
    [issued] = here.events("token.issued", client_id)
    assert issued["details"]["grant_type"] == "client_credentials"


def test_authlib_proves_itself_with_a_key(here: Installation, metadata: dict[str, Any]) -> None:
    """RFC 7523 §2.2; Authlib names the token endpoint as the audience, which §3 allows."""
    private, public = key_pair()
    scopes = scopes_of(here.stack, "office", "read")
    client_id = register_agent_with_key(here.stack, here.ada, "Authlib with a key", scopes, public)
    session = AuthlibSession(
        client_id, ECKey.import_key(json.loads(private)), token_endpoint_auth_method="private_key_jwt", **NO_HURRY
    )
    session.register_client_auth_method(PrivateKeyJWT(metadata["token_endpoint"], alg="ES256"))
    session.fetch_token(metadata["token_endpoint"], grant_type="client_credentials", resource=here.office)
    assert session.get(f"{here.office}/rooms").status_code == 200
    assert here.events("token.issued", client_id)


# -- requests-oauthlib


def test_requests_oauthlib_acts_for_a_person_and_renews_by_itself(here: Installation, metadata: dict[str, Any]) -> None:
    client_id, secret = registered(here, "requests-oauthlib for Matt")
    renewed: list[dict[str, Any]] = []
    session = RequestsSession(
        client_id,
        redirect_uri=CALLBACK,
        scope=["rooms:read"],
        pkce="S256",
        auto_refresh_url=metadata["token_endpoint"],
        auto_refresh_kwargs={"client_id": client_id, "client_secret": secret},
        token_updater=renewed.append,
    )
    address, _ = session.authorization_url(metadata["authorization_endpoint"], resource=here.office)
    landed = here.matt.answer(address)
    session.fetch_token(
        metadata["token_endpoint"], authorization_response=landed, client_secret=secret, resource=here.office
    )
    assert session.get(f"{here.office}/rooms").json()["rooms"]
    session.token = {**session.token, "expires_in": -1, "expires_at": 1}  # as if it had been asleep
    assert session.get(f"{here.office}/rooms").status_code == 200
    assert len(renewed) == 1
    grants = [event["details"]["grant_type"] for event in here.events("token.issued", client_id)]
    assert grants == ["authorization_code", "refresh_token"]


def test_requests_oauthlib_hears_a_no_as_its_own_error(here: Installation, metadata: dict[str, Any]) -> None:
    client_id, secret = registered(here, "requests-oauthlib, unwanted")
    session = RequestsSession(client_id, redirect_uri=CALLBACK, scope=["rooms:read"], pkce="S256")
    address, _ = session.authorization_url(metadata["authorization_endpoint"], resource=here.office)
    landed = here.matt.answer(address, "Deny")
    with pytest.raises(AccessDeniedError):
        session.fetch_token(metadata["token_endpoint"], authorization_response=landed, client_secret=secret)
    assert here.events("grant.refused", client_id)


def test_requests_oauthlib_acts_for_itself(here: Installation, metadata: dict[str, Any]) -> None:
    client_id, secret = registered(here, "requests-oauthlib by itself", by_itself=True)
    session = RequestsSession(client=BackendApplicationClient(client_id, scope=["rooms:read"]))
    session.fetch_token(metadata["token_endpoint"], client_secret=secret, resource=here.office)
    assert session.get(f"{here.office}/rooms").status_code == 200


# -- openid-client and oauth4webapi


@contextmanager
def openid(here: Installation, *, press: str = "Allow", **told: Any) -> Iterator[NodeProgram]:
    def browse(url: str) -> str:
        return here.matt.answer(url, press)

    with node_program(here.node, "openid_client.mjs", browse, issuer=here.issuer, **told) as program:
        yield program


@pytest.mark.parametrize("algorithm", ["oauth2", "oidc"])
@pytest.mark.parametrize("tenant", ["acme", "globex"])
def test_a_strict_client_accepts_the_metadata_of_every_tenant(here: Installation, tenant: str, algorithm: str) -> None:
    """RFC 8414 §3 inserts the well-known part, OpenID Connect Discovery §4 appends it; RFC 9728 §3.3."""
    issuer, office = (address.replace("/acme", f"/{tenant}") for address in (here.issuer, here.office))
    with node_program(here.node, "openid_client.mjs", here.matt.answer, issuer=issuer) as program:
        assert program.ask("discover", algorithm=algorithm)["issuer"] == issuer
        assert program.ask("resource", url=office)["authorization_servers"] == [issuer]


@pytest.mark.parametrize("pushed", [False, True], ids=["plain", "pushed"])
def test_a_strict_client_signs_a_person_in_and_acts_for_them(here: Installation, pushed: bool) -> None:
    """OpenID Connect Core §3.1.3.7, RFC 9207, RFC 9126 and RFC 9068 §4, each as openid-client checks it."""
    client_id, secret = registered(here, f"openid-client, {pushed=}")
    with openid(here, client_id=client_id, secret=secret) as program:
        program.ask("begin", method="client_secret_basic")
        scope = "openid rooms:read"
        token = program.ask("code", scope=scope, resource=here.office, callback=CALLBACK, pushed=pushed)
        assert ("request_uri" in token["parameters"]) == pushed
        assert token["claims"]["aud"] == client_id
        claims = program.ask("check", resource=here.office)
        assert claims["sub"] == token["claims"]["sub"] and claims["client_id"] == client_id and claims["act"]["sub"]
        assert program.ask("userinfo")["sub"] == token["claims"]["sub"]
        assert program.ask("call", url=f"{here.office}/rooms")["rooms"]
        assert program.ask("introspect")["active"] is True
        assert program.ask("refresh")["refresh_token"] != token["refresh_token"]
        program.ask("revoke")
        assert program.ask("introspect") == {"active": False}


def test_a_strict_client_hears_a_no_with_the_issuers_name(here: Installation) -> None:
    """RFC 9207 §2: `iss` on errors too; without it openid-client would say so and not `access_denied`."""
    client_id, secret = registered(here, "openid-client, unwanted")
    with openid(here, press="Deny", client_id=client_id, secret=secret) as program:
        program.ask("begin", method="client_secret_post")
        with pytest.raises(Problem, match="access_denied"):
            program.ask("code", scope="rooms:read", resource=here.office, callback=CALLBACK)


def test_a_strict_client_registers_itself_and_acts_for_a_person(here: Installation) -> None:
    """RFC 7591 §3.2.1, then OAuth 2.1 with the secret that it was given."""
    metadata = {
        "client_name": "Newcomer openid-client",
        "redirect_uris": [CALLBACK],
        "grant_types": ["authorization_code", "refresh_token"],
        "application_type": "native",
    }
    with openid(here) as program:
        given = program.ask("register", metadata=metadata)
        assert given["client_secret"] and given["client_secret_expires_at"] == 0
        token = program.ask("code", scope="rooms:read", resource=here.office, callback=CALLBACK)
        assert token["scope"] == "rooms:read" and token["refresh_token"]
    assert here.registration(given["client_id"]) == ("dynamic", "Newcomer openid-client")


def test_a_strict_client_acts_for_itself_with_a_key(here: Installation) -> None:
    """RFC 7523 §2.2 with the issuer as the audience, as draft-ietf-oauth-rfc7523bis wants it."""
    private, public = key_pair()
    scopes = scopes_of(here.stack, "office", "read")
    client_id = register_agent_with_key(here.stack, here.ada, "openid-client with a key", scopes, public)
    with openid(here, client_id=client_id, key=json.loads(private)) as program:
        program.ask("begin", method="private_key_jwt", algorithm="oauth2")
        assert program.ask("itself", scope="rooms:read", resource=here.office)["scope"] == "rooms:read"
        assert program.ask("check", resource=here.office)["sub"]
        assert program.ask("call", url=f"{here.office}/rooms")["rooms"]


def test_a_strict_client_without_a_browser_waits_for_the_person(here: Installation) -> None:
    """RFC 8628: the person opens the address that the device shows, and says yes there."""
    metadata = {
        "client_name": "Newcomer device",
        "grant_types": ["urn:ietf:params:oauth:grant-type:device_code", "refresh_token"],
        "token_endpoint_auth_method": "none",
        "response_types": [],
    }

    def approve(url: str) -> str:
        here.matt.open(url)
        here.matt.press("Continue")
        here.matt.press("Allow")
        assert here.matt.page.status_code == 200, here.matt.words
        return url

    with node_program(here.node, "openid_client.mjs", approve, issuer=here.issuer) as program:
        program.ask("register", metadata=metadata)
        token = program.ask("device", scope="rooms:read", resource=here.office)
        assert token["scope"] == "rooms:read"
        assert program.ask("call", url=f"{here.office}/rooms")["rooms"]


def test_a_strict_client_asks_its_person_in_their_inbox(here: Installation) -> None:
    """OpenID Connect CIBA Core §7, §10.1, by poll."""
    client_id, secret = registered(here, "openid-client in the inbox")

    def look(url: str) -> str:
        here.matt.open("/t/acme/my/inbox/")
        links = set(re.findall(r'href="(/t/acme/my/inbox/asks/[^"]+)"', here.matt.page.text))
        [mine] = [link for link in links if "Room for ten" in here.matt.open(link).text]  # others may ask as well
        here.matt.open(mine)
        here.matt.press("Allow")
        assert here.matt.page.status_code == 200, here.matt.words
        return url

    told = {"issuer": here.issuer, "client_id": client_id, "secret": secret}
    with node_program(here.node, "openid_client.mjs", look, **told) as program:
        program.ask("begin", method="client_secret_basic")
        asked = {"scope": "openid rooms:read", "resource": here.office, "person": "matt@acme.example"}
        token = program.ask("inbox", message="Room for ten", **asked)
        assert token["claims"]["aud"] == client_id and token["scope"] == "rooms:read"
        assert program.ask("call", url=f"{here.office}/rooms")["rooms"]
    assert here.events("grant.given", client_id)


def test_a_strict_client_asks_for_one_call_and_makes_it(here: Installation) -> None:
    """RFC 9396: what was allowed comes back with the token, and only that call passes."""
    client_id, secret = registered(here, "openid-client for one call")
    detail = {
        "type": "operation",
        "locations": [here.office],
        "actions": ["GET /rooms/{room}"],
        "arguments": {"path": {"room": "meeting"}},
    }
    with openid(here, client_id=client_id, secret=secret) as program:
        program.ask("begin", method="client_secret_basic")
        token = program.ask(
            "code", scope="openid", resource=here.office, callback=CALLBACK, details=[detail], pushed=True
        )
        assert token["authorization_details"] == [detail]
        assert program.ask("call", url=f"{here.office}/rooms/meeting")["room"] == "meeting"
        with pytest.raises(Problem):
            program.ask("call", url=f"{here.office}/rooms/library")
    assert here.events("call.refused", client_id)
