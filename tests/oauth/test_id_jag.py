"""ID-JAG (draft-ietf-oauth-identity-assertion-authz-grant-04) as MCP's enterprise-managed authorization profiles it.

The organisation's identity provider allows an agent something in a person's place; what comes of it is a grant.
"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from django.utils.timezone import now

from agentauth.agents.models import MemberLink, TrustedIssuer, VouchedGrant
from agentauth.agents.registering import JWT_BEARER
from agentauth.grants.distrusting import remove_issuer, suspend_issuer
from agentauth.grants.granting import live_grant
from agentauth.grants.models import Grant
from agentauth.oauth.own_token import read_own_token
from tenants.models import Member
from tenants.rls import in_tenant
from tests import cast
from tests.cast import House, events_of
from tests.oauth.browser import Flow
from tests.oauth.proofs import Holder
from tests.oauth.provider import DOMAIN, IDP, Provider, spoiled, times, us

CORPUS = json.loads((Path(__file__).parents[1] / "corpora" / "foreign_tokens.json").read_text())
TYPE = {"typ": "oauth-id-jag+jwt"}


@pytest.fixture
def acme(db: None) -> House:
    """In one transaction that is taken back: nothing here needs a second connection."""
    return cast.acme()


@pytest.fixture
def idp(acme: House) -> Provider:
    return Provider()


@pytest.fixture
def globex(acme: House) -> House:
    return cast.globex()


@pytest.fixture
def trust(idp: Provider, acme: House) -> TrustedIssuer:
    return idp.trusted_by(acme)


def claims_for(flow: Flow, **changes: Any) -> dict[str, Any]:
    said = {
        "iss": IDP,
        "sub": "00u-matt",
        "aud": us(flow.house),
        "client_id": flow.agent.client_id,
        "resource": flow.resource,
        "scope": "rooms:read meeting:enter",
        "email": "matt@acme.example",
        "email_verified": True,
    }
    return {name: value for name, value in (said | times() | changes).items() if value is not None}


def redeem(flow: Flow, assertion: str, **changes: Any) -> Any:
    form = {"grant_type": JWT_BEARER, "assertion": assertion} | flow.proof() | changes
    return flow.post("token", {name: value for name, value in form.items() if value is not None})


def bring(flow: Flow, idp: Provider, **changes: Any) -> Any:
    return redeem(flow, idp.sign(claims_for(flow, **changes), TYPE))


def read(answer: Any) -> dict[str, Any]:
    assert answer.status_code == 200, answer.content
    found: dict[str, Any] = jwt.decode(answer.json()["access_token"], options={"verify_signature": False})
    return found


def refused(flow: Flow, answer: Any, reason: str, code: str = "invalid_grant") -> None:
    assert (answer.status_code, answer.json()["error"]) == (400, code), answer.content
    last = events_of(flow.house.tenant.id, "token.refused")[-1]
    assert last.reasons == [reason] and last.details["grant_type"] == JWT_BEARER


def grant_of(flow: Flow) -> Grant | None:
    with in_tenant(flow.house.tenant.id):
        return live_grant(flow.agent, flow.house.office, flow.house.members["matt"])


def test_what_the_provider_allows_becomes_a_token_for_its_person_with_the_agent_as_actor(
    flow: Flow, idp: Provider, trust: TrustedIssuer
) -> None:
    assertion = idp.sign(claims_for(flow), TYPE)
    answer = redeem(flow, assertion)
    claims, matt = read(answer), flow.house.members["matt"]
    assert answer["Cache-Control"] == "no-store"
    # No refresh token, no id token: the client comes with a fresh assertion (§4.4.3)
    assert set(answer.json()) == {"access_token", "token_type", "expires_in", "scope", "resource"}
    assert answer.json()["resource"] == flow.resource  # §4.4.1
    assert (claims["sub"], claims["act"]) == (str(matt.id), {"sub": str(flow.agent.id)})
    assert claims["aud"] == flow.resource and claims["client_id"] == flow.agent.client_id
    assert set(claims["scope"].split()) == {"rooms:read", "meeting:enter"}
    grant = grant_of(flow)
    assert grant is not None and claims["grant_id"] == str(grant.id)
    assert grant.purpose == f"Allowed by Acme SSO ({IDP})" and grant.expires_at < now() + timedelta(days=31)
    (given,) = events_of(flow.house.tenant.id, "grant.given")
    assert (given.actor_kind, given.actor, given.member_id) == ("issuer", str(trust.id), matt.id)
    (issued,) = events_of(flow.house.tenant.id, "token.issued")
    assert issued.details["vouched_by"]["issuer"] == IDP and issued.member_id == matt.id
    (linked,) = events_of(flow.house.tenant.id, "member.linked")
    assert linked.member_id == matt.id and assertion not in issued.body + given.body + linked.body


def test_an_id_jag_that_is_not_exactly_right_is_refused(flow: Flow, idp: Provider, trust: TrustedIssuer) -> None:
    for case in CORPUS:  # RFC 7523 §3, RFC 8725
        answer = redeem(flow, spoiled(idp, flow.house, claims_for(flow), TYPE, case))
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant"), (case["name"], answer.content)
        last = events_of(flow.house.tenant.id, "token.refused")[-1]
        assert last.reasons == [case["reason"]], case["name"]
    assert grant_of(flow) is None and not events_of(flow.house.tenant.id, "token.issued")


def test_a_sign_in_that_is_still_to_come_is_not_passed_on(flow: Flow, idp: Provider, trust: TrustedIssuer) -> None:
    """RFC 9068 §2.2.1: `auth_time` is when it was; one in the future would be recent enough for ever (RFC 9470)."""
    at = int(now().timestamp())
    assert read(bring(flow, idp, auth_time=at - 100))["auth_time"] == at - 100
    for wrong in (at + 600, -1, True, str(at), at + 0.5):
        assert "auth_time" not in read(bring(flow, idp, auth_time=wrong))


def test_an_assertion_is_required(flow: Flow, trust: TrustedIssuer) -> None:
    """RFC 7521 §4.1."""
    refused(flow, flow.post("token", {"grant_type": JWT_BEARER} | flow.proof()), "missing_parameter", "invalid_request")


@pytest.mark.parametrize("typ", [None, "JWT", "at+jwt"])
def test_another_type_is_no_id_jag(flow: Flow, idp: Provider, trust: TrustedIssuer, typ: str | None) -> None:
    """§3: `typ` MUST be oauth-id-jag+jwt. An id token of the same provider opens nothing."""
    answer = redeem(flow, idp.sign(claims_for(flow), {"typ": typ}))
    reason = "assertion_type" if typ == "at+jwt" else "issuer_not_trusted"  # what looks like a machine's is read as one
    refused(flow, answer, reason)


OFF: dict[str, tuple[dict[str, Any], str]] = {
    "another client": ({"client_id": "somebody"}, "assertion_client"),  # §4.4.1
    "no client": ({"client_id": None}, "assertion_client"),
    "no jti": ({"jti": None}, "assertion_jti"),
    "an endless jti": ({"jti": "j" * 300}, "assertion_jti"),
    "NUL in jti": ({"jti": "a\0"}, "assertion_jti"),
    "no resource": ({"resource": None}, "assertion_resource"),  # MCP: REQUIRED
    "a resource that is a number": ({"resource": 5}, "assertion_resource"),
    "a resource that is not ours": ({"resource": "https://other.example/mcp"}, "unknown_resource"),
    "a scope that is a list": ({"scope": ["rooms:read"]}, "assertion_scope"),
    "a scope with a quote": ({"scope": 'rooms"read'}, "assertion_scope"),
    "nothing that may be allowed": ({"scope": "unheard:of"}, "nothing_to_allow"),
    "an empty scope": ({"scope": ""}, "nothing_to_allow"),
    "details that we would lose": ({"authorization_details": [{"type": "x"}]}, "assertion_limits"),
    "a certificate that we would lose": ({"cnf": {"x5t#S256": "x"}}, "assertion_limits"),
    "two bindings": ({"cnf": {"jkt": "x", "kid": "y"}}, "assertion_limits"),
    "a binding to nothing": ({"cnf": {"jkt": ""}}, "assertion_limits"),
    "a binding that is text": ({"cnf": "x"}, "assertion_limits"),
    "another organisation": ({"aud_tenant": "globex"}, "assertion_tenant"),
    "another member meant": ({"aud_sub": "somebody"}, "member_differs"),
    "nobody's address": ({"email": "nobody@acme.example"}, "member_unknown"),
    "no address": ({"email": None}, "member_unknown"),
    "an address that is a list": ({"email": ["matt@acme.example"]}, "member_unknown"),
    "a look-alike address": ({"email": "mаtt@acme.example"}, "member_unknown"),
    "an address nobody verified": ({"email_verified": False}, "email_unverified"),
    "an address of which nothing is said": ({"email_verified": None}, "email_unverified"),
    "an address said to be verified": ({"email_verified": "true"}, "email_unverified"),
    "actors that are text": ({"act": "somebody"}, "act_malformed"),
    "actors without a name": ({"act": {"act": {"sub": "a"}}}, "act_malformed"),
}


def test_what_does_not_fit_is_refused_and_leaves_nothing(flow: Flow, idp: Provider, trust: TrustedIssuer) -> None:
    for name, (changes, reason) in OFF.items():
        answer = bring(flow, idp, **changes)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant"), (name, answer.content)
        assert events_of(flow.house.tenant.id, "token.refused")[-1].reasons == [reason], name
    with in_tenant(flow.house.tenant.id):
        assert not MemberLink.objects.exists() and not VouchedGrant.objects.exists() and not Grant.objects.exists()


def test_an_assertion_counts_once_until_it_expires(flow: Flow, idp: Provider, trust: TrustedIssuer) -> None:
    """MCP enterprise-managed authorization: replay of a `jti` MUST be rejected until `exp`."""
    assertion = idp.sign(claims_for(flow), TYPE)
    read(redeem(flow, assertion))
    refused(flow, redeem(flow, assertion), "assertion_replayed")
    again = idp.sign(
        claims_for(flow) | {"jti": jwt.decode(assertion, options={"verify_signature": False})["jti"]}, TYPE
    )
    refused(flow, redeem(flow, again), "assertion_replayed")


def test_a_refusal_does_not_use_it_up(flow: Flow, idp: Provider, trust: TrustedIssuer) -> None:
    assertion = idp.sign(claims_for(flow), TYPE)
    refused(flow, redeem(flow, assertion, scope="rooms:book"), "scope_grows", "invalid_scope")
    assert grant_of(flow) is None and events_of(flow.house.tenant.id, "token.refused")[-1].grant_id is None
    assert read(redeem(flow, assertion, scope="rooms:read"))["scope"] == "rooms:read"
    refused(flow, redeem(flow, idp.sign(claims_for(flow), TYPE), scope="rooms:book"), "scope_grows", "invalid_scope")
    grant = grant_of(flow)
    assert grant is not None and events_of(flow.house.tenant.id, "token.refused")[-1].grant_id == grant.id


def with_proof(flow: Flow, holder: Holder) -> dict[str, str]:
    return {"DPoP": holder.proof("POST", f"{flow.issuer}/oauth/token")}


def test_one_that_is_bound_to_a_key_is_redeemed_with_that_key_alone(
    flow: Flow, idp: Provider, trust: TrustedIssuer
) -> None:
    """§9.9.1.2: without a proof, or with another key's, it opens nothing and stays good for who holds the key."""
    holder, thief = Holder(), Holder()
    assertion = idp.sign(claims_for(flow, cnf={"jkt": holder.jkt}), TYPE)
    form = {"grant_type": JWT_BEARER, "assertion": assertion} | flow.proof()
    refused(flow, flow.post("token", form), "bound_to_another_key")
    refused(flow, flow.post("token", form, **with_proof(flow, thief)), "bound_to_another_key")
    assert grant_of(flow) is None
    answer = flow.post("token", form, **with_proof(flow, holder))
    assert read(answer)["cnf"] == {"jkt": holder.jkt} and answer.json()["token_type"] == "DPoP"
    assert events_of(flow.house.tenant.id, "token.issued")[-1].details["jkt"] == holder.jkt


