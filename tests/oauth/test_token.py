"""What the token endpoint refuses, with the RFC's own error and a line in the record."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from django.test import Client
from django.utils.timezone import now
from jwt.algorithms import OKPAlgorithm

from agentauth.agents.registering import add_key, add_secret
from agentauth.grants.granting import give, live_grant
from agentauth.oauth.client_assertion import ASSERTION_TYPE
from agentauth.oauth.models import AuthorizationCode, RefreshToken
from agentauth.oauth.pkce import challenge_of
from tenants.rls import in_tenant
from tests import cast
from tests.cast import events_of
from tests.oauth.browser import CALLBACK, Flow, answer_in, basic
from tests.oauth.proofs import JWS, new_key

PKCE = json.loads((Path(__file__).parents[1] / "corpora" / "pkce.json").read_text())


def refused(answer: Any, code: str, status: int = 400) -> None:
    assert (answer.status_code, answer.json()["error"]) == (status, code), answer.content
    assert "no-store" in answer["Cache-Control"]
    assert set(answer.json()) <= {"error", "error_description"}


def reasons(flow: Flow, action: str = "token.refused") -> list[str]:
    return [reason for event in events_of(flow.house.tenant.id, action) for reason in event.reasons]


# The code


def test_a_code_is_redeemed_only_once_and_a_second_try_ends_what_the_first_gave(flow: Flow) -> None:
    code = flow.code()
    first = flow.redeem(code).json()
    refused(flow.redeem(code), "invalid_grant")  # OAuth 2.1 §4.1.3
    refused(flow.refresh(first["refresh_token"]), "invalid_grant")
    assert flow.post("introspect", flow.proof() | {"token": first["access_token"]}).json() == {"active": False}
    assert "code_reused" in reasons(flow)
    assert [event.details["kind"] for event in events_of(flow.house.tenant.id, "token.reused")] == [
        "authorization_code"
    ]


@pytest.mark.parametrize("case", PKCE, ids=[f"{c['challenge']}-{c['verifier']}" for c in PKCE])
def test_pkce_lets_exactly_one_combination_through(public: Flow, case: dict[str, str]) -> None:
    challenge = {"absent": None, "empty": "", "s256": challenge_of(public.verifier), "plain": public.verifier}
    method = {"absent": None, "empty": "", "s256": "S256", "plain": "plain"}[case["challenge"]]
    page = public.authorize(code_challenge=challenge[case["challenge"]], code_challenge_method=method)
    if case["challenge"] != "s256":  # RFC 7636 §4.4.1, and `plain` by leaving the method out
        answer = answer_in(page)
        assert answer["error"] == "invalid_request" and answer["iss"] == public.issuer and "code" not in answer
        return
    code = answer_in(public.answer(page))["code"]
    verifier = {
        "absent": None,
        "empty": "",
        "short": public.verifier[:42],
        "long": "a" * 129,
        "wrong": public.verifier[:-1] + ("a" if public.verifier[-1] != "a" else "b"),
        "right": public.verifier,
    }[case["verifier"]]
    answer = public.redeem(code, code_verifier=verifier)
    if case["verifier"] == "right":
        assert answer.status_code == 200
    else:
        refused(answer, "invalid_grant")
        refused(public.redeem(code), "invalid_grant")  # one wrong verifier kills the code (RFC 7636 §7.1)


def test_a_code_lives_a_minute(flow: Flow) -> None:
    code = flow.code()
    with in_tenant(flow.house.tenant.id):
        assert AuthorizationCode.objects.get().expires_at <= now() + timedelta(seconds=60)
        AuthorizationCode.objects.update(expires_at=now())
    refused(flow.redeem(code), "invalid_grant")
    assert reasons(flow) == ["code_expired"]


def test_a_code_is_for_its_client_redirect_uri_and_resource(flow: Flow, public: Flow) -> None:
    code = flow.code()
    refused(public.redeem(code, code_verifier=flow.verifier), "invalid_grant")  # §4.1.3: issued to another client
    refused(flow.redeem(code, resource="http://localhost:8001/acme/other"), "invalid_target")  # RFC 8707 §2.2
    assert flow.redeem(code, resource=flow.resource).status_code == 200
    refused(flow.redeem(flow.code(), redirect_uri=CALLBACK + "/"), "invalid_grant")


def test_a_code_of_another_tenant_is_not_good_here(flow: Flow, globex: cast.House) -> None:
    code = flow.code()
    flow.house = globex
    refused(flow.redeem(code), "invalid_client", 401)


def test_a_code_of_an_ended_grant_is_not_good(flow: Flow) -> None:
    code = flow.code()
    with in_tenant(flow.house.tenant.id):
        grant = live_grant(flow.agent, flow.house.office, flow.house.members["matt"])
        assert grant is not None
        grant.revoke(by=flow.house.members["matt"])
    refused(flow.redeem(code), "invalid_grant")


def test_only_hashes_of_codes_and_tokens_are_kept(flow: Flow) -> None:
    code = flow.code()
    tokens = flow.redeem(code).json()
    with in_tenant(flow.house.tenant.id):
        kept = repr(list(AuthorizationCode.objects.values())) + repr(list(RefreshToken.objects.values()))
    for secret in (code, tokens["refresh_token"], tokens["access_token"], flow.verifier):
        assert secret not in kept
        assert all(secret not in event.body for event in flow_events(flow))


def flow_events(flow: Flow) -> Any:
    with in_tenant(flow.house.tenant.id):
        return flow.house.events()


# Refresh tokens


def test_a_refresh_token_is_rotated_and_its_second_use_ends_the_family(public: Flow) -> None:
    first = public.tokens()
    second = public.refresh(first["refresh_token"], resource=public.resource).json()
    assert second["refresh_token"] != first["refresh_token"] and second["scope"] == first["scope"]
    refused(public.refresh(first["refresh_token"]), "invalid_grant")  # OAuth 2.1 §4.3.1
    refused(public.refresh(second["refresh_token"]), "invalid_grant")
    assert "refresh_token_reused" in reasons(public)
    assert len(events_of(public.house.tenant.id, "token.reused")) == 1


def test_a_refresh_may_ask_for_less_and_never_for_more(flow: Flow) -> None:
    first = flow.tokens(scope="rooms:read meeting:enter")
    less = flow.refresh(first["refresh_token"], scope="rooms:read").json()
    assert less["scope"] == "rooms:read"
    again = flow.refresh(less["refresh_token"]).json()  # RFC 6749 §6: the refresh token itself keeps its scope
    assert set(again["scope"].split()) == {"rooms:read", "meeting:enter"}
    refused(flow.refresh(again["refresh_token"], scope="rooms:read finance:enter"), "invalid_scope")
    assert flow.refresh(again["refresh_token"]).status_code == 200  # a refusal uses nothing up


def test_a_refresh_token_is_for_its_client_and_while_its_grant_lives(flow: Flow, public: Flow) -> None:
    token = flow.tokens()["refresh_token"]
    refused(public.refresh(token), "invalid_grant")
    for bad in (token[:-1], token + "A", token.swapcase(), token + "="):
        refused(flow.refresh(bad), "invalid_grant")
    with in_tenant(flow.house.tenant.id):
        grant = live_grant(flow.agent, flow.house.office, flow.house.members["matt"])
        assert grant is not None
        grant.revoke(by=flow.house.members["matt"])
    refused(flow.refresh(token), "invalid_grant")


def test_a_suspended_agent_gets_nothing(flow: Flow) -> None:
    token = flow.tokens()["refresh_token"]
    with in_tenant(flow.house.tenant.id):
        flow.agent.suspend(by=flow.house.owner, reason="odd")
    refused(flow.refresh(token), "unauthorized_client")
    assert answer_in(flow.authorize())["error"] == "unauthorized_client"


# Client credentials


@pytest.fixture
def by_itself(acme: cast.House) -> Flow:
    with in_tenant(acme.tenant.id):
        agent = cast.assistant(acme, kind="autonomous", redirect_uris=[])
        _, secret = add_secret(agent, by=acme.owner)
        give(
            agent=agent,
            resource=acme.office,
            member=None,
            by=acme.owner,
            permissions={acme.scope("rooms:read"): "always", acme.scope("rooms:book"): "never"},
            expires_at=now() + timedelta(days=1),
        )
    return Flow(acme, agent, secret)


def test_an_agent_for_itself_gets_what_an_admin_granted_and_no_refresh_token(by_itself: Flow) -> None:
    form = {"grant_type": "client_credentials", "resource": by_itself.resource}
    answer = by_itself.post("token", form, Authorization=basic(by_itself.agent.client_id, by_itself.secret))
    assert answer.status_code == 200 and "refresh_token" not in answer.json()  # RFC 6749 §4.4.3
    claims = jwt.decode(answer.json()["access_token"], options={"verify_signature": False})
    assert claims["sub"] == str(by_itself.agent.id) and "act" not in claims and claims["scope"] == "rooms:read"
    without = by_itself.post("token", {"grant_type": "client_credentials"} | by_itself.proof())
    assert without.json()["scope"] == "rooms:read"  # the one place where it was granted anything
    refused(by_itself.post("token", form | by_itself.proof() | {"scope": "rooms:book"}), "invalid_scope")
    refused(by_itself.post("token", form | by_itself.proof() | {"resource": by_itself.issuer}), "invalid_target")


def test_an_agent_for_itself_that_asks_for_all_there_is_gets_what_was_granted_and_is_told(by_itself: Flow) -> None:
    """RFC 6749 §3.3: a part may be left out if the answer says so; real MCP clients ask for all the challenge names."""
    form = {"grant_type": "client_credentials", "resource": by_itself.resource} | by_itself.proof()
    answer = by_itself.post("token", form | {"scope": "rooms:read rooms:book finance:enter"})
    assert answer.status_code == 200 and answer.json()["scope"] == "rooms:read"
    claims = jwt.decode(answer.json()["access_token"], options={"verify_signature": False})
    assert claims["scope"] == "rooms:read"
    refused(by_itself.post("token", form | {"scope": "rooms:read nothing:here"}), "invalid_scope")
    assert events_of(by_itself.house.tenant.id, "token.refused")[-1].reasons == ["unknown_scope"]


def test_in_the_last_second_of_a_grant_no_token_is_issued_that_has_run_out(
    by_itself: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 6749 §5.1: expires_in is a time to come."""
    with in_tenant(by_itself.house.tenant.id):
        ends = live_grant(by_itself.agent, by_itself.house.office, None).expires_at.timestamp()  # type: ignore[union-attr]
    form = {"grant_type": "client_credentials", "resource": by_itself.resource} | by_itself.proof()
    monkeypatch.setattr("agentauth.oauth.token.time.time", lambda: ends - 1)
    assert by_itself.post("token", form).json()["expires_in"] == 1
    monkeypatch.setattr("agentauth.oauth.token.time.time", lambda: ends)
    refused(by_itself.post("token", form), "invalid_grant")
    assert reasons(by_itself) == ["grant_ended"]


