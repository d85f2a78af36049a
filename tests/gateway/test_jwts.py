"""JWTs that are not exactly right (RFC 8725, RFC 9068 §4) at every door of the gateway: none reaches the upstream."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings

from agentauth.keys.addresses import resource_url
from tests.gateway.conftest import Answer, Stage, eventually
from tests.gateway.test_mcp import office, rpc
from tests.oauth.forging import Good, jwk_of, made, new_key
from tests.oauth.jwt_doors import (
    BLANKS,
    NAMED_WITH_APPLICATION,
    Door,
    Ours,
    Visit,
    holder_hash,
    on_the_wire,
    proof_claims,
)
from tests.oauth.proofs import Holder
from tests.oauth.test_jwts import cases_at

Headers = list[tuple[str, str]]


def called(stage: Stage, kind: str, headers: Headers) -> Answer:
    if kind == "rest":
        return stage.door.call("GET", stage.path("/rooms"), headers)
    body = json.dumps(rpc("tools/list")).encode()
    more = [("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream")]
    return stage.door.call("POST", stage.path("", "office-mcp"), [*headers, *more], body)


def said(answer: Answer) -> str:
    try:
        return f"{answer.status} {answer.codes[0]}"
    except (ValueError, KeyError, TypeError):
        challenge = answer.header("www-authenticate")
        return f"{answer.status} {challenge.partition('error=')[2].partition(',')[0]}".strip()


def own_claims(stage: Stage, kind: str, **more: Any) -> dict[str, Any]:
    if kind == "rest":
        return stage.claims(**more)
    return stage.claims(aud=resource_url(stage.slug, "office-mcp"), grant_id=str(stage.tools_grant.id), **more)


def as_token(kind: str, *, bound: bool) -> Callable[[Stage], Visit]:
    def opened(stage: Stage) -> Visit:
        ours, holder = Ours(stage.house), Holder()
        method, place = ("GET", stage.path("/rooms")) if kind == "rest" else ("POST", stage.path("", "office-mcp"))

        def send(token: str) -> str:
            token = on_the_wire(token)
            if not bound:
                return said(called(stage, kind, [("Authorization", f"Bearer {token}")]))
            proof = holder.proof(method, settings.KNOBS.gateway_url + place, token=token)
            return said(called(stage, kind, [("Authorization", f"DPoP {token}"), ("DPoP", proof)]))

        more = {"cnf": {"jkt": holder.jkt}} if bound else {}
        return Visit(lambda: ours.good(own_claims(stage, kind, **more)), send, "200", ("401", "400"))

    return opened


def as_proof(kind: str) -> Callable[[Stage], Visit]:
    def opened(stage: Stage) -> Visit:
        ours, key = Ours(stage.house), new_key()
        method, place = ("GET", stage.path("/rooms")) if kind == "rest" else ("POST", stage.path("", "office-mcp"))
        token = ours.good(own_claims(stage, kind, cnf={"jkt": Holder(key=key).jkt})).token()
        url, ath = settings.KNOBS.gateway_url + place, holder_hash(token)

        def send(proof: str) -> str:
            return said(called(stage, kind, [("Authorization", f"DPoP {token}"), ("DPoP", on_the_wire(proof))]))

        def good() -> Good:
            return Good({"typ": "dpop+jwt", "jwk": jwk_of(key)}, proof_claims(method, url, ath=ath), key)

        return Visit(good, send, "200", ("401", "400"))

    return opened


WHO, HOLDS = "agentauth.gateway.who", "agentauth.gateway.possession"
DOORS = (
    Door(
        "gateway", "access", WHO, NAMED_WITH_APPLICATION, as_token("rest", bound=False), in_header=True, passes=BLANKS
    ),
    Door(
        "gateway, bound",
        "access",
        WHO,
        NAMED_WITH_APPLICATION,
        as_token("rest", bound=True),
        in_header=True,
        every=4,
        passes=BLANKS,
    ),
    Door(
        "gateway, MCP",
        "access",
        WHO,
        NAMED_WITH_APPLICATION,
        as_token("mcp", bound=False),
        in_header=True,
        every=4,
        passes=BLANKS,
    ),
    Door("proof at the gateway", "proof", HOLDS, ("dpop+jwt",), as_proof("rest"), in_header=True, passes=BLANKS),
    Door(
        "proof at the gateway, MCP",
        "proof",
        HOLDS,
        ("dpop+jwt",),
        as_proof("mcp"),
        in_header=True,
        every=4,
        passes=BLANKS,
    ),
)


@pytest.mark.parametrize("entry", DOORS, ids=[entry.name for entry in DOORS])
def test_what_is_not_exactly_right_never_reaches_the_upstream(tools: Stage, entry: Door) -> None:
    if "MCP" in entry.name:
        tools.upstream.reply = office
    visit, wrong = entry.opened(tools), []
    eventually(lambda: visit.send(visit.good().token()) == visit.accepted)  # the new key was heard of
    before = len(tools.upstream.seen)
    for case in cases_at(entry, visit.good()):
        answer = visit.send(made(visit.good(), case))
        if not answer.startswith(visit.refused):
            wrong.append(f"{case['name']}: {answer}")
    assert not wrong, "\n".join(wrong)
    assert len(tools.upstream.seen) == before
    assert tools.events("call.refused")  # the first of each second: strangers do not fill the record
    assert visit.send(visit.good().token()) == visit.accepted
