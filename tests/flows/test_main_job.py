"""The main job, end to end, against parts that nobody here wrote, through the real processes.

A tenant admin registers an API, an MCP server and an agent in a browser without scripts; a person grants; calls pass
or are refused and are on record under both names; revoking stops them within a second at every worker; the evidence
verifies.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import MCPError
from mcp.client.auth import OAuthFlowError

from tests.flows.admin import register_agent, scopes_of
from tests.flows.agent import CALLBACK, AgentProgram
from tests.flows.mcp_client import Memory, mcp_client
from tests.flows.parts import everything, kinto
from tests.flows.person import Person
from tests.stack import Stack

pytestmark = [pytest.mark.flow, pytest.mark.timeout(300)]
STREAM = "/stream"


@dataclass
class Scene:
    """What the story has built so far."""

    stack: Stack
    ada: Person
    matt: Person
    cora: Person
    kinto_url: str
    everything_url: str

    def resource(self, slug: str) -> str:
        return f"{self.stack.gateway_url}/acme/{slug}"

    def events(self, where: str, *values: Any) -> list[dict[str, Any]]:
        rows = self.stack.sql(
            "SELECT body FROM audit_event WHERE tenant_id = (SELECT id FROM tenants_tenant WHERE slug = 'acme') "
            f"AND {where} ORDER BY id",
            values,
        )
        return [json.loads(body) for (body,) in rows]


@pytest.fixture(scope="module")
def scene(stack: Stack, node: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    ada, matt, cora = (
        Person(stack.base_url).sign_in(f"{name}@acme.example", stack.demo_password) for name in ("ada", "matt", "cora")
    )
    with kinto(tmp_path_factory.mktemp("kinto")) as rest, everything(node, tmp_path_factory.mktemp("mcp")) as mcp:
        account = {"data": {"password": "kept-by-the-gateway"}}
        httpx2.put(f"{rest}/accounts/gateway", json=account).raise_for_status()
        yield Scene(stack, ada, matt, cora, rest, mcp)


def register_rest(scene: Scene, slug: str) -> None:
    """Ada adds Kinto from its own document, with the account that only the gateway knows, and publishes it."""
    scene.ada.open("/t/acme/resources/new/api/")
    scene.ada.press(
        "Read it",
        how="address",
        document_url=f"{scene.kinto_url}/__api__",
        name=f"Kinto {slug}",
        slug=slug,
        upstream_url=scene.kinto_url,
        auth="basic",
        header="gateway",
        secret="kept-by-the-gateway",
    )
    assert scene.ada.page.status_code == 200, scene.ada.words
    assert "kept-by-the-gateway" not in scene.ada.page.text
    publish(scene)


def register_mcp(scene: Scene, slug: str) -> None:
    scene.ada.open("/t/acme/resources/new/mcp/")
    scene.ada.press("Read its tools", upstream_url=scene.everything_url, name=f"Everything {slug}", slug=slug)
    assert scene.ada.page.status_code == 200, scene.ada.words
    publish(scene)


def publish(scene: Scene) -> None:
    scene.ada.press("Save and open it")
    assert scene.ada.page.status_code == 200, scene.ada.words


def test_a_rest_api_is_reached_only_as_granted_and_every_call_is_on_record(scene: Scene) -> None:
    register_rest(scene, "kinto")
    client_id, secret = register_agent(
        scene.stack, scene.ada, "List keeper", scopes_of(scene.stack, "kinto"), redirect=CALLBACK
    )
    program = AgentProgram(client_id, secret, scene.resource("kinto"))
    program.ask(scene.matt, **{"change-how": "always"})
    made = program.call("POST", "/buckets", json={"data": {"id": "lists"}})
    assert made.status_code in (200, 201), made.text
    listed = program.call("GET", "/buckets")
    assert [bucket["id"] for bucket in listed.json()["data"]] == ["lists"]
    refused = program.call("DELETE", "/buckets/lists")
    assert refused.status_code == 403
    assert "insufficient_scope" in refused.headers["www-authenticate"]
    assert program.call("GET", "/buckets").json()["data"], "what was refused did not happen"
    # Kinto was told its own credential, never the agent's token
    intents = scene.events("action = 'call.allowed' AND agent_id = %s::uuid", client_id)
    assert [event["operation"] for event in intents] == ["POST /buckets", "GET /buckets", "GET /buckets"]
    assert all(event["member"] and event["grant"] and event["args_hash"] for event in intents)
    calls = {event["call"] for event in intents}
    outcomes = eventually(lambda: scene.events("action = 'call.finished' AND agent_id = %s::uuid", client_id), 3)
    assert {event["call"] for event in outcomes} == calls
    assert {event["outcome"] for event in outcomes} == {"ok"}
    [refusal] = scene.events("action = 'call.refused' AND agent_id = %s::uuid", client_id)
    assert refusal["operation"].startswith("DELETE /buckets/{") and refusal["reasons"]


def test_an_unknown_path_and_a_missing_token_are_refused(scene: Scene) -> None:
    client_id, secret = register_agent(
        scene.stack, scene.ada, "Wanderer", scopes_of(scene.stack, "kinto", "read"), redirect=CALLBACK
    )
    program = AgentProgram(client_id, secret, scene.resource("kinto"))
    program.ask(scene.matt)
    assert program.call("GET", "/nowhere").status_code in (403, 404)
    assert program.call("GET", "/buckets/../admin").status_code in (400, 403, 404)
    assert httpx2.get(f"{scene.resource('kinto')}/buckets").status_code == 401
    assert httpx2.get(f"{scene.stack.gateway_url}/acme/no-such-thing").status_code == 404


def test_a_person_who_denies_sends_the_agent_away(scene: Scene) -> None:
    client_id, secret = register_agent(
        scene.stack, scene.ada, "Denied one", scopes_of(scene.stack, "kinto", "read"), redirect=CALLBACK
    )
    program = AgentProgram(client_id, secret, scene.resource("kinto"))
    assert program.ask(scene.matt, press="Deny")["error"] == "access_denied"
    assert scene.events("action = 'grant.refused' AND agent_id = %s::uuid", client_id)
    assert not scene.events("action = 'grant.given' AND agent_id = %s::uuid", client_id)


def test_a_grant_given_in_the_console_is_not_asked_for_again(scene: Scene) -> None:
    client_id, secret = register_agent(
        scene.stack, scene.ada, "Console friend", scopes_of(scene.stack, "kinto", "read"), redirect=CALLBACK
    )
    [(agent, resource)] = scene.stack.sql(
        "SELECT a.id::text, r.id::text FROM agents_agent a, resources_resource r "
        "WHERE a.client_id = %s AND r.slug = 'kinto' AND r.tenant_id = a.tenant_id",
        (client_id,),
    )
    scene.matt.open(f"/t/acme/my/agents/new/?agent={agent}&resource={resource}")
    scene.matt.press("Let it act for me")
    assert scene.matt.page.status_code == 200, scene.matt.words
    program = AgentProgram(client_id, secret, scene.resource("kinto"))
    answer = program.ask(scene.matt)
    assert "code" in answer
    assert program.call("GET", "/buckets").status_code == 200


def test_an_agent_that_runs_by_itself_uses_what_the_admin_ticked(scene: Scene) -> None:
    client_id, secret = register_agent(scene.stack, scene.ada, "Night list", scopes_of(scene.stack, "kinto", "read"))
    program = AgentProgram(client_id, secret, scene.resource("kinto"))
    program.by_itself()
    assert program.call("GET", "/buckets").status_code == 200
    assert program.call("POST", "/buckets", json={"data": {"id": "x"}}).status_code == 403
    [event] = scene.events("action = 'call.allowed' AND agent_id = %s::uuid", client_id)
    assert "member" not in event


def test_our_own_api_takes_tokens_of_the_tenants_issuer(scene: Scene) -> None:
    client_id, secret = register_agent(
        scene.stack, scene.ada, "Stock taker", scopes_of(scene.stack, "agentauth", "read")
    )
    api = f"{scene.stack.base_url}/api/v1/tenants/acme"
    token = httpx2.post(
        f"{scene.stack.base_url}/t/acme/oauth/token",
        data={"grant_type": "client_credentials", "resource": api},
        auth=(client_id, secret),
    ).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    names = {agent["name"] for agent in httpx2.get(f"{api}/agents", headers=headers).raise_for_status().json()["items"]}
    assert "Stock taker" in names
    assert httpx2.get(f"{scene.stack.base_url}/api/v1/tenants/globex/agents", headers=headers).status_code in (401, 404)
    assert httpx2.get(f"{scene.resource('kinto')}/buckets", headers=headers).status_code == 401, "another audience"


def test_a_member_sees_only_what_their_own_agents_did(scene: Scene) -> None:
    page = scene.matt.open("/t/acme/my/did/").text
    assert "List keeper" in page and "Night list" not in page
    assert scene.matt.open("/t/acme/audit/").status_code == 403
    assert scene.matt.open("/t/globex/").status_code == 404


async def test_a_real_mcp_client_that_knows_only_the_address_gets_in_and_sees_only_what_it_may(scene: Scene) -> None:
    register_mcp(scene, "everything")
    memory = Memory()
    async with mcp_client(scene.resource("everything"), scene.matt.answer, memory) as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        assert "echo" in tools
        answer = await client.call_tool("echo", {"message": "hello from a badge"})
        assert "hello from a badge" in str(answer.content)
    offered = scene.stack.sql(
        "SELECT o.tool, s.risk FROM resources_operation o JOIN resources_scope s ON s.id = o.scope_id "
        "JOIN resources_resource r ON r.id = o.resource_id WHERE r.slug = 'everything'"
    )
    beyond = {tool for tool, risk in offered if risk != "read"}
    assert beyond, "the reference server has tools above the ceiling of unapproved clients"
    assert not tools & beyond, "an unapproved client reaches read tools only"
    # It stands in the admin's queue, seen and not approved
    queue = scene.ada.open("/t/acme/agents/?tab=seen").text
    assert "Desk helper" in queue
    [called] = scene.events("action = 'call.allowed' AND operation = 'echo'")
    assert called["member"] and called["details"]["protocol"] == "mcp"


async def test_the_demo_enters_the_meeting_room_and_is_refused_at_finance(scene: Scene) -> None:
    for mode in ("legacy", "auto"):
        memory = Memory()
        name = f"Room helper {mode}"
        url = scene.resource("office-mcp")
        async with mcp_client(url, scene.matt.answer, memory, mode=mode, name=name) as client:
            assert {tool.name for tool in (await client.list_tools()).tools} >= {"list_rooms"}
            rooms = await client.call_tool("list_rooms", {})
            assert "meeting" in str(rooms).lower()
            entered = len(scene.events("action = 'call.allowed' AND operation = 'enter_finance'"))
            try:
                answer = await client.call_tool("enter_finance", {})
            except (MCPError, httpx2.HTTPStatusError, OAuthFlowError) as refused:
                said = str(refused)
            else:
                said = str(answer)
                assert answer.is_error
            assert said
            assert len(scene.events("action = 'call.allowed' AND operation = 'enter_finance'")) == entered
            assert scene.events("action = 'call.refused' AND operation = 'enter_finance'")


def test_revoking_ends_calls_and_open_streams_within_a_second_at_every_worker(scene: Scene) -> None:
    client_id, secret = register_agent(
        scene.stack, scene.ada, "Watcher", scopes_of(scene.stack, "office", "read"), redirect=CALLBACK
    )
    program = AgentProgram(client_id, secret, scene.resource("office"))
    program.ask(scene.matt, scope="rooms:read")
    opened, ended = threading.Event(), []

    def watch() -> float:
        headers = {"Authorization": f"Bearer {program.tokens['access_token']}"}
        with httpx2.stream("GET", scene.resource("office") + STREAM, headers=headers, timeout=30) as stream:
            assert stream.status_code == 200
            try:
                for _ in stream.iter_bytes():
                    opened.set()
            except httpx2.HTTPError:
                pass
        return time.monotonic()

    with ThreadPoolExecutor(4) as pool:
        watching = pool.submit(watch)
        assert opened.wait(15)
        [(grant,)] = scene.stack.sql(
            "SELECT g.id::text FROM grants_grant g JOIN agents_agent a ON a.id = g.agent_id WHERE a.client_id = %s",
            (client_id,),
        )
        scene.matt.open("/t/acme/my/agents/")
        form = next(form for form in scene.matt.forms() if f"{grant}/revoke/" in form.action)
        scene.matt.send(form, {})
        revoked_at = time.monotonic()
        assert "stopped" in scene.matt.page.text.lower() or "ended" in scene.matt.page.text.lower()
        ended.append(watching.result(timeout=10))
    assert ended[0] - revoked_at < 1.0, f"the stream went on for {ended[0] - revoked_at:.2f} s"
    answers = {fresh_call(program, "/rooms") for _ in range(20)}
    assert answers == {401}
    outcomes = eventually(
        lambda: scene.events("action = 'call.finished' AND outcome = 'revoked' AND grant_id = %s::uuid", grant), 1
    )
    assert len(outcomes) == 1
    refreshed = program.refresh()
    assert (refreshed.status_code, refreshed.json()["error"]) == (400, "invalid_grant")


def test_suspending_an_agent_stops_it_everywhere_and_letting_it_back_needs_a_new_token(scene: Scene) -> None:
    client_id, secret = register_agent(scene.stack, scene.ada, "Suspect", scopes_of(scene.stack, "kinto", "read"))
    program = AgentProgram(client_id, secret, scene.resource("kinto"))
    program.by_itself()
    assert program.call("GET", "/buckets").status_code == 200
    scene.ada.open(f"/t/acme/agents/{client_id}/stop/")
    scene.ada.press("Stop")
    time.sleep(1.0)  # the promise is "within a second"
    assert {fresh_call(program, "/buckets") for _ in range(20)} <= {401, 403}
    token = {"grant_type": "client_credentials", "resource": program.resource}
    denied = httpx2.post(program.server["token_endpoint"], data=token, auth=(client_id, secret))
    assert denied.status_code in (400, 401)
    scene.ada.open(f"/t/acme/agents/{client_id}/")
    scene.ada.press("Let back in")
    assert program.call("GET", "/buckets").status_code == 401, "tokens from before the stop stay void"
    time.sleep(1.1)  # `iat` counts seconds
    program.by_itself()
    assert program.call("GET", "/buckets").status_code == 200


def test_killing_a_gateway_in_the_middle_loses_no_acknowledged_event(scene: Scene) -> None:
    client_id, secret = register_agent(scene.stack, scene.ada, "Hammer", scopes_of(scene.stack, "kinto", "read"))
    program = AgentProgram(client_id, secret, scene.resource("kinto"))
    program.by_itself()
    acknowledged: list[str] = []
    stop = threading.Event()

    def hammer() -> None:
        with httpx2.Client(timeout=10) as http:
            while not stop.is_set():
                try:
                    answer = http.get(f"{program.resource}/buckets", headers=bearer(program))
                except httpx2.HTTPError:
                    continue
                if answer.status_code == 200:
                    acknowledged.append(answer.headers["agentauth-call"])

    with ThreadPoolExecutor(6) as pool:
        workers = [pool.submit(hammer) for _ in range(6)]
        time.sleep(1.0)
        victim = scene.stack.process("gateway-1")
        victim.kill()
        scene.stack.await_restart(victim)
        time.sleep(1.0)
        stop.set()
        for worker in workers:
            worker.result(timeout=20)
    assert len(acknowledged) > 50
    on_record = {event["call"] for event in scene.events("action = 'call.allowed' AND agent_id = %s::uuid", client_id)}
    assert set(acknowledged) - on_record == set()


def test_the_auditor_exports_evidence_that_verifies_and_names_the_first_forged_record(
    scene: Scene, tmp_path: Path
) -> None:
    for kind in ("jsonl", "csv"):
        scene.cora.open("/t/acme/audit/exports/new/")
        today = datetime.now(UTC).date()
        scene.cora.press("Export", since=f"{today - timedelta(days=1)}", until=f"{today}", format=kind)
        assert scene.cora.page.status_code == 200, scene.cora.words
        job = str(scene.cora.page.url)
        deadline = time.monotonic() + 60
        while "/bundle.zip" not in scene.cora.open(job).text:
            assert time.monotonic() < deadline, scene.cora.words
            time.sleep(0.3)
        link = next(part for part in scene.cora.page.text.split('"') if part.endswith("/bundle.zip"))
        bundle = tmp_path / f"{kind}.zip"
        bundle.write_bytes(scene.cora.http.get(scene.stack.base_url + link).content)
        verified = verify(scene, bundle)
        assert verified.returncode == 0, verified.stdout + verified.stderr
        assert "intact" in verified.stdout.lower()
        forged = forge(bundle, f"events.{kind}")
        caught = verify(scene, forged)
        assert caught.returncode == 1, caught.stdout
    assert len(scene.events("action = 'export.requested'")) >= 2
    assert len(scene.events("action = 'export.downloaded'")) >= 2


def verify(scene: Scene, bundle: Path) -> subprocess.CompletedProcess[str]:
    """As an auditor with the command line would."""
    command = [sys.executable, "manage.py", "verify", str(bundle)]
    return subprocess.run(command, capture_output=True, text=True, env=scene.stack.environ, check=False)


def forge(bundle: Path, name: str) -> Path:
    """The same bundle in which the agent's call was allowed by somebody else."""
    forged = bundle.with_name(f"forged-{bundle.name}")
    with zipfile.ZipFile(bundle) as old, zipfile.ZipFile(forged, "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            if entry.filename.endswith(name):
                assert b"call.refused" in data
                data = data.replace(b"call.refused", b"call.allowed", 1)
            new.writestr(entry, data)
    return forged


def fresh_call(program: AgentProgram, path: str) -> int:
    """The status over a connection of its own: kept-alive ones would ask the same worker again and again."""
    return httpx2.get(f"{program.resource}{path}", headers=bearer(program), timeout=30).status_code


def bearer(program: AgentProgram) -> dict[str, str]:
    return {"Authorization": f"Bearer {program.tokens['access_token']}"}


def eventually(found: Any, count: int, patience: float = 5.0) -> list[dict[str, Any]]:
    """What `found` gives once there are `count` of it; outcomes are written after the answer went out."""
    deadline = time.monotonic() + patience
    while len(rows := found()) < count:
        assert time.monotonic() < deadline, f"{len(rows)} of {count}: {rows}"
        time.sleep(0.05)
    return rows  # type: ignore[no-any-return]
