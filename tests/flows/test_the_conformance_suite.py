"""The MCP project's own conformance suite, against a tenant's issuer (its mode for authorization servers)."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import httpx2
import pytest

from tests.flows.installation import Installation
from tests.flows.parts import NODE_MODULES, free_port

pytestmark = [pytest.mark.flow, pytest.mark.timeout(120)]

SUITE = NODE_MODULES / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"


def test_the_suite_finds_nothing_wrong_with_the_issuer(here: Installation, tmp_path: Path) -> None:
    """Its metadata, client documents, and the code grant of a public client, which a person carries out."""
    metadata = {
        "client_name": "Conformance suite",
        "redirect_uris": ["http://127.0.0.1/callback"],
        "token_endpoint_auth_method": "none",
    }
    client_id = httpx2.post(f"{here.issuer}/oauth/register", json=metadata).raise_for_status().json()["client_id"]
    command = [here.node, str(SUITE), "authorization", "--url", here.issuer, "--output-dir", str(tmp_path)]
    command += ["--client-id", client_id, "--resource", here.office_mcp, "--port", str(free_port())]
    said = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as suite:
        assert suite.stdout is not None
        for line in suite.stdout:
            said.append(line)
            if line.startswith(f"{here.issuer}/oauth/authorize?"):
                httpx2.get(here.matt.answer(line.strip()))  # the suite waits there
    assert suite.returncode == 0, "".join(said)
    checks = [check for found in tmp_path.rglob("checks.json") for check in json.loads(found.read_text())]
    assert {check["id"]: check["status"] for check in checks} == {
        "authorization-server-metadata": "SUCCESS",
        "authorization-server-metadata-cimd": "SUCCESS",
        "authorization-code-grant": "SUCCESS",
    }
    assert re.search(r"Total: 3 passed, 0 failed", "".join(said))
    assert [event["details"]["grant_type"] for event in here.events("token.issued", client_id)] == [
        "authorization_code"
    ]
