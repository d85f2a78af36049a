"""Bound tokens at the gateway (RFC 9449 §7, §9): the key is proven for each call, by a proof that counts once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.conf import settings

from agentauth.gateway.headers import outbound
from agentauth.keys.addresses import resource_url
from agentauth.oauth.dpop import NONCE_SECONDS, fresh_nonce
from agentauth.oauth.models import SpentOnce
from agentauth.resources.publishing import demand_bound_tokens
from tenants.rls import in_tenant
from tests.gateway.conftest import Answer, Door, Stage, eventually
from tests.gateway.test_mcp import called, office, post
from tests.oauth.proofs import Holder


class Bound:
    """Matt's assistant with a token that is bound to its key."""

    def __init__(self, stage: Stage, **changes: Any) -> None:
        self.stage, self.holder = stage, Holder()
        self.token = stage.token(cnf={"jkt": self.holder.jkt}, **changes)

    def proof(self, method: str, tail: str, *, resource: str = "office", **changes: Any) -> str:
        url = settings.KNOBS.gateway_url + self.stage.path(tail, resource).partition("?")[0]
        return self.holder.proof(method, url, **({"token": self.token} | changes))

    def headers(self, *proofs: str, scheme: str = "DPoP") -> list[tuple[str, str]]:
        return [("Authorization", f"{scheme} {self.token}"), *(("DPoP", proof) for proof in proofs)]

    def call(self, method: str, tail: str, *proofs: str, door: Door | None = None, scheme: str = "DPoP") -> Answer:
        door = door or self.stage.door
        return door.call(method, self.stage.path(tail), self.headers(*proofs, scheme=scheme))


@pytest.fixture
def bound(stage: Stage) -> Bound:
    return Bound(stage)


def challenge(answer: Answer) -> str:
    """The one challenge, in the scheme that was used."""
    (found,) = answer.all("www-authenticate")
    return found


def the_refusal(stage: Stage, answer: Answer, reason: str, error: str, *, knows_whose: bool = True) -> None:
    assert (answer.status, answer.codes) == (401, [reason]), answer.body
    assert f'error="{error}"' in answer.all("www-authenticate")[0]
    assert stage.upstream.seen == []
    event = stage.events("call.refused")[-1]
    assert (event.reasons, event.status, event.decision) == ([reason], 401, "refuse")
    assert event.agent_id == (stage.agent.id if knows_whose else None)


def test_a_bound_token_passes_with_a_proof(stage: Stage, bound: Bound) -> None:
    answer = bound.call("GET", "/rooms?floor=2", bound.proof("GET", "/rooms"))
    assert answer.status == 200, answer.body
    assert answer.header("dpop-nonce") == fresh_nonce(time.time())  # §8.2
    assert answer.header("cache-control") == "no-store"
    (seen,) = stage.upstream.seen
    assert not {"dpop", "authorization"} & {name.lower() for name, _ in seen.headers}
    assert stage.events("call.allowed")[-1].agent_id == stage.agent.id


def test_the_address_is_the_one_that_was_called_escapes_and_all(stage: Stage, bound: Bound) -> None:
    proof = bound.proof("POST", "/rooms/meeting%2eroom/enter")
    assert bound.call("POST", "/rooms/meeting.room/enter", proof).codes == ["operation_unknown"]  # and not the proof


def test_as_bearer_a_bound_token_is_nothing(stage: Stage, bound: Bound) -> None:
    """§7.2: MUST reject a bound token that comes as bearer token, proof or not."""
    for proofs in ((), (bound.proof("GET", "/rooms"),)):
        answer = bound.call("GET", "/rooms", *proofs, scheme="Bearer")
        the_refusal(stage, answer, "proof_missing", "invalid_token")
        bearer, dpop = answer.all("www-authenticate")
        assert bearer.startswith("Bearer ") and dpop == 'DPoP algs="ES256 Ed25519 EdDSA PS256 RS256"'


def test_an_unbound_token_does_not_pass_for_bound(stage: Stage, bound: Bound) -> None:
    bound.token = stage.token()
    answer = bound.call("GET", "/rooms", bound.proof("GET", "/rooms"))
    the_refusal(stage, answer, "token_not_bound", "invalid_token")
    assert challenge(answer).startswith('DPoP algs="ES256 Ed25519 EdDSA PS256 RS256", error="invalid_token"')


