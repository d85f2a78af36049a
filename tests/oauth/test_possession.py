"""Bound tokens at the authorization server (RFC 9449 §5 to §8, §10): to which key, and who may do what without it."""

from __future__ import annotations

import time
from typing import Any

import jwt
import pytest
from django.test import Client

from agentauth.agents.models import Agent
from agentauth.grants.models import Grant
from agentauth.oauth.dpop import NONCE_SECONDS, fresh_nonce
from agentauth.oauth.models import AuthorizationCode, RefreshToken, SpentOnce
from agentauth.resources.publishing import demand_bound_tokens
from tenants.rls import in_tenant
from tests.cast import House, events_of
from tests.oauth.browser import CALLBACK, Flow, answer_in
from tests.oauth.browser import register as self_register
from tests.oauth.proofs import Holder


def shown(who: Flow, holder: Holder, endpoint: str = "token", **changes: Any) -> dict[str, str]:
    return {"DPoP": holder.proof("POST", f"{who.issuer}/oauth/{endpoint}", **changes)}


def redeem(who: Flow, code: str, headers: dict[str, str], **changes: Any) -> Any:
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, "code_verifier": who.verifier}
    return who.post("token", form | who.proof() | changes, **headers)


def refresh(who: Flow, token: str, headers: dict[str, str]) -> Any:
    return who.post("token", {"grant_type": "refresh_token", "refresh_token": token} | who.proof(), **headers)


def claims_of(answer: Any) -> dict[str, Any]:
    assert answer.status_code == 200, answer.content
    claims: dict[str, Any] = jwt.decode(answer.json()["access_token"], options={"verify_signature": False})
    return claims


def refused(who: Flow, answer: Any, code: str, reason: str, action: str = "token.refused") -> None:
    assert (answer.status_code, answer.json()["error"]) == (400, code), answer.content
    last = events_of(who.house.tenant.id, action)[-1]
    assert (last.reasons, last.agent_id) == ([reason], who.agent.id)


def change(who: Flow, **fields: Any) -> None:
    with in_tenant(who.house.tenant.id):
        Agent.objects.filter(pk=who.agent.pk).update(**fields)


def test_with_a_proof_the_token_is_bound_and_says_so(flow: Flow) -> None:
    """§5, §6.1."""
    holder = Holder()
    answer = redeem(flow, flow.code(), shown(flow, holder))
    assert claims_of(answer)["cnf"] == {"jkt": holder.jkt} and answer.json()["token_type"] == "DPoP"
    assert answer["DPoP-Nonce"] == fresh_nonce(time.time())  # §8.2
    assert "DPoP-Nonce" in answer["Access-Control-Expose-Headers"]
    event = events_of(flow.house.tenant.id, "token.issued")[-1]
    assert event.details["jkt"] == holder.jkt


def test_without_a_proof_it_is_a_bearer_token(flow: Flow) -> None:
    answer = redeem(flow, flow.code(), {})
    assert "cnf" not in claims_of(answer) and answer.json()["token_type"] == "Bearer"
    assert "DPoP-Nonce" not in answer and "jkt" not in events_of(flow.house.tenant.id, "token.issued")[-1].details


def test_introspection_says_to_which_key(flow: Flow) -> None:
    """§6.2."""
    holder = Holder()
    token = redeem(flow, flow.code(), shown(flow, holder)).json()["access_token"]
    said = flow.post("introspect", {"token": token} | flow.proof()).json()
    assert said["active"] and said["token_type"] == "DPoP" and said["cnf"] == {"jkt": holder.jkt}


@pytest.mark.parametrize("nonce", [None, "mine", fresh_nonce(time.time() - 3 * NONCE_SECONDS)])
def test_without_our_nonce_the_client_is_told_it_and_loses_nothing(flow: Flow, nonce: str | None) -> None:
    """§8: the code is still good, and nothing was refused."""
    holder, code = Holder(), flow.code()
    told = redeem(flow, code, shown(flow, holder, nonce=nonce))
    assert (told.status_code, told.json()["error"]) == (400, "use_dpop_nonce")
    assert told["Cache-Control"] == "no-store"
    assert events_of(flow.house.tenant.id, "token.refused") == []
    assert claims_of(redeem(flow, code, shown(flow, holder, nonce=told["DPoP-Nonce"])))["cnf"]["jkt"] == holder.jkt


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"htm": "GET"}, "proof_method"),
        ({"htu": "https://another.example/token"}, "proof_address"),
        ({"htu": "http://localhost:8000/t/globex/oauth/token"}, "proof_address"),  # another tenant's
        ({"iat": 1}, "proof_time"),
        ({"header": {"typ": "JWT"}}, "proof_type"),
    ],
)
def test_a_proof_that_is_not_good_is_refused(flow: Flow, changes: dict[str, Any], reason: str) -> None:
    """§5: MUST be a valid proof, else invalid_dpop_proof. Before the code is touched."""
    holder, code = Holder(), flow.code()
    refused(flow, redeem(flow, code, shown(flow, holder, **changes)), "invalid_dpop_proof", reason)
    assert redeem(flow, code, shown(flow, holder)).status_code == 200


