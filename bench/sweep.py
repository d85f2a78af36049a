"""The expiry sweep: ours against `cleartokens` of django-oauth-toolkit, and what others feel of ours meanwhile.

    .venv/bin/python -m bench.sweep [--rows 5000000] [--theirs 300000] [--json FILE]

Both on the same durable PostgreSQL, theirs first. Ours are rows of two tables that ended days ago, in five partitions
each; theirs are expired access tokens, fewer of them, because it takes so long. Compared are rows a second. While ours
runs, somebody else spends single-use marks without a pause: the longest wait of one is what the sweep costs others.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

_DAYS = 5
_MARKS = (
    "INSERT INTO oauth_spentonce (id, tenant_id, kind, value_hash, expires_at)"
    " SELECT gen_random_uuid(), %(tenant)s, 'assertion', sha256(n::text::bytea),"
    " %(day)s + interval '1 minute' * (n %% 1440)"
    " FROM generate_series(1, %(rows)s) n"
)
_PUSHED = (
    "INSERT INTO oauth_pushedrequest (id, tenant_id, uri_hash, agent_id, parameters, browser, created_at, expires_at)"
    " SELECT gen_random_uuid(), %(tenant)s, sha256(n::text::bytea), %(agent)s, '[]', '', made,"
    " made + interval '1 minute'"
    " FROM generate_series(1, %(rows)s) n, LATERAL (SELECT %(day)s + interval '1 minute' * (n %% 1440) AS made) m"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--theirs", type=int, default=300_000)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="agentauth-bench-"))
    folder.chmod(0o711)
    os.environ["AGENTAUTH_HOME"] = str(folder / "home")
    os.environ["DJANGO_SETTINGS_MODULE"] = "agentauth.settings"
    import django

    django.setup()
    from agentauth.embedded import postgres

    uv = os.environ.get("UV") or shutil.which("uv") or sys.exit("bench needs uv for django-oauth-toolkit")
    try:
        tenant_id, agent_id = _house()
        theirs = _cleartokens(folder, uv, asked.theirs)
        print(f"django-oauth-toolkit: {asked.theirs:,} rows in {theirs:.1f} s", file=sys.stderr, flush=True)
        _fill(tenant_id, agent_id, asked.rows)
        ours = _sweep(tenant_id, asked.rows)
    finally:
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)
    found = {
        "rows": asked.rows,
        "seconds": round(ours["seconds"], 2),
        "per_second": round(asked.rows / ours["seconds"]),
        "theirs_rows": asked.theirs,
        "theirs_seconds": round(theirs, 2),
        "theirs_per_second": round(asked.theirs / theirs),
        "ours_is": round(asked.rows / ours["seconds"] / (asked.theirs / theirs), 1),
        **{name: ours[name] for name in ("others_before_ms", "others_meanwhile_ms", "others_count")},
    }
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def _house() -> tuple[Any, Any]:
    """One tenant with one agent, on a server of our own."""
    from django.core.management import call_command
    from django.db import transaction

    from agentauth.agents.registering import register_agent
    from agentauth.embedded import postgres, roles
    from agentauth.resources.founding import found_tenant
    from audit.record import Actor
    from tenants.rls import in_tenant

    cluster = postgres.cluster()
    cluster.ensure(with_us=True)
    roles.ensure_own(cluster.dsn())
    call_command("migrate", database="owner", verbosity=0, interactive=False)
    with transaction.atomic():
        tenant, ada = found_tenant(
            slug="acme", name="Acme", owner_email="ada@acme.example", owner_name="Ada", actor=Actor.task("bench")
        )
    with in_tenant(tenant.id):
        agent = register_agent(tenant, by=ada, name="Bench", purpose="Measures", owner=ada, kind="autonomous")
    return tenant.id, agent.id


def _cleartokens(folder: Path, uv: str, rows: int) -> float:
    """Seconds that django-oauth-toolkit takes for so many expired access tokens."""
    from bench import contenders

    peer = contenders.django_oauth_toolkit(folder, 0, uv)
    peer.stop()
    from agentauth.embedded import postgres

    environ = {"DOT_HOST": str(postgres.cluster().socket_dir), "DOT_USER": "postgres", "DOT_NAME": "dot"}
    command = [str(folder / "dot" / "bin" / "python"), "dot_site.py", "clear", str(rows)]
    done = subprocess.run(
        command,
        cwd=contenders.HERE / "peers",
        env={**os.environ, **environ},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return float(done.stdout.split()[-1])


def _fill(tenant_id: Any, agent_id: Any, rows: int) -> None:
    """Ended rows as a clock that stood still for days leaves them: in the partitions of their days."""
    from django.db import connections
    from django.utils.timezone import now

    today = now().replace(hour=0, minute=0, second=0, microsecond=0)
    with connections["owner"].cursor() as cursor:
        for days_ago in range(3, 3 + _DAYS):
            first = today - timedelta(days=days_ago)
            bounds = f"FROM ('{first:%Y-%m-%d}') TO ('{first + timedelta(days=1):%Y-%m-%d}')"
            for table in ("oauth_spentonce", "oauth_pushedrequest"):
                name = f"{table}_{first:%Y%m%d}"
                cursor.execute(f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF {table} FOR VALUES {bounds}")
    from tenants.rls import in_tenant

    asked = {"tenant": tenant_id, "agent": agent_id, "rows": rows // _DAYS // 2}
    for days_ago in range(3, 3 + _DAYS):
        with in_tenant(tenant_id), connections["default"].cursor() as cursor:
            for statement in (_MARKS, _PUSHED):
                cursor.execute(statement, {**asked, "day": today - timedelta(days=days_ago)})
    with connections["owner"].cursor() as cursor:
        cursor.execute("CHECKPOINT") if _may_checkpoint(cursor) else None


def _may_checkpoint(cursor: Any) -> bool:
    cursor.execute("SELECT pg_has_role(current_user, 'pg_checkpoint', 'MEMBER')")
    return bool(cursor.fetchone()[0])


def _sweep(tenant_id: Any, rows: int) -> dict[str, Any]:
    from agentauth.oauth.tasks import sweep_spent

    waits: list[tuple[float, float]] = []
    stop = threading.Event()
    other = threading.Thread(target=_spend, args=(tenant_id, waits, stop))
    other.start()
    time.sleep(2.0)
    began = time.monotonic()
    removed = sweep_spent()
    ended = time.monotonic()
    stop.set()
    other.join()
    if removed != rows // _DAYS // 2 * _DAYS * 2:
        sys.exit(f"the sweep says that it removed {removed} of {rows} rows")
    before = [wait for at, wait in waits if at < began]
    meanwhile = [wait for at, wait in waits if began <= at <= ended]
    return {
        "seconds": ended - began,
        "others_before_ms": round(max(before) * 1000, 1),
        "others_meanwhile_ms": round(max(meanwhile) * 1000, 1),
        "others_count": len(meanwhile),
    }


def _spend(tenant_id: Any, waits: list[tuple[float, float]], stop: threading.Event) -> None:
    """Spends single-use marks, one after the other, and notes how long each took."""
    from django.db import connections
    from django.utils.timezone import now

    from agentauth.oauth.spent import spend_once
    from tenants.rls import in_tenant

    try:
        while not stop.is_set():
            began = time.monotonic()
            with in_tenant(tenant_id):
                assert spend_once(tenant_id, "assertion", os.urandom(32), now() + timedelta(minutes=1))
            waits.append((began, time.monotonic() - began))
    finally:
        connections.close_all()


if __name__ == "__main__":
    main()
