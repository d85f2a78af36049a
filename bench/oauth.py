"""Tokens, introspection and refresh, ours against django-oauth-toolkit, oidc-provider and pgbench.

    .venv/bin/python -m bench.oauth [--rounds 4] [--seconds 3] [--json FILE] [--only NAME …] [--big]

Servers run on core 0, each alone (the others are stopped while one is measured); the load (wrk, 16 connections kept
open) and PostgreSQL share core 1. Rounds alternate, ratios are of medians. Beside requests a second stands the CPU time
of the server's own processes for one request, which others on the machine disturb less. `--big` first fills ours with
5 million live refresh tokens and 100,000 agents, which takes some minutes. Needs wrk, taskset, node, npm and uv.

pgbench does the statement of our refresh alone: from the server's core, one token a transaction, on the same database.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

SERVER_CORE, LOAD_CORE = 0, 1
CONNECTIONS = 16
OURS = "agentauth"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--big", action="store_true")
    parser.add_argument("--tokens", type=int, default=5_000_000, help="how many live refresh tokens --big makes")
    parser.add_argument("--agents", type=int, default=100_000, help="and how many agents")
    asked = parser.parse_args()
    for program in ("wrk", "taskset"):
        if shutil.which(program) is None:
            sys.exit(f"bench needs {program} (apt-get install wrk util-linux)")
    folder = Path(tempfile.mkdtemp(prefix="agentauth-bench-"))
    folder.chmod(0o711)
    os.environ["AGENTAUTH_HOME"] = str(folder / "home")
    os.environ["DJANGO_SETTINGS_MODULE"] = "agentauth.settings"
    os.sched_setaffinity(0, {LOAD_CORE})  # and so PostgreSQL, which this process starts
    import django

    django.setup()
    from agentauth.embedded import postgres
    from bench import big, contenders, refreshing

    uv = os.environ.get("UV") or shutil.which("uv")
    makers: dict[str, Callable[[], contenders.Contender]] = {
        OURS: lambda: contenders.agentauth(folder, SERVER_CORE),
        "django-oauth-toolkit": lambda: contenders.django_oauth_toolkit(
            folder, SERVER_CORE, uv or sys.exit("bench needs uv for django-oauth-toolkit")
        ),
        "oidc-provider jwt": lambda: contenders.oidc_provider(folder, SERVER_CORE, "jwt"),
        "oidc-provider opaque": lambda: contenders.oidc_provider(folder, SERVER_CORE, "opaque"),
    }
    running: list[contenders.Contender] = []
    runs: list[dict[str, Any]] = []
    try:
        for name, make in makers.items():
            if not asked.only or name in asked.only or name == OURS:
                running.append(make())
                running[-1].pause()
        if asked.big:
            big.fill(running[0].facts, tokens=asked.tokens, agents=asked.agents)
        for round_number in range(asked.rounds):
            for one in running:
                one.go_on()
                runs += measure(one, asked.seconds, round_number)
                if one.facts:
                    runs.append(refresh(one, asked.seconds, round_number, folder))
                one.pause()
            if not asked.only or "pgbench" in asked.only:
                runs.append(refreshing.pgbench(running[0], asked.seconds, SERVER_CORE, folder, round_number))
    finally:
        for one in running:
            one.stop()
        postgres.stop()
    found = {"connections": CONNECTIONS, "seconds": asked.seconds, "runs": runs, "summary": summary(runs)}
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found["summary"]))
    shutil.rmtree(folder, ignore_errors=True)


def measure(one: Any, seconds: float, round_number: int) -> list[dict[str, Any]]:
    """Tokens, then introspection of a token got just before."""
    work = [("token", one.token_path, dict(one.token_form))]
    if one.introspect_path:
        form = {"token": one.token()}
        assert one.post(one.introspect_path, form)["active"] is True, one.name
        work.append(("introspection", one.introspect_path, form))
    found = []
    for what, path, form in work:
        load(one, path, form, 1.0)
        before = one.cpu_seconds()
        run = load(one, path, form, seconds)
        found.append(noted(one, what, round_number, run, before))
    return found


def noted(one: Any, what: str, round_number: int, run: dict[str, Any], cpu_before: float) -> dict[str, Any]:
    run["cpu_us"] = round((one.cpu_seconds() - cpu_before) / run["requests"] * 1e6)
    if run["bad"]:
        sys.exit(f"{one.name}: {run['bad']} of {run['requests']} {what} requests failed")
    run |= {"contender": one.name, "what": what, "round": round_number}
    run["per_second"] = round(run["requests"] / run["microseconds"] * 1e6, 1)
    print(f"{round_number} {one.name:22} {what:14} {run['per_second']:>9} /s", file=sys.stderr, flush=True)
    return run


def refresh(one: Any, seconds: float, round_number: int, folder: Path) -> dict[str, Any]:
    """Refresh tokens of a public client, each used once."""
    from bench.refreshing import begin_families

    tokens = folder / "tokens"
    tokens.write_text("\n".join(begin_families(one)) + "\n")
    form = {"grant_type": "refresh_token", "client_id": one.facts["client_id"], "refresh_token": ""}
    before = one.cpu_seconds()
    run = load(one, one.token_path, form, seconds, "refresh.lua", {"BENCH_TOKENS": str(tokens)})
    tokens.unlink()
    return noted(one, "refresh", round_number, run, before)


def load(
    one: Any,
    path: str,
    form: dict[str, str],
    seconds: float,
    script_name: str = "post.lua",
    more: dict[str, str] | None = None,
) -> dict[str, Any]:
    environ = {**os.environ, **(more or {}), "BENCH_BODY": urlencode(form), "BENCH_AUTHORIZATION": one.authorization}
    script = str(Path(__file__).with_name(script_name))
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds:g}s", "-s", script]
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{one.port}{path}"], env=environ, capture_output=True, text=True, check=True
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    result: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
    return result


def summary(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Medians over the rounds for each contender and kind of request, and ours as a multiple of theirs."""
    rows = []
    for what in ("token", "introspection", "refresh"):
        names = list(dict.fromkeys(run["contender"] for run in runs if run["what"] == what))
        for name in names:
            mine = [run for run in runs if run["what"] == what and run["contender"] == name]
            row = {"what": what, "contender": name, "rounds": len(mine)}
            row |= {key: statistics.median(run[key] for run in mine) for key in ("per_second", "cpu_us", "p50", "p99")}
            rows.append(row)
        ours = next(row for row in rows if row["what"] == what and row["contender"] == OURS)
        for row in rows:
            if row["what"] == what:
                row["ours_is"] = round(ours["per_second"] / row["per_second"], 2)
                row["ours_by_cpu"] = round(row["cpu_us"] / ours["cpu_us"], 2)  # 0: not a server
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| request | server | per second | ours is | CPU µs a request | ours is, by CPU | p50 ms | p99 ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        ours = row["contender"] == OURS
        by_clock, by_cpu = ("1", "1") if ours else (f"{row['ours_is']:.2f} ×", f"{row['ours_by_cpu']:.2f} ×")
        times = [f"{row[name] / 1000:.1f}" if row[name] else "–" for name in ("p50", "p99")]
        spent = [f"{row['cpu_us']:,.0f}", by_cpu] if row["cpu_us"] else ["–", "–"]
        cells = [f"{row['per_second']:,.0f}", by_clock, *spent, *times]
        lines.append("| " + " | ".join([row["what"], row["contender"], *cells]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