def test_without_an_admins_grant_there_is_no_token(flow: Flow) -> None:
    refused(flow.post("token", {"grant_type": "client_credentials"} | flow.proof()), "unauthorized_client")


# Client authentication


@pytest.mark.parametrize(
    ("changes", "header", "code", "reason"),
    [
        ({"client_secret": None}, None, "invalid_client", "authentication_method"),
        ({"client_secret": "aas_wrong"}, None, "invalid_client", "wrong_secret"),
        ({"client_id": "nobody"}, None, "invalid_client", "unknown_client"),
        ({"client_id": None, "client_secret": None}, None, "invalid_client", "no_client"),
        ({"client_secret": None}, "Bearer x", "invalid_client", "basic_malformed"),
        ({"client_secret": None}, "Basic !!!", "invalid_client", "basic_malformed"),
        ({}, "Basic QTpC", "invalid_request", "two_authentications"),  # RFC 6749 §2.3
        ({"client_secret": None, "client_assertion": "x.y.z"}, None, "invalid_client", "assertion_type"),
    ],
)
def test_a_client_that_does_not_prove_itself_is_refused(
    flow: Flow, changes: dict[str, Any], header: str | None, code: str, reason: str
) -> None:
    form = {"grant_type": "authorization_code", "code": flow.code(), "code_verifier": flow.verifier}
    form |= {"redirect_uri": CALLBACK} | flow.proof() | changes
    headers = {"Authorization": header} if header else {}
    answer = flow.post("token", {name: value for name, value in form.items() if value is not None}, **headers)
    refused(answer, code, 401 if code == "invalid_client" else 400)
    if code == "invalid_client":
        assert answer["WWW-Authenticate"].startswith("Basic ")  # RFC 6749 §5.2
        assert reasons(flow, "client.refused") == [reason]
    assert flow.redeem(form["code"]).status_code == 200  # nothing was used up