def test_a_proof_beside_one_that_is_bound_to_nothing_is_checked_and_binds_the_token(
    flow: Flow, idp: Provider, trust: TrustedIssuer
) -> None:
    """§9.9.1.2.3."""
    holder = Holder()
    form = {"grant_type": JWT_BEARER, "assertion": idp.sign(claims_for(flow), TYPE)} | flow.proof()
    elsewhere = {"DPoP": holder.proof("POST", "https://other.example/token")}
    refused(flow, flow.post("token", form, **elsewhere), "proof_address", "invalid_dpop_proof")
    answer = flow.post("token", form, **with_proof(flow, holder))
    assert read(answer)["cnf"] == {"jkt": holder.jkt} and answer.json()["token_type"] == "DPoP"


def test_only_clients_that_prove_who_they_are(public: Flow, idp: Provider, trust: TrustedIssuer) -> None:
    """§9.1: for confidential clients; whoever finds an assertion must not be able to use it."""
    public.agent.grant_types = [JWT_BEARER]
    with in_tenant(public.house.tenant.id):
        public.agent.save()
    refused(public, bring(public, idp), "public_client", "unauthorized_client")


def test_the_client_authenticates_as_ever(flow: Flow, idp: Provider, trust: TrustedIssuer) -> None:
    assertion = idp.sign(claims_for(flow), TYPE)
    assert redeem(flow, assertion, client_secret="wrong").json()["error"] == "invalid_client"
    assert redeem(flow, assertion, client_secret=None).json()["error"] == "invalid_client"
    assert redeem(flow, assertion, client_id=None, client_secret=None).json()["error"] == "invalid_client"


