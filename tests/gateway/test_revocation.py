"""What is revoked stops: the next call at once, in every worker; open streams within a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from django.utils.timezone import now

from agentauth.grants.models import Grant
from tenants.models import Revocation
from tenants.notice import announce
from tenants.revocation import revoke
from tenants.rls import in_tenant
from tests import cast
from tests.gateway.conftest import Door, Stage, eventually


def revoke_grant(stage: Stage) -> None:
    stage.grant.revoke(by=stage.house.members["matt"])


def suspend_agent(stage: Stage) -> None:
    stage.agent.suspend(by=stage.house.owner, reason="odd calls")


def retire_agent(stage: Stage) -> None:
    stage.agent.retire(by=stage.house.owner)


def revoke_member(stage: Stage) -> None:
    revoke(stage.id, Revocation.Kind.MEMBER, stage.house.members["matt"].id)


def revoke_tenant(stage: Stage) -> None:
    revoke(stage.id, Revocation.Kind.TENANT, stage.id)


def revoke_token(stage: Stage) -> None:
    revoke(stage.id, Revocation.Kind.TOKEN, "the-token")


STOPS: dict[str, Callable[[Stage], None]] = {
    "grant": revoke_grant,
    "agent suspended": suspend_agent,
    "agent retired": retire_agent,
    "member": revoke_member,
    "tenant": revoke_tenant,
    "token": revoke_token,
}


@pytest.mark.parametrize("cause", STOPS)
def test_the_very_next_call_is_refused_by_every_worker(stage: Stage, doors: list[Door], cause: str) -> None:
    bearer = stage.bearer(jti="the-token")
    for door in doors:
        assert door.call("GET", stage.path("/rooms"), bearer).status == 200
    stage.upstream.forget()
    with in_tenant(stage.id):
        STOPS[cause](stage)
    for door in doors:  # nothing is waited for: the commit is enough
        answer = door.call("GET", stage.path("/rooms"), bearer)
        assert answer.status == 401
        assert "token_revoked" in answer.codes
        assert 'error="invalid_token"' in answer.header("www-authenticate")
    assert stage.upstream.seen == []
    assert all("token_revoked" in event.reasons for event in stage.events("call.refused"))


def test_another_persons_grant_goes_on(stage: Stage) -> None:
    with in_tenant(stage.id):
        ada = stage.house.owner
        other = cast.assistant(stage.house, name="Ada's assistant")
        from agentauth.grants.granting import give

        grant = give(
            agent=other,
            resource=stage.house.office,
            member=ada,
            by=ada,
            permissions={stage.house.scope("rooms:read"): "always"},
            expires_at=stage.grant.expires_at,
        )
        suspend_agent(stage)
    claims: dict[str, Any] = {"sub": str(ada.id), "client_id": other.client_id, "grant_id": str(grant.id)}
    assert stage.call("GET", "/rooms", act={"sub": str(other.id)}, **claims).status == 200


def test_an_agent_let_back_needs_a_new_token(stage: Stage) -> None:
    old = stage.token(iat=int(time.time()))
    with in_tenant(stage.id):
        suspend_agent(stage)
    with in_tenant(stage.id):
        stage.agent.let_back(by=stage.house.owner)
    assert stage.call("GET", "/rooms", token=old).status == 401
    later = int(time.time()) + 1
    assert eventually(lambda: stage.call("GET", "/rooms", iat=later).status == 200)


async def drip(request: web.Request, body: bytes) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for _ in range(600):
        await response.write(b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{}}\n\n')
        await asyncio.sleep(0.05)
    return response


def say_never(stage: Stage) -> None:
    stage.grant.narrow(by=stage.house.members["matt"], permissions={stage.house.scope("rooms:read"): "never"})


ENDS = STOPS | {"narrowed": say_never}


@pytest.mark.parametrize("cause", ENDS)
def test_an_open_stream_ends_within_a_second(stage: Stage, cause: str) -> None:
    stage.upstream.reply = drip
    connection, response = stage.door.open("GET", stage.path("/rooms"), stage.bearer(jti="the-token"))
    assert response.status == 200 and response.read(20)
    with in_tenant(stage.id):
        ENDS[cause](stage)
    began = time.monotonic()
    while response.read(64):
        assert time.monotonic() < began + 5
    assert time.monotonic() - began < 1
    connection.close()
    (finished,) = stage.finished()
    assert finished.outcome == "revoked"
    assert finished.details["reasons"] == (["grant_says_never"] if cause == "narrowed" else ["token_revoked"])


def test_an_open_stream_ends_when_its_grant_expires(stage: Stage) -> None:
    stage.upstream.reply = drip
    with in_tenant(stage.id):
        Grant.objects.filter(pk=stage.grant.id).update(expires_at=now() + timedelta(seconds=1.5))
        announce(stage.id, "config", f"grants:{stage.grant.id}")
    connection, response = stage.door.open("GET", stage.path("/rooms"), stage.bearer())
    assert response.status == 200
    began = time.monotonic()
    while response.read(64):
        assert time.monotonic() < began + 5
    assert time.monotonic() - began < 3
    connection.close()
    (finished,) = stage.finished()
    assert (finished.outcome, finished.details["reasons"]) == ("revoked", ["grant_expired"])


def test_other_streams_go_on(stage: Stage) -> None:
    stage.upstream.reply = drip
    connection, response = stage.door.open("GET", stage.path("/rooms"), stage.bearer())
    assert response.read(20)
    with in_tenant(stage.id):
        revoke(stage.id, Revocation.Kind.GRANT, "01999999-0000-7000-8000-000000000000")
        stage.agent.change(by=stage.house.owner, purpose="Something else")
    began = time.monotonic()
    while time.monotonic() < began + 1.2:
        assert response.read(64)
    connection.close()
    (finished,) = stage.finished()
    assert finished.outcome == "cancelled"


def test_a_call_that_waits_for_its_upstream_is_ended_too(stage: Stage) -> None:
    arrived = []

    async def never(request: web.Request, body: bytes) -> web.StreamResponse:
        arrived.append(1)
        await asyncio.sleep(30)
        return web.Response()

    stage.upstream.reply = never
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(stage.call, "GET", "/rooms")
        eventually(lambda: arrived)
        with in_tenant(stage.id):
            revoke_grant(stage)
        assert answer.result(timeout=1.5).status == 401
    (finished,) = stage.finished()
    assert (finished.outcome, finished.status) == ("revoked", 401)


def test_a_caller_that_hangs_up_cancels_the_call(stage: Stage) -> None:
    stage.upstream.reply = drip
    connection, response = stage.door.open("GET", stage.path("/rooms"), stage.bearer())
    assert response.read(20)
    response.close()
    connection.close()
    (finished,) = stage.finished()
    assert finished.outcome == "cancelled"
