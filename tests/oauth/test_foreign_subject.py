"""Token exchange (RFC 8693) of tokens of a trusted identity provider, and `may_act`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest

from agentauth.agents.models import TrustedIssuer
from agentauth.agents.registering import add_secret
from agentauth.grants.models import Grant
from agentauth.oauth.grants.token_exchange import ACCESS_TOKEN_TYPE, GRANT_TYPE
from agentauth.oauth.own_token import agents_of, strangers_of
from agentauth.oauth.trust.act import actors_before
from agentauth.oauth.trust.reading import NotGood
from tenants.rls import in_tenant
from tests import cast
from tests.cast import House, events_of
from tests.oauth.browser import Flow
from tests.oauth.provider import IDP, Provider, spoiled, times, us
from tests.oauth.test_token_exchange import resigned

CORPUS = json.loads((Path(__file__).parents[1] / "corpora" / "foreign_tokens.json").read_text())
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"
JWT = "urn:ietf:params:oauth:token-type:jwt"


@pytest.fixture
def acme(db: None) -> House:
    return cast.acme()


@pytest.fixture
def idp(acme: House) -> Provider:
    return Provider()


@pytest.fixture
def trust(idp: Provider, acme: House) -> TrustedIssuer:
    return idp.trusted_by(acme, act_order="standard")


@pytest.fixture
def granted(flow: Flow) -> Flow:
    """Matt has let his assistant in."""
    with in_tenant(flow.house.tenant.id):
        cast.matts_grant(flow.house, flow.agent)
    return flow


def subject(house: House, **changes: Any) -> dict[str, Any]:
    said = {"iss": IDP, "sub": "00u-matt", "aud": us(house), "email": "matt@acme.example", "email_verified": True}
    return {name: value for name, value in (said | times() | changes).items() if value is not None}


def exchange(flow: Flow, token: str, kind: str = ACCESS_TOKEN_TYPE, **more: Any) -> Any:
    form = (
        {
            "grant_type": GRANT_TYPE,
            "subject_token": token,
            "subject_token_type": kind,
            "resource": flow.resource,
        }
        | flow.proof()
        | more
    )
    return flow.post("token", {name: value for name, value in form.items() if value is not None})


def read(answer: Any) -> dict[str, Any]:
    assert answer.status_code == 200, answer.content
    found: dict[str, Any] = jwt.decode(answer.json()["access_token"], options={"verify_signature": False})
    return found


def refused(flow: Flow, answer: Any, reason: str, code: str = "invalid_request") -> None:
    assert (answer.status_code, answer.json()["error"]) == (400, code), answer.content
    last = events_of(flow.house.tenant.id, "token.refused")[-1]
    assert last.reasons == [reason] and last.details["grant_type"] == GRANT_TYPE


@pytest.mark.parametrize(("kind", "typ"), [(ACCESS_TOKEN_TYPE, "at+jwt"), (ID_TOKEN, "JWT"), (JWT, None)])
def test_a_token_of_a_trusted_provider_says_who_the_person_is(
    granted: Flow, idp: Provider, trust: TrustedIssuer, kind: str, typ: str | None
) -> None:
    answer = exchange(granted, idp.sign(subject(granted.house), {"typ": typ}), kind)
    claims = read(answer)
    assert claims["sub"] == str(granted.house.members["matt"].id) and claims["act"] == {"sub": str(granted.agent.id)}
    assert answer.json()["issued_token_type"] == ACCESS_TOKEN_TYPE and "refresh_token" not in answer.json()
    event = events_of(granted.house.tenant.id, "token.issued")[-1]
    assert event.details["vouched_by"]["issuer"] == IDP and event.member_id == granted.house.members["matt"].id


def test_a_subject_token_that_is_not_exactly_right_is_refused(
    granted: Flow, idp: Provider, trust: TrustedIssuer
) -> None:
    for case in CORPUS:
        answer = exchange(granted, spoiled(idp, granted.house, subject(granted.house), {"typ": "at+jwt"}, case))
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request"), (case["name"], answer.content)
        assert events_of(granted.house.tenant.id, "token.refused")[-1].reasons, case["name"]
    assert not events_of(granted.house.tenant.id, "token.issued")


@pytest.mark.parametrize("scope", [["rooms:read"], 5, {}, True, 'rooms"read'])
def test_a_limit_that_cannot_be_read_is_not_passed_over(
    granted: Flow, idp: Provider, trust: TrustedIssuer, scope: Any
) -> None:
    """RFC 8693 §4.2: a scope is text; what was meant to narrow would otherwise widen."""
    refused(granted, exchange(granted, idp.sign(subject(granted.house, scope=scope))), "assertion_scope")


def test_what_has_just_run_out_gives_no_token_that_has_run_out(
    granted: Flow, idp: Provider, trust: TrustedIssuer
) -> None:
    """RFC 6749 §5.1: expires_in is a time to come, whatever clocks may differ by."""
    token = idp.sign(subject(granted.house, exp=int(time.time()) - 5))
    refused(granted, exchange(granted, token), "assertion_expired")
    assert not events_of(granted.house.tenant.id, "token.issued")


def test_without_the_persons_grant_it_opens_nothing(flow: Flow, idp: Provider, trust: TrustedIssuer) -> None:
    refused(flow, exchange(flow, idp.sign(subject(flow.house))), "no_grant_of_actor", "invalid_target")
    assert events_of(flow.house.tenant.id, "token.refused")[-1].member_id == flow.house.members["matt"].id


def test_a_provider_whose_tokens_are_not_exchanged(granted: Flow, idp: Provider) -> None:
    idp.trusted_by(granted.house)
    refused(granted, exchange(granted, idp.sign(subject(granted.house))), "issuer_not_exchanged")


def test_an_id_jag_is_no_subject_token(granted: Flow, idp: Provider, trust: TrustedIssuer) -> None:
    token = idp.sign(subject(granted.house), {"typ": "oauth-id-jag+jwt"})
    for kind in (ACCESS_TOKEN_TYPE, ID_TOKEN, JWT):
        refused(granted, exchange(granted, token, kind), "assertion_type")
    refused(granted, exchange(granted, token, "urn:ietf:params:oauth:token-type:saml2"), "subject_token_type")
    refused(granted, exchange(granted, idp.sign(subject(granted.house), {"typ": "at+jwt"}), ID_TOKEN), "assertion_type")


def test_what_is_bound_or_for_one_call_is_not_handed_on(granted: Flow, idp: Provider, trust: TrustedIssuer) -> None:
    bounds: list[dict[str, Any]] = [{"cnf": {"jkt": "x"}}, {"authorization_details": []}]
    for limit in bounds:
        refused(granted, exchange(granted, idp.sign(subject(granted.house, **limit))), "subject_token_bound")


def test_it_narrows_and_never_widens(granted: Flow, idp: Provider, trust: TrustedIssuer) -> None:
    house = granted.house
    only = read(exchange(granted, idp.sign(subject(house, scope="openid rooms:read finance:enter"))))
    assert only["scope"] == "rooms:read"
    login = read(exchange(granted, idp.sign(subject(house, scope="openid email"))))
    assert set(login["scope"].split()) == {"rooms:read", "rooms:book", "meeting:enter"}  # the grant, finance is never
    foreign = exchange(granted, idp.sign(subject(house, scope="their:own")))
    refused(granted, foreign, "nothing_left", "invalid_grant")
    asked = exchange(granted, idp.sign(subject(house, scope="rooms:read")), scope="rooms:book")
    refused(granted, asked, "scope_grows", "invalid_scope")


def test_it_does_not_outlive_the_subject_token(granted: Flow, idp: Provider, trust: TrustedIssuer) -> None:
    token = subject(granted.house) | times(40)
    assert read(exchange(granted, idp.sign(token)))["exp"] == token["exp"]


def test_its_resource_is_named_by_the_client(granted: Flow, idp: Provider, trust: TrustedIssuer) -> None:
    token = idp.sign(subject(granted.house))
    refused(granted, exchange(granted, token, resource=None), "resource_missing", "invalid_target")
    refused(granted, exchange(granted, token, resource="https://x.example"), "unknown_resource", "invalid_target")


def test_actors_of_either_order_become_one_chain(granted: Flow, idp: Provider, trust: TrustedIssuer) -> None:
    """§4.1: the outermost is the one that acts now. Some nest the other way; it is known of each issuer."""
    act = {"sub": "latest", "act": {"sub": "first"}}
    expected = {"sub": "latest", "iss": IDP, "act": {"sub": "first", "iss": IDP}}
    claims = read(exchange(granted, idp.sign(subject(granted.house, act=act))))
    assert claims["act"] == {"sub": str(granted.agent.id), "act": expected}
    with in_tenant(granted.house.tenant.id):
        TrustedIssuer.objects.update(act_order="reversed")
    turned = {"sub": "first", "act": {"sub": "latest"}}
    claims = read(exchange(granted, idp.sign(subject(granted.house, act=turned))))
    assert claims["act"] == {"sub": str(granted.agent.id), "act": expected}
    event = events_of(granted.house.tenant.id, "token.issued")[-1]
    assert event.details["strangers"] == [{"iss": IDP, "sub": "latest"}, {"iss": IDP, "sub": "first"}]


def test_an_actor_there_is_never_taken_for_an_agent_here(granted: Flow, idp: Provider, trust: TrustedIssuer) -> None:
    """A provider that writes an agent's id into `act` gains nothing: it is an actor of that provider's."""
    claims = read(exchange(granted, idp.sign(subject(granted.house, act={"sub": str(granted.agent.id)}))))
    assert agents_of(claims) == [str(granted.agent.id)] and strangers_of(claims) == [
        {"iss": IDP, "sub": str(granted.agent.id)}
    ]


def test_the_chain_goes_on_and_is_counted_from_its_beginning(
    granted: Flow, idp: Provider, trust: TrustedIssuer
) -> None:
    house = granted.house

    def another(name: str) -> Flow:
        with in_tenant(house.tenant.id):
            agent = cast.assistant(house, name=name)
            _, secret = add_secret(agent, by=house.owner)
            cast.matts_grant(house, agent)
        return Flow(house, agent, secret)

    act: dict[str, Any] = {"sub": "c", "act": {"sub": "b", "act": {"sub": "a"}}}
    token = exchange(granted, idp.sign(subject(house, act=act))).json()["access_token"]
    second, third = another("Second"), another("Third")
    answer = exchange(second, token)
    claims = read(answer)
    assert agents_of(claims) == [str(second.agent.id), str(granted.agent.id)] and len(strangers_of(claims)) == 3
    refused(third, exchange(third, answer.json()["access_token"]), "chain_too_deep")
    deep = {"sub": "e", "act": {"sub": "d", "act": act}}
    refused(granted, exchange(granted, idp.sign(subject(house, act=deep))), "chain_too_deep")
    refused(granted, exchange(granted, idp.sign(subject(house, act={"sub": "f", "act": deep}))), "act_malformed")


@pytest.mark.parametrize("act", [[], "a", {}, {"sub": ""}, {"sub": 5}, {"sub": "a", "act": []}, {"sub": "a", "iss": 5}])
def test_a_chain_that_is_none_is_refused(act: Any) -> None:
    with pytest.raises(NotGood):
        actors_before(act, issuer=IDP, ours="https://us.example", reversed_order=False)


def test_nobody_else_says_under_our_name_that_an_agent_of_ours_has_acted(
    granted: Flow, idp: Provider, trust: TrustedIssuer
) -> None:
    """RFC 8693 §4.1: `iss` and `sub` together name an actor, and we sign what stands in our token."""
    ours = {"sub": str(granted.agent.id), "iss": us(granted.house)}
    for act in (ours, {"sub": "first", "act": ours}):
        refused(granted, exchange(granted, idp.sign(subject(granted.house, act=act))), "act_of_ours")
    assert not events_of(granted.house.tenant.id, "token.issued")


def test_an_actor_token_must_be_ones_own(granted: Flow, idp: Provider, trust: TrustedIssuer) -> None:
    house = granted.house
    token = idp.sign(subject(house))
    mine = exchange(granted, token).json()["access_token"]
    read(exchange(granted, token, actor_token=mine, actor_token_type=ACCESS_TOKEN_TYPE))
    refused(granted, exchange(granted, token, actor_token=mine), "actor_token_type")
    stranger = exchange(granted, token, actor_token=token, actor_token_type=ACCESS_TOKEN_TYPE)
    refused(granted, stranger, "actor_token_void")


# may_act (RFC 8693 §4.4)


def test_where_a_token_says_who_may_act_nobody_else_may(granted: Flow, idp: Provider, trust: TrustedIssuer) -> None:
    house, me = granted.house, granted.agent
    for said in (
        {"sub": str(me.id)},
        {"client_id": me.client_id},
        {"sub": str(me.id), "iss": us(house)},
    ):
        read(exchange(granted, idp.sign(subject(house, may_act=said))))
    others: list[Any] = [
        {"sub": "somebody"},
        {"sub": str(me.id), "iss": "https://other.example"},
        {"sub": str(me.id), "client_id": "somebody"},
        {"iss": us(house)},
        {},
        [],
        "x",
        {"sub": None},
        {"sub": [str(me.id)]},
    ]
    for other in others:
        answer = exchange(granted, idp.sign(subject(house) | {"may_act": other}))
        refused(granted, answer, "may_not_act", "invalid_grant")


def test_may_act_allows_nothing_by_itself(flow: Flow, idp: Provider, trust: TrustedIssuer) -> None:
    token = idp.sign(subject(flow.house, may_act={"sub": str(flow.agent.id)}))
    refused(flow, exchange(flow, token), "no_grant_of_actor", "invalid_target")
    with in_tenant(flow.house.tenant.id):
        assert not Grant.objects.exists()


def test_may_act_counts_in_our_own_tokens_too(granted: Flow) -> None:
    token = granted.tokens(scope="rooms:read")["access_token"]
    with in_tenant(granted.house.tenant.id):
        agent = cast.assistant(granted.house, name="Second")
        second = Flow(granted.house, agent, add_secret(agent, by=granted.house.owner)[1])
        cast.matts_grant(granted.house, agent)
    named = resigned(granted, token, may_act={"sub": str(agent.id)})
    assert read(exchange(second, named))["scope"] == "rooms:read"
    other = resigned(granted, token, may_act={"sub": "somebody"})
    refused(second, exchange(second, other), "may_not_act", "invalid_grant")