def test_a_public_client_must_not_send_a_secret(public: Flow) -> None:
    refused(public.redeem(public.code(), client_secret="x"), "invalid_client", 401)


@pytest.mark.parametrize("encode", [lambda s: s, lambda s: "".join(f"%{b:02X}" for b in s.encode())])
def test_basic_with_and_without_percent_encoding(flow: Flow, encode: Any) -> None:
    header = basic(encode(flow.agent.client_id), encode(flow.secret))  # RFC 6749 §2.3.1
    answer = flow.redeem(flow.code(), client_id=None, client_secret=None)
    refused(answer, "invalid_client", 401)
    form = {"grant_type": "authorization_code", "code": flow.code(), "code_verifier": flow.verifier}
    assert flow.post("token", form | {"redirect_uri": CALLBACK}, Authorization=header).status_code == 200


@pytest.fixture
def keyed(acme: cast.House) -> tuple[Flow, ec.EllipticCurvePrivateKey]:
    private = ec.generate_private_key(ec.SECP256R1())
    jwk = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(private.public_key()))
    with in_tenant(acme.tenant.id):
        agent = cast.assistant(acme, auth_method="private_key_jwt")
        add_key(agent, jwk, by=acme.owner)
    return Flow(acme, agent).sign_in(), private


def assertion(flow: Flow, key: Any, alg: str = "ES256", header: dict[str, Any] | None = None, **changes: Any) -> str:
    at = int(time.time())
    claims = {
        "iss": flow.agent.client_id,
        "sub": flow.agent.client_id,
        "aud": flow.issuer,
        "exp": at + 60,
        "iat": at,
        "jti": f"j{time.monotonic_ns()}",
    } | changes
    return jwt.encode({n: v for n, v in claims.items() if v is not None}, key, algorithm=alg, headers=header)


