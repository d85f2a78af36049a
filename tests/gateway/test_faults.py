"""Things that break: upstreams, workers, the database. Nothing passes unrecorded, nothing recorded is lost."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from uuid import UUID

import psycopg
import pytest
from aiohttp import web
from django.conf import settings

from agentauth.resources.models import Resource
from tenants.notice import announce
from tenants.rls import in_tenant
from tests.database import TestServer
from tests.gateway.conftest import Answer, Door, Stage, environ_for, eventually


def move_upstream(stage: Stage, url: str) -> None:
    with in_tenant(stage.id):
        Resource.objects.filter(pk=stage.house.office.pk).update(upstream_url=url)
        announce(stage.id, "config", f"resources:{stage.house.office.pk}")


def until_refused(stage: Stage) -> Answer:
    def problem() -> Answer | None:
        answer = stage.call("GET", "/rooms")
        return answer if answer.status >= 500 else None

    return eventually(problem, timeout=5)


def test_an_upstream_that_is_too_slow_is_a_504(stage: Stage) -> None:
    async def slow(request: web.Request, body: bytes) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    stage.upstream.reply = slow
    assert stage.call("GET", "/rooms").status == 504
    (finished,) = stage.finished()
    assert (finished.outcome, finished.status) == ("timeout", 504)


def test_an_upstream_that_is_not_there_is_a_502(stage: Stage) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    move_upstream(stage, f"http://127.0.0.1:{port}")
    answer = until_refused(stage)
    assert answer.status == 502
    assert stage.finished()[-1].outcome == "upstream_error"


def test_an_upstream_at_a_private_address_is_not_reached(stage: Stage) -> None:
    move_upstream(stage, "http://127.0.0.2:80")
    assert until_refused(stage).status == 502


@contextmanager
def raw_server(says: bytes) -> Iterator[int]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                connection.recv(65536)
                connection.sendall(says)
                connection.close()

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("says", [b"SSH-2.0-x\r\n", b"", b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n"])
def test_an_upstream_that_speaks_rubbish_is_a_502(stage: Stage, says: bytes) -> None:
    with raw_server(says) as port:
        move_upstream(stage, f"http://127.0.0.1:{port}")
        assert until_refused(stage).status == 502


def test_an_answer_that_breaks_off_is_not_made_whole(stage: Stage) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n"
    with raw_server(head + b"x" * 1000) as port:
        move_upstream(stage, f"http://127.0.0.1:{port}")

        def broken() -> bool:
            try:
                stage.call("GET", "/rooms")
            except (http.client.IncompleteRead, ConnectionError):
                return True
            return False

        assert eventually(broken)
    assert eventually(lambda: stage.finished()[-1].outcome == "upstream_error")


@contextmanager
def database_gone(server: TestServer) -> Iterator[None]:
    """Nobody gets in, and whoever is in is thrown out."""
    name = settings.DATABASES["default"]["NAME"]
    with psycopg.connect(server.cluster.dsn(), autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        try:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = %s AND application_name = 'agentauth-gateway'",
                [name],
            )
            yield
        finally:
            admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def test_without_the_database_nothing_passes(stage: Stage, postgres_server: TestServer) -> None:
    bearer = stage.bearer()
    assert stage.door.call("GET", stage.path("/rooms"), bearer).status == 200
    stage.finished()
    stage.upstream.forget()
    with database_gone(postgres_server):
        for _ in range(3):
            answer = stage.door.call("GET", stage.path("/rooms"), bearer)
            assert (answer.status, answer.header("retry-after")) == (503, "1")
        assert eventually(lambda: stage.door.call("GET", "/readyz").status == 503)
        assert stage.door.call("GET", "/livez").status == 200
    assert stage.upstream.seen == []
    assert eventually(lambda: stage.door.call("GET", stage.path("/rooms"), bearer).status == 200)
    assert eventually(lambda: stage.door.call("GET", "/readyz").status == 200)


def test_an_outcome_waits_for_the_database_to_come_back(stage: Stage, postgres_server: TestServer) -> None:
    gate = threading.Event()
    arrived = threading.Event()

    async def held(request: web.Request, body: bytes) -> web.StreamResponse:
        arrived.set()
        await asyncio.to_thread(gate.wait, 10)
        return web.Response(text="done")

    stage.upstream.reply = held
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(stage.call, "GET", "/rooms")
        assert arrived.wait(5)
        with database_gone(postgres_server):
            gate.set()
            assert answer.result(5).body == b"done"
            time.sleep(0.5)  # long enough for a writer that gives up to have given up
    (finished,) = stage.finished()
    assert (finished.outcome, finished.status) == ("ok", 200)


def test_a_worker_that_is_killed_loses_nothing_that_went_upstream(
    stage: Stage,
) -> None:
    victim = Door(environ_for(stage.upstream))
    try:
        victim.await_ready()
        bearer = stage.bearer()
        answered: list[str] = []

        def client(_: int) -> None:
            while True:
                try:
                    answer = victim.call("POST", stage.path("/rooms/meeting/enter"), bearer, b"")
                except OSError:
                    return
                if answer.status == 200:
                    answered.append(answer.header("agentauth-call"))

        with ThreadPoolExecutor(8) as pool:
            running = [pool.submit(client, i) for i in range(8)]
            eventually(lambda: len(answered) > 200, timeout=30)
            victim.process.kill()
            for one in running:
                with suppress(http.client.HTTPException):  # cut in the middle of an answer
                    one.result(10)
        recorded = {event.call_id for event in stage.events("call.allowed")}
        assert {UUID(call) for call in answered} <= recorded
        went = {UUID(assertion_call(seen)) for seen in stage.upstream.seen}
        assert went <= recorded and len(went) >= len(answered)
    finally:
        victim.stop()
    close_the_lost(stage)


def assertion_call(seen: object) -> str:
    import jwt

    (token,) = seen.all("agentauth-assertion")  # type: ignore[attr-defined]
    return str(jwt.decode(token, options={"verify_signature": False})["call_id"])


def close_the_lost(stage: Stage) -> None:
    """What the sweep does with calls whose worker died: here only so that this test leaves no open ones."""
    from audit.actions import Action
    from audit.record import Actor, record

    done = {event.call_id for event in stage.events("call.finished")}
    with in_tenant(stage.id):
        for event in [one for one in stage.events("call.allowed") if one.call_id not in done]:
            record(Action.CALL_FINISHED, tenant_id=stage.id, actor=Actor.task("test"), call_id=event.call_id)


def test_a_worker_that_was_asleep_asks_before_it_lets_anything_pass(stage: Stage, doors: list[Door]) -> None:
    import signal

    other = doors[1]
    bearer = stage.bearer()
    assert other.call("GET", stage.path("/rooms"), bearer).status == 200
    stage.finished()
    other.process.send_signal(signal.SIGSTOP)
    with in_tenant(stage.id):
        stage.grant.narrow(by=stage.house.members["matt"], permissions={stage.house.scope("rooms:read"): "never"})
    time.sleep(1.1)  # longer than what it heard last is trusted
    stage.upstream.forget()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(other.call, "GET", stage.path("/rooms"), bearer)
        other.process.send_signal(signal.SIGCONT)
        assert answer.result(10).codes == ["grant_says_never"]
    assert stage.upstream.seen == []


def test_two_tenants_in_one_batch_do_not_meet(stage: Stage) -> None:
    from django.db import transaction

    from agentauth.keys.signing import sign
    from tests import cast

    with transaction.atomic():
        other = cast.acme(f"{stage.slug}-b")
        Resource.objects.filter(pk=other.office.pk).update(upstream_url=stage.upstream.url)
        agent = cast.assistant(other)
        grant = cast.matts_grant(other, agent)
        changes = {
            "iss": f"http://localhost:8000/t/{other.tenant.slug}",
            "sub": str(other.members["matt"].id),
            "aud": f"http://localhost:8001/{other.tenant.slug}/office",
            "client_id": agent.client_id,
            "grant_id": str(grant.id),
            "act": {"sub": str(agent.id)},
        }
        others = [("Authorization", "Bearer " + sign(other.tenant.id, stage.claims(**changes), "at+jwt"))]
    ours = stage.bearer()
    calls = [(stage.path("/rooms"), ours), (f"/{other.tenant.slug}/office/rooms", others)] * 20
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda call: stage.door.call("GET", *call), calls))
    assert {answer.status for answer in answers} == {200}
    assert len(stage.finished(20)) == 20
    assert eventually(lambda: len(cast.events_of(other.tenant.id, "call.finished")) == 20)
    assert {event.agent_id for event in cast.events_of(other.tenant.id, "call.allowed")} == {agent.id}
