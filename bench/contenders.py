"""Who is measured: each is started on one core of its own and says how to ask it for a token and about one."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

HERE = Path(__file__).parent
CHECKOUT = HERE.parent


@dataclass
class Contender:
    """One server. `token_form` gets a token; `introspect_path` is "" where its tokens cannot be asked about."""

    name: str
    token_path: str
    introspect_path: str
    client_id: str
    secret: str
    token_form: Mapping[str, str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    port: int = 0
    facts: dict[str, Any] = field(default_factory=dict)  # of ours: what its rows are about

    @property
    def authorization(self) -> str:
        return "Basic " + b64encode(f"{self.client_id}:{self.secret}".encode()).decode()

    def post(self, path: str, form: Mapping[str, str], *, proven: bool = True) -> dict[str, Any]:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        headers |= {"Authorization": self.authorization} if proven else {}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data=urlencode(form).encode(), headers=headers
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def token(self) -> str:
        return str(self.post(self.token_path, self.token_form)["access_token"])

    def launch(self, core: int, command: Sequence[str], environ: Mapping[str, str], log: Path, cwd: Path) -> None:
        with log.open("ab") as out:
            self.processes.append(
                subprocess.Popen(
                    ["taskset", "-c", str(core), *command],
                    env={**os.environ, **environ},
                    cwd=cwd,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                )
            )
        deadline = time.monotonic() + 60
        while True:
            try:
                self.token()
                return
            except (OSError, urllib.error.URLError, json.JSONDecodeError) as problem:
                if time.monotonic() > deadline or self.processes[-1].poll() is not None:
                    raise SystemExit(f"{self.name} does not come up ({problem}); see {log}") from None
                time.sleep(0.2)

    def cpu_seconds(self) -> float:
        """What all its processes have used up to now. Unlike the clock, it does not count what others do meanwhile."""
        groups = {process.pid for process in self.processes}
        ticks = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) in groups:
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        self._signal(signal.SIGCONT)
        self._signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _signal(self, number: signal.Signals) -> None:
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, number)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        return int(opened.getsockname()[1])


def agentauth(folder: Path, core: int) -> Contender:
    """Ours: the web process that `manage.py up` starts, on a durable embedded PostgreSQL, one tenant, one agent.

    Needs AGENTAUTH_HOME to be set to a folder of its own and `django.setup()` to have been called.
    """
    from django.core.management import call_command
    from django.utils.timezone import now

    from agentauth.agents.registering import add_secret, register_agent
    from agentauth.embedded import postgres, roles
    from agentauth.grants.granting import give
    from agentauth.keys.addresses import resource_url
    from agentauth.resources.ceilings import set_ceiling
    from agentauth.resources.founding import found_tenant
    from agentauth.resources.models import Resource, Scope
    from audit.record import Actor
    from tenants.rls import in_tenant

    cluster = postgres.cluster()
    cluster.ensure(with_us=True)
    roles.ensure_own(cluster.dsn())
    call_command("migrate", database="owner", verbosity=0, interactive=False)
    from django.db import transaction

    with transaction.atomic():
        tenant, ada = found_tenant(
            slug="acme", name="Acme", owner_email="ada@acme.example", owner_name="Ada", actor=Actor.task("bench")
        )
    with in_tenant(tenant.id):
        office = Resource.objects.create(
            tenant=tenant,
            slug="office",
            name="Office",
            kind="rest",
            state="published",
            upstream_url="http://localhost:9",
        )
        scope = Scope.objects.create(tenant=tenant, resource=office, name="rooms:read", words="See rooms", risk="read")
        agent = register_agent(
            tenant,
            by=ada,
            name="Bench",
            purpose="Measures",
            owner=ada,
            kind="autonomous",
            auth_method="client_secret_basic",
        )
        set_ceiling(agent, [scope], by=ada)
        _, secret = add_secret(agent, by=ada)
        give(
            agent=agent,
            resource=office,
            member=None,
            by=ada,
            permissions={scope: "always"},
            expires_at=now() + timedelta(days=1),
        )
        app = register_agent(
            tenant,
            by=ada,
            name="Bench app",
            purpose="Measures",
            owner=ada,
            kind="mcp",
            auth_method="none",
            redirect_uris=["http://localhost/callback"],
        )
        set_ceiling(app, [scope], by=ada)
        grant = give(
            agent=app,
            resource=office,
            member=ada,
            by=ada,
            permissions={scope: "always"},
            expires_at=now() + timedelta(days=30),
        )
    form = {
        "grant_type": "client_credentials",
        "scope": "rooms:read",
        "resource": resource_url("acme", "office"),
    }
    here = Contender(
        "agentauth", "/t/acme/oauth/token", "/t/acme/oauth/introspect", agent.client_id, secret, form, port=free_port()
    )
    here.facts = {
        "client_id": app.client_id,
        "tenant_id": tenant.id,
        "agent_id": app.id,
        "member_id": ada.id,
        "grant_id": grant.id,
        "resource_id": office.id,
        "family_ends": now() + timedelta(days=20),
    }
    command = [sys.executable, "-m", "agentauth.embedded.web", "--port", str(here.port)]
    (Path(os.environ["AGENTAUTH_HOME"]) / "static").mkdir(exist_ok=True)
    here.launch(core, command, {}, folder / "agentauth.log", CHECKOUT)
    return here


def django_oauth_toolkit(folder: Path, core: int, uv: str) -> Contender:
    """On the PostgreSQL of ours, in a database of its own, behind gunicorn with 2 processes of 4 threads."""
    import psycopg

    from agentauth.embedded import postgres

    venv = folder / "dot"
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(venv)], check=True)
    python = str(venv / "bin" / "python")
    requirements = str(HERE / "requirements-dot.txt")
    subprocess.run([uv, "pip", "install", "-q", "--python", python, "-r", requirements], check=True)
    cluster = postgres.cluster()
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE dot")
    secret = secrets.token_urlsafe(32)
    environ = {"DOT_HOST": str(cluster.socket_dir), "DOT_USER": "postgres", "DOT_NAME": "dot", "CLIENT_SECRET": secret}
    subprocess.run([python, "dot_site.py"], cwd=HERE / "peers", env={**os.environ, **environ}, check=True)
    form = {"grant_type": "client_credentials", "scope": "rooms:read introspection"}
    here = Contender("django-oauth-toolkit", "/o/token/", "/o/introspect/", "bench", secret, form, port=free_port())
    gunicorn = ["-m", "gunicorn", "--worker-class", "gthread", "--workers", "2", "--threads", "4", "--keep-alive", "60"]
    command = [python, *gunicorn, "--bind", f"127.0.0.1:{here.port}", "dot_site:application"]
    here.launch(core, command, environ, folder / "dot.log", HERE / "peers")
    return here


def oidc_provider(folder: Path, core: int, token_format: str) -> Contender:
    """npm oidc-provider, in memory. Its JWT access tokens cannot be introspected, its opaque ones can."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise SystemExit("oidc-provider needs node and npm")
    place = folder / "node"
    if not place.exists():
        shutil.copytree(HERE / "peers" / "node", place)
        subprocess.run([npm, "install", "--silent", "--no-fund", "--no-audit"], cwd=place, check=True)
    secret = secrets.token_urlsafe(32)
    form = {"grant_type": "client_credentials", "scope": "rooms:read"}
    asked = "/token/introspection" if token_format == "opaque" else ""
    here = Contender(f"oidc-provider {token_format}", "/token", asked, "bench", secret, form, port=free_port())
    environ = {"PORT": str(here.port), "TOKEN_FORMAT": token_format, "CLIENT_SECRET": secret, "NODE_ENV": "production"}
    here.launch(core, [node, "server.mjs"], environ, folder / f"node-{token_format}.log", place)
    return here