def test_the_offer_stands_beside_the_bearer_challenge(stage: Stage) -> None:
    bearer, dpop = stage.door.call("GET", stage.path("/rooms")).all("www-authenticate")
    assert bearer.startswith("Bearer scope=") and dpop.startswith("DPoP algs=")
    assert "error" not in bearer + dpop


def test_where_only_bound_tokens_are_taken_every_other_is_refused_in_that_scheme(stage: Stage, bound: Bound) -> None:
    """RFC 9728 §2; RFC 9449 §7.1: a challenge of the scheme that will do, and no other."""
    known = f"/.well-known/oauth-protected-resource/{stage.slug}/office"
    assert stage.call("GET", "/rooms").status == 200
    with in_tenant(stage.id):
        demand_bound_tokens(stage.house.office, by=stage.house.owner, demanded=True)
    said = "dpop_bound_access_tokens_required"
    assert eventually(lambda: stage.door.call("GET", known).json()[said], timeout=1)
    stage.upstream.forget()
    answer = stage.call("GET", "/rooms")
    the_refusal(stage, answer, "bound_tokens_only", "invalid_token")
    assert challenge(answer).startswith('DPoP algs="ES256 Ed25519 EdDSA PS256 RS256", error="invalid_token"')
    stranger = stage.door.call("GET", stage.path("/rooms"))
    assert stranger.status == 401 and challenge(stranger).startswith("DPoP algs=")
    assert "error" not in challenge(stranger) and 'scope="rooms:read"' in challenge(stranger)
    expired = stage.call("GET", "/rooms", exp=int(time.time()) - 5)
    assert expired.codes == ["token_expired"] and challenge(expired).startswith("DPoP ")
    assert bound.call("GET", "/rooms", bound.proof("GET", "/rooms")).status == 200


def test_without_a_nonce_it_is_told_one_and_nothing_else_happens(stage: Stage, bound: Bound) -> None:
    """§9; not a refusal, so not on record."""
    for nonce in (None, "another", fresh_nonce(time.time() - 3 * NONCE_SECONDS)):
        answer = bound.call("GET", "/rooms", bound.proof("GET", "/rooms", nonce=nonce))
        assert answer.status == 401 and 'error="use_dpop_nonce"' in challenge(answer)
        assert challenge(answer).startswith("DPoP ") and answer.header("cache-control") == "no-store"
    again = bound.call("GET", "/rooms", bound.proof("GET", "/rooms", nonce=answer.header("dpop-nonce")))
    assert again.status == 200 and stage.events("call.refused") == []


WRONG: dict[str, dict[str, Any]] = {
    "another method": {"htm": "POST"},
    "another address": {"htu": "http://localhost:8001/acme/office/rooms/2"},
    "the address behind a proxy": {"htu": "http://127.0.0.1:1/rooms"},
    "another token": {"token": "aaa.bbb.ccc"},
    "no token": {"token": ""},
    "long ago": {"iat": int(time.time()) - 3600},
}


@pytest.mark.parametrize("case", WRONG)
def test_a_proof_of_something_else_is_refused(stage: Stage, bound: Bound, case: str) -> None:
    """§4.3, §7.1."""
    answer = bound.call("GET", "/rooms", bound.proof("GET", "/rooms", **WRONG[case]))
    the_refusal(stage, answer, "proof_invalid", "invalid_dpop_proof")
    assert stage.events("call.refused")[-1].details["detail"] in answer.json()["detail"]


def test_another_key_proves_nothing(stage: Stage, bound: Bound) -> None:
    """§7.1: the key of the proof is the one that the token is bound to."""
    bound.holder = Holder()
    answer = bound.call("GET", "/rooms", bound.proof("GET", "/rooms"))
    the_refusal(stage, answer, "proof_invalid", "invalid_dpop_proof")


def test_one_proof_in_one_header(stage: Stage, bound: Bound) -> None:
    """§4.3 no. 1."""
    the_refusal(stage, bound.call("GET", "/rooms"), "proof_missing", "invalid_token")
    two = bound.call("GET", "/rooms", bound.proof("GET", "/rooms"), bound.proof("GET", "/rooms"))
    the_refusal(stage, two, "proof_invalid", "invalid_dpop_proof")