def test_a_client_that_is_not_registered_for_it_is_refused(flow: Flow, idp: Provider, trust: TrustedIssuer) -> None:
    flow.agent.grant_types = ["authorization_code"]
    with in_tenant(flow.house.tenant.id):
        flow.agent.save()
    refused(flow, bring(flow, idp), "grant_not_registered", "unauthorized_client")


def test_only_the_resource_that_it_is_for(flow: Flow, idp: Provider, trust: TrustedIssuer) -> None:
    with in_tenant(flow.house.tenant.id):
        cast.office(flow.house, slug="lab")
    lab = flow.resource.replace("/office", "/lab")
    assertion = idp.sign(claims_for(flow), TYPE)
    refused(flow, redeem(flow, assertion, resource=lab), "other_resource", "invalid_target")  # RFC 8707 §2.2
    assert read(redeem(flow, assertion, resource=flow.resource))["aud"] == flow.resource
    both = claims_for(flow, resource=[flow.resource, lab])
    refused(flow, redeem(flow, idp.sign(both, TYPE)), "other_resource", "invalid_target")  # which one, nobody said
    assert read(redeem(flow, idp.sign(both, TYPE), resource=flow.resource))["aud"] == flow.resource


def test_the_provider_allows_no_more_than_the_tenant_lets_it(flow: Flow, idp: Provider, trust: TrustedIssuer) -> None:
    every = "rooms:read rooms:book finance:enter unheard:of"
    assert set(read(bring(flow, idp, scope=every))["scope"].split()) == {"rooms:read", "rooms:book"}
    refused(flow, bring(flow, idp, scope="finance:enter"), "nothing_to_allow")