def test_two_proofs_are_none(flow: Flow) -> None:
    """§4.3 no. 1: servers join two headers with a comma."""
    two = ", ".join(shown(flow, Holder())["DPoP"] for _ in range(2))
    refused(flow, redeem(flow, flow.code(), {"DPoP": two}), "invalid_dpop_proof", "proof_malformed")


def test_a_proof_counts_once(flow: Flow) -> None:
    """§11.1."""
    headers = shown(flow, Holder())
    assert redeem(flow, flow.code(), headers).status_code == 200
    again = flow.code()
    refused(flow, redeem(flow, again, headers), "invalid_dpop_proof", "proof_replayed")
    assert redeem(flow, again, {}).status_code == 200
    with in_tenant(flow.house.tenant.id):
        (mark,) = SpentOnce.objects.filter(kind="dpop")
    assert NONCE_SECONDS - 1 <= mark.expires_at.timestamp() - time.time() <= 2 * NONCE_SECONDS


def test_a_refused_client_uses_up_no_proof(flow: Flow) -> None:
    headers, code = shown(flow, Holder()), flow.code()
    assert redeem(flow, code, headers, client_secret="wrong").status_code == 401
    assert redeem(flow, code, headers).status_code == 200


# Refresh tokens (§5)


def test_a_public_clients_refresh_token_is_bound(public: Flow) -> None:
    holder = Holder()
    first = redeem(public, public.code(), shown(public, holder)).json()["refresh_token"]
    for headers in ({}, shown(public, Holder())):
        refused(public, refresh(public, first, headers), "invalid_grant", "bound_to_another_key")
    second = refresh(public, first, shown(public, holder))  # whoever found it has ended nothing
    assert claims_of(second)["cnf"] == {"jkt": holder.jkt}
    refused(public, refresh(public, second.json()["refresh_token"], {}), "invalid_grant", "bound_to_another_key")
    with in_tenant(public.house.tenant.id):
        assert set(RefreshToken.objects.values_list("jkt", flat=True)) == {holder.jkt}


def test_an_unbound_one_is_bound_from_the_first_proof_on(public: Flow) -> None:
    first = redeem(public, public.code(), {}).json()["refresh_token"]
    second = refresh(public, first, shown(public, Holder())).json()["refresh_token"]
    refused(public, refresh(public, second, {}), "invalid_grant", "bound_to_another_key")


def test_a_confidential_clients_refresh_token_is_bound_to_its_credential(flow: Flow) -> None:
    """§5: it may change its key, since it proves itself in another way."""
    first = redeem(flow, flow.code(), shown(flow, Holder())).json()["refresh_token"]
    other = Holder()
    answer = refresh(flow, first, shown(flow, other))
    assert claims_of(answer)["cnf"] == {"jkt": other.jkt}
    with in_tenant(flow.house.tenant.id):
        assert set(RefreshToken.objects.values_list("jkt", flat=True)) == {""}


# Codes (§10)


def test_a_code_that_was_asked_for_by_a_key_is_redeemed_by_that_key(flow: Flow) -> None:
    """§10: MUST reject where the proof's key does not match dpop_jkt; a code without its key is of no use."""
    holder = Holder()
    code = flow.code(dpop_jkt=holder.jkt)
    for headers in ({}, shown(flow, Holder())):
        refused(flow, redeem(flow, code, headers), "invalid_grant", "bound_to_another_key")
    assert claims_of(redeem(flow, code, shown(flow, holder)))["cnf"] == {"jkt": holder.jkt}