def test_a_binding_that_nobody_knows_is_not_passed_over(stage: Stage, bound: Bound) -> None:
    """RFC 7800 §3.1."""
    for cnf in ({}, {"x5t#S256": "x"}, {"jkt": bound.holder.jkt, "kid": "x"}, {"jkt": 7}, {"jkt": ""}, "x", 7, None):
        bound.token = stage.token(cnf=cnf) if cnf is not None else stage.token(cnf=[])
        for answer in (
            bound.call("GET", "/rooms", bound.proof("GET", "/rooms")),
            bound.call("GET", "/rooms", scheme="Bearer"),
        ):
            the_refusal(stage, answer, "token_malformed", "invalid_token", knows_whose=False)


def test_a_proof_counts_once_at_all_workers_and_after_a_restart(stage: Stage, bound: Bound, doors: list[Door]) -> None:
    """§11.1."""
    proof = bound.proof("GET", "/rooms")
    assert bound.call("GET", "/rooms", proof).status == 200
    stage.upstream.forget()
    for door in doors:
        the_refusal(stage, bound.call("GET", "/rooms", proof, door=door), "proof_replayed", "invalid_dpop_proof")
    doors[1].restart()
    the_refusal(stage, bound.call("GET", "/rooms", proof, door=doors[1]), "proof_replayed", "invalid_dpop_proof")
    with in_tenant(stage.id):
        (mark,) = SpentOnce.objects.filter(tenant_id=stage.id, kind="dpop")
    assert NONCE_SECONDS - 1 <= mark.expires_at.timestamp() - time.time() <= 2 * NONCE_SECONDS  # as long as it is good


def test_of_many_at_once_one_passes(stage: Stage, bound: Bound, doors: list[Door]) -> None:
    for _ in range(5):
        headers = bound.headers(bound.proof("GET", "/rooms"))
        with ThreadPoolExecutor(12) as pool:
            sent = [pool.submit(doors[at % 2].call, "GET", stage.path("/rooms"), headers) for at in range(12)]
            answers = [one.result() for one in sent]
        assert sorted(answer.status for answer in answers) == [200] + [401] * 11
    assert len(stage.upstream.seen) == len(stage.events("call.allowed")) == 5


def test_mcp_takes_proofs_alike(tools: Stage) -> None:
    tools.upstream.reply = office
    aud = resource_url(tools.slug, "office-mcp")
    bound = Bound(tools, aud=aud, grant_id=str(tools.tools_grant.id))
    enter = called("enter_meeting", 7, room="blue")
    none = post(tools, enter, auth=bound.headers(scheme="Bearer"))
    assert (none.status, none.codes) == (401, ["proof_missing"]) and tools.upstream.seen == []
    told = post(tools, enter, auth=bound.headers(bound.proof("POST", "", resource="office-mcp", nonce=None)))
    assert told.status == 401 and 'error="use_dpop_nonce"' in challenge(told)
    proof = bound.proof("POST", "", resource="office-mcp", nonce=told.header("dpop-nonce"))
    answer = post(tools, enter, auth=bound.headers(proof))
    assert answer.status == 200 and answer.json()["id"] == 7 and answer.header("dpop-nonce")
    again = post(tools, enter, auth=bound.headers(proof))
    assert (again.status, again.codes) == (401, ["proof_replayed"]) and again.json()["id"] == 7
    assert len(tools.upstream.seen) == len(tools.events("call.allowed")) == 1


def test_a_replay_is_also_refused_where_the_call_would_be_anyway(stage: Stage, bound: Bound) -> None:
    proof = bound.proof("POST", "/rooms/finance/enter")
    assert bound.call("POST", "/rooms/finance/enter", proof).codes == ["grant_says_never"]
    assert bound.call("POST", "/rooms/finance/enter", proof).codes == ["proof_replayed"]


def test_absurd_times_in_a_token_of_our_own_key_are_refused(stage: Stage) -> None:
    absurd: list[dict[str, Any]] = [{"iat": 10**18}, {"exp": 10**18}, {"nbf": -(10**18)}, {"iat": 0}]
    for changes in absurd:
        answer = stage.call("GET", "/rooms", token=stage.token(**changes))
        assert (answer.status, answer.codes) == (401, ["token_malformed"]), changes


def test_the_upstream_sets_no_nonce() -> None:
    assert outbound([(b"DPoP-Nonce", b"x"), (b"ETag", b"y")]) == [(b"etag", b"y")]
