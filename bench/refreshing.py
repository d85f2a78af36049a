"""Refresh tokens for the bench: families that have begun, and the same rotation done by pgbench, without any server."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from bench.contenders import Contender

FAMILIES = 64


def begin_families(one: Contender, count: int = FAMILIES) -> list[str]:
    """A refresh token of each, already used once over HTTP, so that the server knows its client."""
    tokens = [secrets.token_urlsafe(32) for _ in range(count)]
    _insert(one, tokens)
    form = {"grant_type": "refresh_token", "client_id": one.facts["client_id"]}
    return [
        str(one.post(one.token_path, form | {"refresh_token": token}, proven=False)["refresh_token"])
        for token in tokens
    ]


def pgbench(one: Contender, seconds: float, core: int, folder: Path, round_number: int) -> dict[str, Any]:
    """The lane's statement for one token, prepared, in a transaction of its own each, from 16 clients."""
    from agentauth.embedded import paths, postgres

    begun = 16
    run = secrets.token_hex(8)
    first = [f"{run}-{client}-0" for client in range(begun)]
    families = _insert(one, first)
    known = "ARRAY[" + ",".join(f"'{family}'" for family in families) + "]"
    script = folder / "rotate.sql"
    script.write_text(_script(one, run, known))
    binary = postgres.find_binaries().bin / "pgbench"
    command = ["taskset", "-c", str(core), str(binary), "-n", "-M", "prepared", "-c", str(begun), "-j", "1"]
    command += [
        "-T",
        str(max(1, round(seconds))),
        "-D",
        "n=-1",
        "-f",
        str(script),
        "-h",
        str(postgres.cluster().socket_dir),
    ]
    environ = {**os.environ, "PGOPTIONS": f"-c agentauth.tenant={one.facts['tenant_id']}"}
    command += ["-U", paths.APP_ROLE, "agentauth"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"pgbench: {done.stderr.strip()}")
    found = {name: float(value) for name, value in re.findall(r"(tps|latency average) = ([\d.]+)", done.stdout)}
    processed = int(re.search(r"actually processed: (\d+)", done.stdout)[1])  # type: ignore[index]  # or it stops
    _require_rotated(one, families, processed)
    return {
        "contender": "pgbench, the same statement",
        "what": "refresh",
        "round": round_number,
        "per_second": round(found["tps"], 1),
        "requests": processed,
        "cpu_us": 0,
        "p50": round(found["latency average"] * 1000),
        "p99": 0,
        "bad": 0,
    }


def _insert(one: Contender, tokens: list[str]) -> list[UUID]:
    from django.utils.timezone import now

    from agentauth.oauth.models import RefreshToken
    from tenants.models import secret_hash
    from tenants.rls import in_tenant, new_id

    families = [new_id() for _ in tokens]
    ends = now() + timedelta(days=20)
    fixed = {name: one.facts[name] for name in ("tenant_id", "agent_id", "grant_id", "resource_id")}
    with in_tenant(one.facts["tenant_id"]):
        RefreshToken.objects.bulk_create(
            RefreshToken(
                **fixed,
                token_hash=secret_hash(token),
                family=family,
                scope="rooms:read",
                expires_at=ends,
                family_expires_at=one.facts["family_ends"],
            )
            for token, family in zip(tokens, families, strict=True)
        )
    return families


def _require_rotated(one: Contender, families: list[UUID], processed: int) -> None:
    from agentauth.oauth.models import RefreshToken
    from tenants.rls import in_tenant

    with in_tenant(one.facts["tenant_id"]):
        spent = RefreshToken.objects.filter(family__in=families, spent_at__isnull=False).count()
    if spent < processed:
        raise SystemExit(f"pgbench: only {spent} of {processed} statements rotated a token")


def _script(one: Contender, run: str, families: str) -> str:
    """The statement with its arrays of one; what differs from token to token is made in SQL."""
    from agentauth.oauth import statements

    facts = one.facts
    ends = f"'{facts['family_ends']:%Y%m%dT%H%M%S.%fZ}'::timestamptz"  # a colon would begin a variable
    jti, event = "11111111-1111-1111-1111-111111111111", "{}"
    body = json.dumps({"action": "token.issued", "note": "x" * 420})
    values = {
        "id": "uuidv7()",
        "tenant_id": f"'{facts['tenant_id']}'::uuid",
        "at": "now()",
        "action": "'token.issued'",
        "actor_kind": "'agent'",
        "actor": f"'{facts['agent_id']}'",
        "agent_id": f"'{facts['agent_id']}'::uuid",
        "member_id": f"'{facts['member_id']}'::uuid",
        "grant_id": f"'{facts['grant_id']}'::uuid",
        "resource_id": f"'{facts['resource_id']}'::uuid",
        "ip": "'127.0.0.1'",
        "details": f"'{event}'",
        "body": f"'{body}'",
        "credential_id": "NULL::uuid",
        "token_hash": f"sha256(convert_to('{run}-' || :client_id::int || '-' || :n::int, 'UTF8'))",
        "next_hash": f"sha256(convert_to('{run}-' || :client_id::int || '-' || :n::int + 1, 'UTF8'))",
        "family": f"({families})[:client_id::int + 1]::uuid",
        "family_scope": "'rooms' || chr(58) || 'read'",
        "auth_time": "now()",
        "acr": "''",
        "family_ends": ends,
        "next_ends": ends,
        "next_id": "uuidv7()",
        "jti": f"'{jti}'::uuid",
    }
    arrays = [f"ARRAY[{values[name]}]" for name in statements.ROTATED]
    text = re.sub(r"\$(\d+)", lambda found: arrays[int(found[1]) - 1], statements.PREPARED["rotate"])
    return "\\set n :n + 1\n" + " ".join(text.split()) + ";\n"
