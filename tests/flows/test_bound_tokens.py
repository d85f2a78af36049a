"""Clients that nobody here wrote prove their key with each request (RFC 9449): openid-client, which checks what it is
told, as an agent with high assurance, and the official MCP client."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from tests.flows.admin import register_agent, register_agent_with_key, scopes_of
from tests.flows.installation import Installation
from tests.flows.mcp_client import CALLBACK as MCP_CALLBACK
from tests.flows.node_program import Problem, node_program
from tests.flows.test_the_docs import code, command, environ

pytestmark = [pytest.mark.flow, pytest.mark.timeout(120)]

CALLBACK = "http://127.0.0.1:43120/callback"


@pytest.mark.parametrize("algorithm", ["ES256", "Ed25519", "PS256"])
def test_openid_client_goes_the_whole_way_with_high_assurance(here: Installation, algorithm: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    public, name = ECAlgorithm.to_jwk(key.public_key()), f"High assurance, {algorithm}"
    scopes = scopes_of(here.stack, "office", "read")
    client_id = register_agent_with_key(here.stack, here.ada, name, scopes, public, redirect=CALLBACK, assured=True)
    told = {
        "issuer": here.issuer,
        "client_id": client_id,
        "key": json.loads(ECAlgorithm.to_jwk(key)),
        "callback": CALLBACK,
        "resource": here.office,
    }
    with node_program(here.node, "bound_client.mjs", here.matt.answer, **told) as program:
        jkt = program.ask("begin", algorithm=algorithm)
        with pytest.raises(Problem, match="invalid_request"):
            program.ask("code", scope="openid rooms:read", pushed=False)
        tokens = program.ask("code", scope="openid rooms:read")  # nonces are asked for and used along the way
        assert tokens["token_type"] == "dpop" and tokens["claims"]["sub"]  # spelt so by the client
        assert program.ask("userinfo")["sub"] == tokens["claims"]["sub"]
        assert program.ask("call", url=f"{here.office}/rooms")["rooms"]
        assert program.ask("call", url=f"{here.office}/rooms?floor=2#top")["rooms"]
        assert program.ask("introspect")["cnf"] == {"jkt": jkt}
        with pytest.raises(Problem):  # a bound token as bearer token
            program.ask("call", url=f"{here.office}/rooms", bound=False)
        program.ask("refresh")
        assert program.ask("call", url=f"{here.office}/rooms")["rooms"]
    issued = here.events("token.issued", client_id)
    assert [event["details"]["jkt"] for event in issued] == [jkt, jkt]
    assert here.events("authorization.refused", client_id)[0]["reasons"] == ["not_pushed"]
    assert [event["reasons"] for event in here.events("call.refused", client_id)] == [["proof_missing"]]


@pytest.mark.parametrize("mode", [{"pin": "2026-07-28"}, "legacy"], ids=["2026-07-28", "2025-11-25"])
def test_the_official_mcp_client_holds_bound_tokens(here: Installation, mode: Any) -> None:
    """It knows the address alone, registers itself, and finds in the metadata that it may prove a key."""

    def browse(url: str) -> str:
        return here.matt.answer(url, scope=["rooms:read"])

    told = {
        "sdk": "@modelcontextprotocol/client",
        "mode": mode,
        "url": here.office_mcp,
        "callback": MCP_CALLBACK,
        "name": f"Bound {mode}",
        "bound": True,
    }
    with node_program(here.node, "mcp_client.mjs", browse, **told) as program:
        client_id = program.ask("connect")["client_id"]
        assert "list_rooms" in program.ask("tools")
        assert "meeting" in str(program.ask("call", name="list_rooms"))
        held = program.ask("held")
        assert held["token_type"] == "DPoP"
        stolen = requests.post(
            here.office_mcp,
            json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"},
            headers={"Authorization": f"Bearer {held['access_token']}"},
            timeout=10,
        )
        assert stolen.status_code == 401 and stolen.headers["WWW-Authenticate"].startswith("Bearer error=")
    [issued] = here.events("token.issued", client_id)
    assert len(issued["details"]["jkt"]) == 43
    assert here.events("call.allowed", client_id)
    assert [event["reasons"] for event in here.events("call.refused", client_id)] == [["proof_missing"]]


@pytest.mark.parametrize("language", ["python", "typescript"])
def test_the_handbooks_way_works_as_it_stands(here: Installation, tmp_path: Path, language: str) -> None:
    scopes = scopes_of(here.stack, "office", "read")
    client_id, secret = register_agent(here.stack, here.ada, f"Handbook with proofs, {language}", scopes)
    program = command(here, language, code(here, "Tokens that are bound to a key", language), tmp_path)
    ran = subprocess.run(program, env=environ(client_id, secret, tmp_path), capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "meeting" in ran.stdout
    [issued] = here.events("token.issued", client_id)
    assert len(issued["details"]["jkt"]) == 43
    assert len(here.events("call.allowed", client_id)) == 1