def by_key(flow: Flow, signed: str) -> Any:
    """A request that reaches client authentication and then fails as invalid_grant if that succeeded."""
    form = {"grant_type": "authorization_code", "code": "none", "client_assertion": signed}
    return flow.post("token", form | {"client_assertion_type": ASSERTION_TYPE})


def test_an_assertion_proves_the_client_once(keyed: Any) -> None:
    flow, key = keyed
    signed = assertion(flow, key)
    refused(by_key(flow, signed), "invalid_grant")
    refused(by_key(flow, signed), "invalid_client", 401)  # RFC 7523 §3: jti
    assert reasons(flow, "client.refused") == ["assertion_replayed"]
    refused(by_key(flow, assertion(flow, key, aud=f"{flow.issuer}/oauth/token")), "invalid_grant")


@pytest.mark.parametrize(
    "typ", ["application/jwt", "Client-Authentication+JWT", "application/client-authentication+jwt"]
)
def test_the_type_of_an_assertion_is_that_of_a_medium(keyed: Any, typ: str) -> None:
    """RFC 7515 §4.1.9: `application/` may be left out, and may stand there; capitals do not count."""
    flow, key = keyed
    refused(by_key(flow, assertion(flow, key, header={"typ": typ})), "invalid_grant")


@pytest.mark.parametrize("alg", ["EdDSA", "Ed25519"])
def test_a_key_of_ed25519_signs_under_either_name_of_its_algorithm(acme: cast.House, alg: str) -> None:
    """RFC 9864 §2.2: the second name says plainly what the first means; no key signs with another's algorithm."""
    private = new_key(alg)
    with in_tenant(acme.tenant.id):
        agent = cast.assistant(acme, auth_method="private_key_jwt")
        add_key(agent, json.loads(OKPAlgorithm.to_jwk(private.public_key())), by=acme.owner)
    flow = Flow(acme, agent)
    at = int(time.time())
    claims = {"iss": agent.client_id, "sub": agent.client_id, "aud": flow.issuer, "exp": at + 60, "jti": "one"}
    signed = JWS.encode(json.dumps(claims).encode(), private, alg)
    refused(by_key(flow, signed), "invalid_grant")
    refused(by_key(flow, assertion(flow, new_key("RS256"), "RS256")), "invalid_client", 401)
    forged = JWS.encode(json.dumps(claims | {"jti": "two"}).encode(), new_key(alg), alg)
    refused(by_key(flow, forged), "invalid_client", 401)
    assert reasons(flow, "client.refused") == ["assertion_signature"] * 2
    said = Client().get("/t/acme/.well-known/openid-configuration").json()
    assert alg in said["token_endpoint_auth_signing_alg_values_supported"]


JWTS = json.loads((Path(__file__).parents[1] / "corpora" / "client_assertions.json").read_text())


@pytest.mark.parametrize("case", JWTS, ids=[case["name"] for case in JWTS])
def test_an_assertion_that_is_not_exactly_right_is_refused(keyed: Any, case: dict[str, Any]) -> None:
    flow, key = keyed
    claims = dict(case.get("claims", {}))
    for name in ("exp", "iat", "nbf"):
        if isinstance(claims.get(name), str) and claims[name][0] in "+-":
            claims[name] = int(time.time()) + int(claims[name])
    claims = {n: v.replace("{issuer}", flow.issuer) if isinstance(v, str) else v for n, v in claims.items()}
    if isinstance(claims.get("aud"), list):
        claims["aud"] = [one.replace("{issuer}", flow.issuer) for one in claims["aud"]]
    signer = ec.generate_private_key(ec.SECP256R1()) if case.get("key") == "other" else key
    if case.get("key") == "hmac":
        signed = assertion(flow, "a-secret-of-thirty-two-characters", "HS256", case.get("header"), **claims)
    elif case.get("key") == "none":
        signed = assertion(flow, None, "none", case.get("header"), **claims)
    else:
        signed = assertion(flow, signer, "ES256", case.get("header"), **claims)
    if case.get("raw"):
        signed = case["raw"]
    refused(by_key(flow, signed), "invalid_client", 401)