def test_a_client_that_repeats_what_the_provider_allowed_gets_what_the_tenant_lets_it(
    flow: Flow, idp: Provider, trust: TrustedIssuer
) -> None:
    """RFC 7521 §4.1: limited to what was granted. MCP clients ask for all that the resource's challenge names."""
    every = "rooms:read rooms:book finance:enter"
    assertion = idp.sign(claims_for(flow, scope=every), TYPE)
    assert set(read(redeem(flow, assertion, scope=every))["scope"].split()) == {"rooms:read", "rooms:book"}
    assert set(events_of(flow.house.tenant.id, "token.issued")[-1].details["scope"].split()) == {
        "rooms:read", "rooms:book",
    }  # fmt: skip
    refused(flow, redeem(flow, idp.sign(claims_for(flow), TYPE), scope="finance:enter"), "scope_grows", "invalid_scope")


def test_without_a_scope_it_is_for_reading(flow: Flow, idp: Provider, trust: TrustedIssuer) -> None:
    assert read(bring(flow, idp, scope=None))["scope"] == "rooms:read"


def test_what_is_dangerous_is_asked_even_where_the_tenant_lets_it(flow: Flow, idp: Provider) -> None:
    idp.trusted_by(flow.house, ceiling_risk="dangerous")
    assert read(bring(flow, idp, scope="finance:enter"))["scope"] == "finance:enter"
    grant = grant_of(flow)
    assert grant is not None
    with in_tenant(flow.house.tenant.id):
        assert [one.mode for one in grant.permissions.all()] == ["ask"]


def test_more_allowed_later_widens_the_grant_and_keeps_what_the_person_narrowed(
    flow: Flow, idp: Provider, trust: TrustedIssuer
) -> None:
    house, matt = flow.house, flow.house.members["matt"]
    read(bring(flow, idp, scope="rooms:read meeting:enter"))
    first = grant_of(flow)
    assert first is not None
    with in_tenant(house.tenant.id):
        first.narrow(by=matt, permissions={house.scope("meeting:enter"): "never"})
    claims = read(bring(flow, idp, scope="rooms:read meeting:enter rooms:book"))
    assert set(claims["scope"].split()) == {"rooms:read", "rooms:book"}
    second = grant_of(flow)
    assert second is not None and second.id != first.id
    with in_tenant(house.tenant.id):
        assert {one.scope.name: one.mode for one in second.permissions.select_related("scope")} == {
            "rooms:read": "always", "meeting:enter": "never", "rooms:book": "always",
        }  # fmt: skip
    assert read(bring(flow, idp))["grant_id"] == str(second.id)  # nothing new: nothing made