@pytest.mark.parametrize("value", ["short", "a" * 44, "a" * 42 + "=", "é" * 43])
def test_a_dpop_jkt_that_is_none_is_refused(flow: Flow, value: str) -> None:
    answer = answer_in(flow.authorize(dpop_jkt=value))
    assert answer["error"] == "invalid_request" and "dpop_jkt" in answer["error_description"]
    assert events_of(flow.house.tenant.id, "authorization.refused")[-1].reasons == ["dpop_jkt"]


def push(who: Flow, headers: dict[str, str], **changes: Any) -> Any:
    return who.post("par", who.request(**changes) | who.proof(), **headers)


def code_of(who: Flow, pushed: Any) -> str:
    assert pushed.status_code == 201, pushed.content
    asked = dict.fromkeys(who.request()) | {
        "client_id": who.agent.client_id,
        "request_uri": pushed.json()["request_uri"],
    }
    return who.code(**asked)


def test_a_proof_at_par_binds_the_code(flow: Flow) -> None:
    """§10.1: as if its thumbprint had been sent as dpop_jkt."""
    holder = Holder()
    pushed = push(flow, shown(flow, holder, "par"))
    assert pushed["DPoP-Nonce"]
    code = code_of(flow, pushed)
    refused(flow, redeem(flow, code, shown(flow, Holder())), "invalid_grant", "bound_to_another_key")
    assert redeem(flow, code, shown(flow, holder)).status_code == 200


def test_dpop_jkt_at_par_alone_binds_it_too(flow: Flow) -> None:
    holder = Holder()
    code = code_of(flow, push(flow, {}, dpop_jkt=holder.jkt))
    with in_tenant(flow.house.tenant.id):
        assert AuthorizationCode.objects.get().jkt == holder.jkt
    assert redeem(flow, code, shown(flow, holder)).status_code == 200


def test_at_par_both_must_name_the_same_key(flow: Flow) -> None:
    """§10.1: MUST reject."""
    holder = Holder()
    assert push(flow, shown(flow, holder, "par"), dpop_jkt=holder.jkt).status_code == 201
    answer = push(flow, shown(flow, holder, "par"), dpop_jkt=Holder().jkt)
    refused(flow, answer, "invalid_dpop_proof", "bound_to_another_key", "authorization.refused")
    wrong = push(flow, shown(flow, holder, "token"))
    refused(flow, wrong, "invalid_dpop_proof", "proof_address", "authorization.refused")
    told = push(flow, shown(flow, holder, "par", nonce=None))
    assert (told.status_code, told.json()["error"]) == (400, "use_dpop_nonce") and told["DPoP-Nonce"]


# Clients that want nothing else (§5.2)


def test_a_client_for_bound_tokens_gets_no_other(flow: Flow) -> None:
    """§5.2: MUST reject token requests without a proof. At any grant."""
    first = redeem(flow, flow.code(), shown(flow, Holder())).json()
    change(flow, dpop_bound_access_tokens=True)
    refused(flow, redeem(flow, flow.code(), {}), "invalid_dpop_proof", "proof_missing")
    refused(flow, refresh(flow, first["refresh_token"], {}), "invalid_dpop_proof", "proof_missing")
    assert redeem(flow, flow.code(), shown(flow, Holder())).status_code == 200


def test_a_resource_that_takes_bound_tokens_only_is_given_no_other(flow: Flow) -> None:
    """RFC 9728 §2, whoever asks and by whichever grant; code and refresh token stay good for a request with a proof."""
    tokens, code = flow.tokens(), flow.code()
    with in_tenant(flow.house.tenant.id):
        demand_bound_tokens(flow.house.office, by=flow.house.owner, demanded=True)
    refused(flow, redeem(flow, code, {}), "invalid_dpop_proof", "bound_tokens_only")
    refused(flow, refresh(flow, tokens["refresh_token"], {}), "invalid_dpop_proof", "bound_tokens_only")
    assert "cnf" in claims_of(redeem(flow, code, shown(flow, Holder())))
    assert "cnf" in claims_of(refresh(flow, tokens["refresh_token"], shown(flow, Holder())))
    with in_tenant(flow.house.tenant.id):
        demand_bound_tokens(flow.house.office, by=flow.house.owner, demanded=False)
    assert "cnf" not in claims_of(redeem(flow, flow.code(), {}))


