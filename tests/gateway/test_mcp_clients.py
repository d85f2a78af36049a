"""The official Python client against an official server through the gateway, in both eras of the protocol."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from agentauth.keys.addresses import resource_url
from agentauth.resources.models import Resource
from tenants.notice import announce
from tenants.rls import in_tenant
from tests.gateway.conftest import Stage, eventually
from tests.stack import _free_ports

SERVER = """
import sys
from mcp.server import MCPServer

server = MCPServer("office")

@server.tool()
def see_rooms(floor: int) -> str:
    return f"rooms on {floor}"

@server.tool()
def enter_finance() -> str:
    return "money"

@server.tool()
def never_heard_of() -> str:
    return "?"

server.run(transport="streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def server_port() -> Iterator[int]:
    (port,) = _free_ports(1)
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 30
    while True:
        assert process.poll() is None and time.monotonic() < deadline
        try:
            httpx2.get(f"http://127.0.0.1:{port}/mcp", timeout=1)
            break
        except httpx2.HTTPError:
            time.sleep(0.05)
    yield port
    process.kill()
    process.wait()


@pytest.fixture
def real(tools: Stage, server_port: int) -> Stage:
    with in_tenant(tools.id):
        Resource.objects.filter(pk=tools.tools.pk).update(upstream_url=f"http://127.0.0.1:{server_port}/mcp")
        announce(tools.id, "config", f"resources:{tools.tools.id}")
    return tools


@pytest.mark.parametrize(("mode", "hello"), [("legacy", "initialize"), ("auto", "server/discover")])
def test_the_official_client_lists_and_calls_what_was_granted(real: Stage, mode: str, hello: str) -> None:
    token = real.token(aud=resource_url(real.slug, "office-mcp"), grant_id=str(real.tools_grant.id))
    url = f"http://127.0.0.1:{real.door.port}{real.path('', 'office-mcp')}"

    async def session() -> tuple[list[str], str, str]:
        async with (
            httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=10) as http,
            Client(streamable_http_client(url, http_client=http), mode=mode) as client,
        ):
            tools = [tool.name for tool in (await client.list_tools()).tools]
            result = await client.call_tool("see_rooms", {"floor": 2})
            try:
                await client.call_tool("enter_finance", {})
                refused = ""
            except Exception as problem:
                refused = str(problem)
            return tools, result.content[0].text, refused  # type: ignore[union-attr]

    tools, text, refused = asyncio.run(session())
    assert tools == ["see_rooms"]
    assert text == "rooms on 2"
    assert refused
    said = {one.operation for one in real.events("call.allowed")}
    assert hello in said and len(said & {"initialize", "server/discover"}) == 1
    (event,) = real.events("call.refused")
    assert event.reasons == ["grant_says_never"]
    called = eventually(lambda: [one for one in real.events("call.finished") if one.operation == "see_rooms"])
    assert [(one.outcome, one.status) for one in called] == [("ok", 200)]