def test_a_persons_own_grant_is_used_as_it_is(flow: Flow, idp: Provider, trust: TrustedIssuer) -> None:
    with in_tenant(flow.house.tenant.id):
        own = cast.matts_grant(flow.house, flow.agent, meeting__enter="never")
    claims = read(bring(flow, idp, scope="rooms:read meeting:enter rooms:book"))
    assert claims["grant_id"] == str(own.id) and set(claims["scope"].split()) == {"rooms:read", "rooms:book"}


def test_what_a_person_ended_is_not_opened_again_from_outside(flow: Flow, idp: Provider, trust: TrustedIssuer) -> None:
    token = bring(flow, idp).json()["access_token"]
    grant = grant_of(flow)
    assert grant is not None
    with in_tenant(flow.house.tenant.id):
        grant.revoke(by=flow.house.members["matt"])
        assert read_own_token(flow.house.tenant, token) is None
    refused(flow, bring(flow, idp), "grant_revoked")
    with in_tenant(flow.house.tenant.id):  # until they allow it themselves
        cast.matts_grant(flow.house, flow.agent)
    read(bring(flow, idp))


def test_an_expired_grant_is_made_anew(flow: Flow, idp: Provider, trust: TrustedIssuer) -> None:
    read(bring(flow, idp))
    with in_tenant(flow.house.tenant.id):
        Grant.objects.update(expires_at=now() - timedelta(seconds=1))
    read(bring(flow, idp))


def test_from_the_second_time_on_the_subject_is_who_counts(flow: Flow, idp: Provider, trust: TrustedIssuer) -> None:
    read(bring(flow, idp))
    claims = read(bring(flow, idp, email="somebody@else.example", email_verified=False))
    assert claims["sub"] == str(flow.house.members["matt"].id)


def test_an_address_that_went_to_somebody_else_brings_no_access_along(
    flow: Flow, idp: Provider, trust: TrustedIssuer
) -> None:
    read(bring(flow, idp))
    refused(flow, bring(flow, idp, sub="00u-new-matt"), "member_collision")
    with in_tenant(flow.house.tenant.id):
        MemberLink.objects.get().unlink(by=flow.house.owner)
    assert len(events_of(flow.house.tenant.id, "member.unlinked")) == 1
    read(bring(flow, idp, sub="00u-new-matt"))


def test_who_has_left_gets_nothing(flow: Flow, idp: Provider, trust: TrustedIssuer) -> None:
    read(bring(flow, idp))
    Member.objects.filter(pk=flow.house.members["matt"].pk)
    with in_tenant(flow.house.tenant.id):
        Member.objects.filter(pk=flow.house.members["matt"].pk).update(deactivated_at=now())
    refused(flow, bring(flow, idp), "member_inactive")


def test_a_provider_speaks_only_for_its_domains(flow: Flow, idp: Provider) -> None:
    idp.trusted_by(flow.house, email_domains=["acme.example"])
    read(bring(flow, idp, email_verified=None))  # the tenant said so: the provider need not
    refused(flow, bring(flow, idp, sub="b", email="b@else.example"), "email_domain")
    refused(flow, bring(flow, idp, sub="c", email="c@evil-acme.example"), "email_domain")
    refused(flow, bring(flow, idp, sub="d", email="ada@acme.example", email_verified=False), "email_unverified")


def test_another_tenants_provider_is_nobodys_here(flow: Flow, idp: Provider, globex: House) -> None:
    idp.trusted_by(globex)
    refused(flow, bring(flow, idp), "issuer_not_trusted")


def test_an_issuer_of_machines_speaks_for_no_person(flow: Flow, idp: Provider) -> None:
    idp.trusted_by(flow.house, kind="workload")
    refused(flow, bring(flow, idp), "issuer_not_trusted")


def test_an_audience_of_its_own_is_not_for_id_jags(flow: Flow, idp: Provider) -> None:
    """§4.4.1: `aud` MUST be the issuer of the authorization server, whatever else was agreed for other tokens."""
    idp.trusted_by(flow.house, audience="https://acme.example/agents")
    refused(flow, bring(flow, idp, aud="https://acme.example/agents"), "assertion_audience")
    read(bring(flow, idp))


