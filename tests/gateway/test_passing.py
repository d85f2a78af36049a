"""A call that may pass: what reaches the upstream, what comes back, what is on record."""

from __future__ import annotations

import json

import jwt
from aiohttp import web

from agentauth.keys.signing import public_keys
from tenants.rls import in_tenant
from tests.gateway.conftest import Stage


def test_a_granted_call_passes_and_both_its_events_are_on_record(stage: Stage) -> None:
    answer = stage.call("GET", "/rooms?floor=2")
    assert (answer.status, answer.json()) == (200, {"hello": "/rooms"})
    assert [seen.target for seen in stage.upstream.seen] == ["/rooms?floor=2"]
    (finished,) = stage.finished()
    (allowed,) = stage.events("call.allowed")
    assert (allowed.decision, allowed.operation, allowed.agent_id) == ("allow", "GET /rooms", stage.agent.id)
    assert allowed.details == {"protocol": "rest", "method": "GET", "path": "/rooms", "scope": "rooms:read"}
    assert (finished.outcome, finished.status, finished.call_id) == ("ok", 200, allowed.call_id)
    assert str(allowed.call_id) == answer.header("AgentAuth-Call")
    assert finished.latency_us is not None and finished.latency_us > 0


def test_the_scheme_is_read_in_any_case(stage: Stage) -> None:
    """OAuth 2.1 §5.1.1, RFC 9110 §11.1: Bearer, however it is written, and nothing that only looks like it."""
    for scheme in ("Bearer", "bearer", "BEARER", "bEaReR"):
        header = [("Authorization", f"{scheme} {stage.token()}")]
        assert stage.door.call("GET", stage.path("/rooms"), header).status == 200, scheme
    for scheme in ("Bearer:", "Token", "Basic"):
        header = [("Authorization", f"{scheme} {stage.token()}")]
        assert stage.door.call("GET", stage.path("/rooms"), header).status == 401, scheme
    assert (len(stage.upstream.seen), len(stage.events("call.allowed"))) == (4, 4)


def test_the_intent_is_on_record_before_the_upstream_is_asked(stage: Stage) -> None:
    recorded: list[int] = []

    async def look(request: web.Request, body: bytes) -> web.StreamResponse:
        import asyncio

        recorded.append(await asyncio.to_thread(lambda: len(stage.events("call.allowed"))))
        return web.Response()

    stage.upstream.reply = look
    assert stage.call("GET", "/rooms").status == 200
    assert recorded == [1]


def test_the_upstream_gets_its_own_credential_and_who_calls_never_the_agents_token(stage: Stage) -> None:
    from agentauth.resources.upstream import set_credential

    with in_tenant(stage.id):
        stage.house.office.refresh_from_db()
        set_credential(stage.house.office, by=stage.house.owner, auth="bearer", secret="upstream-secret")
    token = stage.token()
    assert stage.call("POST", "/rooms/meeting/enter", token=token, body=b"").status == 200
    (seen,) = stage.upstream.seen
    assert seen.all("authorization") == ["Bearer upstream-secret"]
    assert token not in str(seen)
    (assertion,) = seen.all("agentauth-assertion")
    header = jwt.get_unverified_header(assertion)
    with in_tenant(stage.id):
        key = jwt.PyJWK(public_keys(stage.id)[header["kid"]], algorithm="ES256").key
    claims = jwt.decode(assertion, key, algorithms=["ES256"], audience=stage.upstream.url)
    assert header["typ"] == "txntoken+jwt"
    assert claims["sub"] == str(stage.house.members["matt"].id)
    assert claims["act"] == {"sub": str(stage.agent.id)}
    assert claims["exp"] - claims["iat"] == 30
    assert claims["operation"] == "POST /rooms/meeting/enter"
    (allowed,) = stage.events("call.allowed")
    assert claims["jti"] == claims["call_id"] == str(allowed.call_id)


def test_bodies_pass_both_ways_small_and_streamed(stage: Stage) -> None:
    async def echo(request: web.Request, body: bytes) -> web.StreamResponse:
        return web.Response(body=body[::-1])

    stage.upstream.reply = echo
    for size in (10, 70_000, 900_000):
        body = bytes(i % 251 for i in range(size))
        assert stage.call("POST", "/rooms/meeting/enter", body=body).body == body[::-1]
    chunked = ("Transfer-Encoding", "chunked")
    answer = stage.call("POST", "/rooms/meeting/enter", chunked, body=b"5\r\nhello\r\n0\r\n\r\n")
    assert answer.body == b"olleh"


def test_arguments_are_on_record_as_a_hash_only(stage: Stage) -> None:
    secret = "a-very-secret-argument"
    kind = ("Content-Type", "application/json")
    stage.call("POST", "/rooms/meeting/enter", kind, body=json.dumps({"b": 1, "a": secret}).encode())
    stage.call("POST", "/rooms/meeting/enter", kind, body=json.dumps({"a": secret, "b": 1}, indent=1).encode())
    stage.finished(2)
    one, other = stage.events("call.allowed")
    assert one.args_hash == other.args_hash and len(one.args_hash) == 64
    assert all(secret not in event.body for event in stage.house_events())


def test_head_is_get_without_a_body(stage: Stage) -> None:
    answer = stage.call("HEAD", "/rooms")
    assert (answer.status, answer.body) == (200, b"")


def test_usage_is_noted_on_grant_and_agent(stage: Stage) -> None:
    from agentauth.grants.models import Grant
    from tests.gateway.conftest import eventually

    stage.call("GET", "/rooms")

    def used() -> object:
        with in_tenant(stage.id):
            return Grant.objects.get(pk=stage.grant.pk).last_used_at

    assert eventually(used)
    with in_tenant(stage.id):
        stage.agent.refresh_from_db()
    assert stage.agent.last_seen_at is not None