# Strictness


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("grant_type=authorization_code&grant_type=authorization_code", "invalid_request"),  # RFC 6749 §3.2
        ("grant_type=refresh_token&code=a&code=b", "invalid_request"),
        ("grant_type=refresh_token&refresh_token=" + "a" * 3000, "invalid_request"),
        ("code=x", "invalid_request"),
        ("grant_type=", "invalid_request"),
        ("grant_type=password", "unsupported_grant_type"),
        ("grant_type=%00", "invalid_request"),
        ("grant_type=%ff", "invalid_request"),
        ("", "invalid_request"),
    ],
)
def test_a_malformed_request_is_refused(flow: Flow, body: str, code: str) -> None:
    refused(flow.post("token", body), code)
    assert events_of(flow.house.tenant.id, "token.refused")


def test_two_resources_are_refused_not_chosen_from(flow: Flow) -> None:
    two = [flow.resource, "http://localhost:8001/acme/other"]
    refused(flow.redeem(flow.code(), resource=two), "invalid_target")
    assert answer_in(flow.authorize(resource=two))["error"] == "invalid_target"


def test_json_is_not_form_encoding(flow: Flow) -> None:
    answer = flow.browser.post(flow.path("token"), "{}", content_type="application/json")
    refused(answer, "invalid_request")


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "x-unknown"])
def test_a_packed_body_is_refused_even_if_it_is_none(flow: Flow, coding: str) -> None:
    """RFC 9110 §8.4: what it says of itself counts, not what it looks like."""
    form = {"grant_type": "refresh_token", "refresh_token": "x"} | flow.proof()
    answer = flow.post("token", form, **{"Content-Encoding": coding})
    refused(answer, "invalid_request")
    assert reasons(flow) == ["wrong_content_type"]
    refused(flow.post("token", form, **{"Content-Encoding": "identity"}), "invalid_grant")


def test_a_body_that_is_too_large_is_refused(flow: Flow) -> None:
    assert flow.post("token", "grant_type=x&a=" + "b" * 70_000).status_code == 413


def test_an_unknown_tenant_is_not_found(flow: Flow) -> None:
    for endpoint in ("token", "revoke", "introspect", "register", "authorize", "jwks.json"):
        assert flow.browser.get(f"/t/nobody-here/oauth/{endpoint}").status_code == 404


# Revocation and introspection


def test_revoking_a_refresh_token_ends_its_access_tokens_too(flow: Flow) -> None:
    tokens = flow.tokens()
    active = flow.post("introspect", flow.proof() | {"token": tokens["access_token"]}).json()
    assert active["active"] is True and active["act"] == {"sub": str(flow.agent.id)} and active["aud"] == flow.resource
    answer = flow.post("revoke", flow.proof() | {"token": tokens["refresh_token"], "token_type_hint": "nonsense"})
    assert answer.status_code == 200 and answer.content == b""  # RFC 7009 §2.2
    refused(flow.refresh(tokens["refresh_token"]), "invalid_grant")
    for token in (tokens["access_token"], tokens["refresh_token"]):
        assert flow.post("introspect", flow.proof() | {"token": token}).json() == {"active": False}
    assert [e.details["kind"] for e in events_of(flow.house.tenant.id, "token.revoked")] == ["refresh_token"]


def test_one_client_cannot_revoke_or_read_anothers_tokens(flow: Flow, public: Flow) -> None:
    tokens = flow.tokens()
    for token in (tokens["access_token"], tokens["refresh_token"]):
        assert public.post("revoke", public.proof() | {"token": token}).status_code == 200
    assert flow.refresh(tokens["refresh_token"]).status_code == 200  # RFC 7009 §2.1
    refused(public.post("introspect", public.proof() | {"token": tokens["access_token"]}), "invalid_client", 401)


def test_an_access_token_can_be_revoked_alone(flow: Flow) -> None:
    tokens = flow.tokens()
    flow.post("revoke", flow.proof() | {"token": tokens["access_token"]})
    assert flow.post("introspect", flow.proof() | {"token": tokens["access_token"]}).json() == {"active": False}
    assert flow.refresh(tokens["refresh_token"]).status_code == 200