def test_an_algorithm_that_the_tenant_left_out_is_refused(flow: Flow, idp: Provider) -> None:
    idp.trusted_by(flow.house, algorithms=["RS256"])
    refused(flow, bring(flow, idp), "assertion_algorithm")


def test_when_trust_is_suspended_what_it_allowed_ends_and_comes_back_only_when_said_anew(
    flow: Flow, idp: Provider, trust: TrustedIssuer
) -> None:
    token = bring(flow, idp).json()["access_token"]
    with in_tenant(flow.house.tenant.id):
        ended = suspend_issuer(trust, by=flow.house.owner)
        assert (ended.grants, ended.tokens) == (1, 1) and read_own_token(flow.house.tenant, token) is None
    refused(flow, bring(flow, idp), "issuer_suspended")
    (suspended,) = events_of(flow.house.tenant.id, "issuer.suspended")
    assert suspended.details["grants_ended"] == 1 and suspended.actor == str(flow.house.owner.id)
    with in_tenant(flow.house.tenant.id):
        trust.let_back(by=flow.house.owner)
        assert read_own_token(flow.house.tenant, token) is None
    assert len(events_of(flow.house.tenant.id, "issuer.let_back")) == 1
    read(bring(flow, idp))  # nobody had ended it but the trust


def test_a_grant_of_the_persons_own_outlives_the_trust(flow: Flow, idp: Provider, trust: TrustedIssuer) -> None:
    with in_tenant(flow.house.tenant.id):
        own = cast.matts_grant(flow.house, flow.agent)
    read(bring(flow, idp))
    with in_tenant(flow.house.tenant.id):
        assert remove_issuer(trust, by=flow.house.owner).grants == 0
    found = grant_of(flow)
    assert found is not None and found.id == own.id
    refused(flow, bring(flow, idp), "issuer_not_trusted")
    assert len(events_of(flow.house.tenant.id, "issuer.removed")) == 1


def test_who_acted_before_stays_in_the_chain(flow: Flow, idp: Provider, trust: TrustedIssuer) -> None:
    claims = read(bring(flow, idp, act={"sub": "their-bot", "act": {"sub": "first", "iss": "https://a.example"}}))
    assert claims["act"] == {
        "sub": str(flow.agent.id),
        "act": {"sub": "their-bot", "iss": IDP, "act": {"sub": "first", "iss": "https://a.example"}},
    }
    deep: dict[str, Any] = {"sub": "a"}
    for name in "bcde":
        deep = {"sub": name, "act": deep}
    refused(flow, bring(flow, idp, act=deep), "chain_too_deep")


def test_the_token_introspects_as_any_other(flow: Flow, idp: Provider, trust: TrustedIssuer) -> None:
    token = bring(flow, idp, act={"sub": "their-bot"}).json()["access_token"]
    said = flow.post("introspect", {"token": token} | flow.proof()).json()
    assert said["active"] is True and said["act"]["act"] == {"sub": "their-bot", "iss": IDP}


def test_it_is_advertised_only_while_somebody_is_trusted(flow: Flow, idp: Provider) -> None:
    """§7.2: `authorization_grant_profiles_supported`; RFC 8414 §2: what is listed works."""

    def said() -> dict[str, Any]:
        found: dict[str, Any] = flow.browser.get("/.well-known/oauth-authorization-server/t/acme").json()
        return found

    assert JWT_BEARER not in said()["grant_types_supported"] and "authorization_grant_profiles_supported" not in said()
    trust = idp.trusted_by(flow.house)
    assert said()["authorization_grant_profiles_supported"] == ["urn:ietf:params:oauth:grant-profile:id-jag"]
    assert JWT_BEARER in said()["grant_types_supported"]
    assert "spiffe_jwt" not in said()["token_endpoint_auth_methods_supported"]
    with in_tenant(flow.house.tenant.id):
        suspend_issuer(trust, by=flow.house.owner)
    assert JWT_BEARER not in said()["grant_types_supported"]
    Provider(DOMAIN, use="jwt-svid").trusted_by(flow.house, "spiffe")
    for endpoint in ("token", "revocation", "introspection"):  # draft-ietf-oauth-spiffe-client-auth §4
        assert "spiffe_jwt" in said()[f"{endpoint}_endpoint_auth_methods_supported"], endpoint
    assert "authorization_grant_profiles_supported" not in said()
