"""What an agent developer copies out of the handbook works as it stands: every block is run against the real thing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jwt.algorithms import ECAlgorithm

from tests.flows.admin import register_agent, register_agent_with_key, scopes_of
from tests.flows.installation import Installation
from tests.flows.parts import NODE_MODULES, free_port

pytestmark = [pytest.mark.flow, pytest.mark.timeout(120)]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "agent-developer.md"
REDIRECT = "http://127.0.0.1/callback"
CURL = Path(__file__).with_name("curl.py")


def code(here: Installation, heading: str, language: str) -> str:
    """The one block in this language under this heading, with the addresses of this installation."""
    part = PAGE.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = re.findall(rf"```{language}\n(.*?)```", part, re.DOTALL)
    assert found, f"no {language} under {heading}"
    text: str = found[0]
    ours = {
        "http://localhost:8000": here.stack.base_url,
        "http://localhost:8001": here.stack.gateway_url,
        "8765": str(free_port()),
    }
    for written, here_it_is in ours.items():
        text = text.replace(written, here_it_is)
    return text


def command(here: Installation, language: str, text: str, folder: Path) -> list[str]:
    """How a developer would run it."""
    if language == "sh":
        return ["sh", "-euc", text]
    if language == "python":
        return [sys.executable, "-c", text]
    (folder / "node_modules").symlink_to(NODE_MODULES)
    script = folder / "program.mjs"
    script.write_text(text)
    return [here.node, str(script)]


def environ(client_id: str, secret: str, folder: Path) -> dict[str, str]:
    """With curl, or on a machine without it with a stand-in for the few options that the handbook uses."""
    if not shutil.which("curl"):
        stand_in = folder / "curl"
        stand_in.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{CURL}" "$@"\n')
        stand_in.chmod(0o755)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], str(folder)])
    return {**os.environ, "PATH": path, "CLIENT_ID": client_id, "CLIENT_SECRET": secret}


@pytest.mark.parametrize("language", ["sh", "python", "typescript"])
def test_an_agent_gets_a_token_for_itself_and_calls(here: Installation, tmp_path: Path, language: str) -> None:
    scopes = scopes_of(here.stack, "office", "read")
    client_id, secret = register_agent(here.stack, here.ada, f"Handbook by itself, {language}", scopes)
    program = command(here, language, code(here, "An agent that runs by itself", language), tmp_path)
    ran = subprocess.run(program, env=environ(client_id, secret, tmp_path), capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "meeting" in ran.stdout
    assert len(here.events("call.allowed", client_id)) == 1


@pytest.mark.parametrize("language", ["python", "typescript"])
def test_an_mcp_client_without_a_person_gets_in(here: Installation, tmp_path: Path, language: str) -> None:
    scopes = scopes_of(here.stack, "office-mcp", "read")
    client_id, secret = register_agent(here.stack, here.ada, f"Handbook MCP, {language}", scopes)
    program = command(here, language, code(here, "An MCP client", language), tmp_path)
    ran = subprocess.run(program, env=environ(client_id, secret, tmp_path), capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "meeting" in ran.stdout
    assert "list_rooms" in {event["operation"] for event in here.events("call.allowed", client_id)}


def test_the_assertion_is_taken_instead_of_a_secret(here: Installation) -> None:
    """The second block in Python: `private_key_jwt` (RFC 7523 §2.2)."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = ECAlgorithm.to_jwk(key.public_key())
    scopes = scopes_of(here.stack, "office", "read")
    client_id = register_agent_with_key(here.stack, here.ada, "Handbook with a key", scopes, public)
    part = PAGE.read_text().partition("\nBetter than a secret is a key")[2]
    room: dict[str, Any] = {}
    exec(compile(re.findall(r"```python\n(.*?)```", part, re.DOTALL)[0], PAGE.name, "exec"), room)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    [kid] = here.stack.sql(
        "SELECT c.kid FROM agents_credential c JOIN agents_agent a ON a.id = c.agent_id WHERE a.client_id = %s",
        (client_id,),
    )[0]
    form = {"grant_type": "client_credentials", "resource": here.office}
    answer = httpx2.post(
        f"{here.issuer}/oauth/token", data=form | room["client_assertion"](client_id, here.issuer, pem, kid)
    )
    assert answer.status_code == 200, answer.text
    claims = jwt.decode(answer.json()["access_token"], options={"verify_signature": False})
    assert claims["client_id"] == client_id
    assert here.events("token.issued", client_id)


def by_hand(here: Installation, ran: subprocess.Popen[str]) -> None:
    """Matt opens what is printed, and his browser ends at an address where nobody listens; the code is typed in."""
    landed = here.matt.answer(printed_address(here, ran))
    assert ran.stdin is not None
    ran.stdin.write(httpx2.URL(landed).params["code"] + "\n")
    ran.stdin.close()


def by_return(here: Installation, ran: subprocess.Popen[str]) -> None:
    """Matt opens what is printed, and his browser comes back to the program."""
    assert httpx2.get(here.matt.answer(printed_address(here, ran))).status_code == 200


def printed_address(here: Installation, ran: subprocess.Popen[str]) -> str:
    assert ran.stdout is not None
    for line in ran.stdout:
        if found := re.search(re.escape(here.issuer) + r"/oauth/authorize\S+", line):
            return found[0]
    raise AssertionError(ran.stderr.read() if ran.stderr else "")


@pytest.mark.parametrize(
    ("language", "answer"),
    [("sh", by_hand), ("python", by_return), ("typescript", by_return)],
    ids=["sh", "python", "typescript"],
)
def test_an_agent_acts_for_a_person(
    here: Installation, tmp_path: Path, language: str, answer: Callable[[Installation, subprocess.Popen[str]], None]
) -> None:
    scopes = scopes_of(here.stack, "office", "read")
    client_id, secret = register_agent(
        here.stack, here.ada, f"Handbook for Matt, {language}", scopes, redirect=REDIRECT
    )
    program = command(here, language, code(here, "An agent that acts for a person", language), tmp_path)
    # The browser that Python opens prints where it was sent
    around = environ(client_id, secret, tmp_path) | {"BROWSER": "echo %s", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        program, env=around, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as ran:
        answer(here, ran)
        assert ran.stdout is not None and ran.stderr is not None
        said = ran.stdout.read()
        assert ran.wait() == 0, ran.stderr.read()
    assert "meeting" in said
    [called] = here.events("call.allowed", client_id)
    assert called["member"] and called["operation"] == "GET /rooms"
