"""What `manage.py doctor` looks at. Each examination looks at one thing and knows the command that mends it."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from django.conf import settings
from django.db import DatabaseError, connections

from agentauth.embedded import machine, paths
from agentauth.embedded.roles import OLDEST_SERVER

_LEAST_FREE_BYTES = 1024**3
_MOST_CLOCK_DRIFT = 2.0  # seconds
_LONGEST_WAIT_FOR_PLACE = 30  # seconds until an event has its place in the record


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    name: str
    ok: bool
    text: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str | bool]:
        return asdict(self)


def examine() -> Iterator[Finding]:
    """All findings, in the order in which one depends on the other."""
    yield from (python(), home(), *secret_files(), processes())
    reachable = database()
    yield reachable
    if reachable.ok:
        yield _guarded("row-level security", row_level_security)
        yield _guarded("tables", migrations)
        yield _guarded("key ring", key_ring)
        yield _guarded("clock", clock)
        yield _guarded("record", record_in_order)
    yield broker()


def python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", sys.version_info >= (3, 11), version, "install Python 3.11 or newer")


def home() -> Finding:
    folder = paths.home()
    if not folder.is_dir():
        return Finding("home", False, f"{folder} is not there yet", "bin/run")
    if not os.access(folder, os.W_OK):
        return Finding("home", False, f"{folder} cannot be written to", f"chown -R $(id -u) '{folder}'")
    free = shutil.disk_usage(folder).free
    text = f"{folder}, {free / 1024**3:.1f} GB free"
    return Finding("home", free >= _LEAST_FREE_BYTES, text, "make room on this disk, or move AGENTAUTH_HOME")


def secret_files() -> Iterator[Finding]:
    folder = paths.home() / "secrets"
    if not folder.is_dir():
        return
    loose = [
        path
        for path in (folder, *sorted(folder.iterdir()))
        if stat.S_IMODE(path.stat().st_mode) & 0o077 or path.stat().st_uid != os.geteuid()
    ]
    text = f"{', '.join(path.name for path in loose)}: others may read it" if loose else "only we can read them"
    yield Finding("secrets", not loose, text, f"chown -R $(id -u) '{folder}' && chmod -R go= '{folder}'")


def processes() -> Finding:
    state = machine.read_state()
    if state is None:
        if settings.PRODUCTION:
            return Finding("processes", True, "not under `manage.py up`; your own supervisor looks after them")
        return Finding("processes", False, "AgentAuth does not run here", "bin/run")
    missing = [name for name, pid in state["programs"].items() if pid is None]
    for origin in (state["base_url"], state["gateway_url"]):
        said = machine.readiness(f"{origin}/readyz")
        if said != "ready":
            missing.append(f"{origin} ({said})")
    text = f"down: {', '.join(missing)}" if missing else f"{len(state['programs'])} run; {state['base_url']}"
    return Finding("processes", not missing, text, f"look into {paths.home() / 'logs'}")


def database() -> Finding:
    try:
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT current_setting('server_version'), current_setting('server_version_num')::int")
            version, number = cursor.fetchone()
            version = version.split()[0]
    except DatabaseError as problem:
        reason = str(problem).strip().splitlines()[0]
        remedy = "check DATABASE_URL" if settings.KNOBS.database_url else "bin/run"
        return Finding("database", False, reason, remedy)
    return Finding(
        "database",
        number >= OLDEST_SERVER,
        f"PostgreSQL {version}",
        f"use PostgreSQL {OLDEST_SERVER // 10000} or newer",
    )


def row_level_security() -> Finding:
    """The wall between tenants stands only if the runtime roles can neither bypass it nor own a table."""
    wrong = []
    for alias in ("default", "sequencer"):
        with connections[alias].cursor() as cursor:
            cursor.execute(
                "SELECT current_user, rolsuper OR rolbypassrls,"
                " EXISTS (SELECT FROM pg_class WHERE relowner = pg_roles.oid AND relkind IN ('r', 'p'))"
                " FROM pg_roles WHERE rolname = current_user"
            )
            role, bypasses, owns = cursor.fetchone()
        wrong += [f"{role} bypasses row-level security"] if bypasses else []
        wrong += [f"{role} owns tables"] if owns else []
    remedy = f"ALTER ROLE {paths.APP_ROLE} NOSUPERUSER NOBYPASSRLS; the owner's login must not serve requests"
    return Finding("row-level security", not wrong, ", ".join(wrong) or "no runtime role can bypass it", remedy)


def migrations() -> Finding:
    from django.db.migrations.executor import MigrationExecutor

    executor = MigrationExecutor(connections["owner"])
    missing = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
    text = f"{missing} migrations are missing" if missing else "up to date"
    return Finding("tables", not missing, text, "manage.py migrate --database owner")


def key_ring() -> Finding:
    """Without the keys that sealed them, signing keys and upstream credentials are worth nothing."""
    from agentauth.keys import resealing, ring
    from tenants.models import Tenant

    remedy = f"put {ring.path()} back from your backup of AGENTAUTH_HOME; docs/operator.md, “The key ring”"
    if not Tenant.objects.exists():
        return Finding("key ring", True, "made with the first organisation")
    try:
        known = [entry["id"] for entry in ring.entries()]
    except ring.RingError as lost:
        return Finding("key ring", False, f"{lost}: no token can be issued", remedy)
    used = resealing.in_use()
    missing = {one: count for one, count in used.items() if one not in known}
    former = sum(count for one, count in used.items() if one in known[1:])
    if missing:
        named = ", ".join(f"{one} ({count} secrets)" for one, count in sorted(missing.items()))
        return Finding("key ring", False, f"these keys are not on it: {named}", remedy)
    text = f"{len(known)} on it, {used.total()} secrets sealed"
    if former:
        return Finding("key ring", False, f"{text}, {former} of them by a former key", "manage.py rotate-keys --reseal")
    return Finding("key ring", True, text)


def clock() -> Finding:
    before = time.time()
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT extract(epoch FROM clock_timestamp())::float8")
        theirs = float(cursor.fetchone()[0])
    drift = theirs - (before + time.time()) / 2
    text = f"the database's clock is {abs(drift) * 1000:.0f} ms {'ahead of' if drift > 0 else 'behind'} ours"
    return Finding("clock", abs(drift) < _MOST_CLOCK_DRIFT, text, "set both clocks by NTP (timedatectl set-ntp true)")


def record_in_order() -> Finding:
    """Events that wait long for their place mean that no sequencer runs."""
    with connections["sequencer"].cursor() as cursor:
        cursor.execute(
            "SELECT count(*), extract(epoch FROM now() - min(e.at))::float8"
            " FROM audit_unsequenced u JOIN audit_event e ON e.tenant_id = u.tenant_id AND e.id = u.id"
        )
        waiting, oldest = cursor.fetchone()
    late = bool(waiting and oldest and oldest > _LONGEST_WAIT_FOR_PLACE)
    text = f"{waiting} events wait for their place, the oldest for {oldest:.0f} s" if waiting else "no event waits"
    return Finding("record", not late, text, "start the sequencer: bin/run, or manage.py sequencer")


def broker() -> Finding:
    from kombu import Connection

    url = settings.CELERY_BROKER_URL
    shown = url.rpartition("@")[2].removeprefix("redis+socket://")
    try:
        with Connection(url, connect_timeout=3) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=3)
    except Exception as problem:  # kombu's errors have no common ancestor
        remedy = "check REDIS_URL" if settings.KNOBS.redis_url else "bin/run"
        return Finding("queue", False, f"{shown}: {problem}", remedy)
    return Finding("queue", True, shown)


def _guarded(name: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except DatabaseError as problem:
        return Finding(name, False, str(problem).strip().splitlines()[0], "manage.py migrate --database owner")