def test_a_client_registers_for_bound_tokens(acme: House) -> None:
    """§5.2: the metadata is taken and echoed."""
    document = {"redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none"}
    plain = self_register(acme, document).json()
    assert "dpop_bound_access_tokens" not in plain
    answer = self_register(acme, document | {"dpop_bound_access_tokens": True}).json()
    assert answer["dpop_bound_access_tokens"] is True
    with in_tenant(acme.tenant.id):
        agent = Agent.objects.get(client_id=answer["client_id"])
    assert agent.dpop_bound_access_tokens and not agent.high_assurance
    form = {"grant_type": "refresh_token", "refresh_token": "x", "client_id": agent.client_id}
    refused(Flow(acme, agent), Flow(acme, agent).post("token", form), "invalid_dpop_proof", "proof_missing")
    values: tuple[Any, ...] = ("true", 1, None, [])
    for value in values:
        wrong = self_register(acme, document | {"dpop_bound_access_tokens": value})
        said = (wrong.status_code, wrong.json().get("error"))
        assert said == ((201, None) if value is None else (400, "invalid_client_metadata")), value


# What others do with a bound token


def test_a_bound_token_is_not_exchanged(flow: Flow) -> None:
    """RFC 8693 §5: whoever finds it has no key to show; who has the key has no need to hand it on."""
    token = redeem(flow, flow.code(), shown(flow, Holder())).json()["access_token"]
    kind = "urn:ietf:params:oauth:token-type:access_token"
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": token,
        "subject_token_type": kind,
    }
    refused(flow, flow.post("token", form | flow.proof()), "invalid_request", "subject_token_bound")


def test_userinfo_wants_the_key(flow: Flow) -> None:
    """§7."""
    holder = Holder()
    token = redeem(flow, flow.code(scope="openid rooms:read"), shown(flow, holder)).json()["access_token"]
    url = f"{flow.issuer}/oauth/userinfo"

    def ask(scheme: str, **headers: str) -> Any:
        return Client().get(flow.path("userinfo"), headers={"Authorization": f"{scheme} {token}"} | headers)

    bearer = ask("Bearer")
    assert bearer.status_code == 401 and 'error="invalid_token"' in bearer["WWW-Authenticate"]
    told = ask("DPoP", DPoP=holder.proof("GET", url, token=token, nonce=None))
    assert told.status_code == 401 and "DPoP algs=" in told["WWW-Authenticate"]
    assert 'error="use_dpop_nonce"' in told["WWW-Authenticate"] and told["DPoP-Nonce"]
    proof = holder.proof("GET", url, token=token)
    assert ask("DPoP", DPoP=proof).json() == {"sub": str(flow.house.members["matt"].id)}
    for wrong in (proof, Holder().proof("GET", url, token=token), holder.proof("GET", url), ""):
        answer = ask("DPoP", DPoP=wrong)
        assert answer.status_code == 401 and 'error="invalid_dpop_proof"' in answer["WWW-Authenticate"]
    unbound = flow.tokens(scope="openid rooms:read")["access_token"]
    headers = {"Authorization": f"DPoP {unbound}", "DPoP": holder.proof("GET", url, token=unbound)}
    answer = Client().get(flow.path("userinfo"), headers=headers)
    assert answer.status_code == 401 and 'error="invalid_token"' in answer["WWW-Authenticate"]


def test_times_beyond_all_in_a_token_of_our_own_key_are_no_token(flow: Flow) -> None:
    from agentauth.keys.signing import sign

    token = flow.tokens()["access_token"]
    claims = jwt.decode(token, options={"verify_signature": False})
    for changes in ({"exp": 10**18}, {"iat": 10**18}, {"iat": -5}, {"exp": "9999999999"}):
        with in_tenant(flow.house.tenant.id):
            absurd = sign(flow.house.tenant.id, claims | changes, "at+jwt")
        answer = flow.post("introspect", {"token": absurd} | flow.proof())
        assert (answer.status_code, answer.json()) == (200, {"active": False}), changes


def test_discovery_names_the_algorithms(acme: House) -> None:
    """§5.1."""
    said = Client().get(f"/.well-known/oauth-authorization-server/t/{acme.tenant.slug}").json()
    assert said["dpop_signing_alg_values_supported"] == ["ES256", "Ed25519", "EdDSA", "PS256", "RS256"]


def test_the_grant_behind_a_bound_token_is_the_same(flow: Flow) -> None:
    claims = claims_of(redeem(flow, flow.code(), shown(flow, Holder())))
    with in_tenant(flow.house.tenant.id):
        assert Grant.objects.get(pk=claims["grant_id"]).agent_id == flow.agent.id
