"""One machine from standstill to running: servers, roles, tables, demo, processes; and back again."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import TextIOBase
from types import FrameType
from typing import IO, Any

from agentauth.embedded import paths, postgres, processes, roles, valkey
from agentauth.embedded.lifeline import ServerUnavailable
from agentauth.embedded.ports import Ports
from agentauth.embedded.supervisor import Program, Supervisor

_READY_LIMIT = 90.0
_TICK = 0.1
_SERVER_CHECK = 1.0
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class AlreadyRunning(Exception):
    """Another process runs AgentAuth on this home."""


class NotReady(Exception):
    """Something did not come up; the text says what and where to look."""


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM while starting. Like KeyboardInterrupt, nothing on the way takes it for its own failure."""


@dataclass
class Addresses:
    """Where the two origins are for the outside."""

    base_url: str
    gateway_url: str


class Machine:
    """Everything that `manage.py up` holds in its hands. Use as a context manager; leaving it stops everything."""

    def __init__(self, ports: Ports, addresses: Addresses, *, demo: bool, tell: Callable[[str], None] = print) -> None:
        self.ports = ports
        self.addresses = addresses
        self.demo = demo
        self.tell = tell
        self.postgres = None if os.environ.get("DATABASE_URL") else postgres.cluster()
        self.valkey = None if os.environ.get("REDIS_URL") else valkey.server()
        if self.postgres is not None:
            self.postgres.tell = tell
        self.supervisor = Supervisor(paths.logs_dir(), tell=tell, changed=self._write_state)
        self._lock: IO[str] | None = None
        self._running = False
        self._stopping = False
        self._look_at_servers = 0.0

    def __enter__(self) -> Machine:
        self._lock = hold_home()
        for number in _STOP_SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup
                signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- the steps of a start

    def start_servers(self) -> None:
        if self.postgres is not None:
            self.postgres.ensure(with_us=True)
        if self.valkey is not None:
            self.valkey.ensure(with_us=True)

    def ensure_roles(self) -> None:
        if self.postgres is not None:
            roles.ensure_own(self.postgres.dsn())
        else:
            roles.ensure(owner_dsn(), own_logins=bool(os.environ.get("AGENTAUTH_DATABASE_APP_URL")))

    def migrate(self, progress: Callable[[int, int], None]) -> int:
        """Bring the tables up to date; how many migrations that took. `progress` hears of each: done, of how many."""
        from django.core.management import call_command
        from django.db import connections
        from django.db.migrations.executor import MigrationExecutor

        connection = connections["owner"]
        with connection.cursor() as cursor:  # another host may be at it
            cursor.execute("SELECT pg_advisory_lock(hashtext('agentauth migrate'))")
        try:
            executor = MigrationExecutor(connection)
            pending = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
            if pending:
                lines = _CountingLines(pending, progress)
                call_command("migrate", database="owner", interactive=False, skip_checks=True, stdout=lines)
        finally:
            connection.close()  # the lock goes with it
        return pending

    def seed(self) -> None:
        from agentauth.embedded import demo

        demo.seed()

    def cast_lines(self) -> list[str]:
        from agentauth.embedded import demo

        return demo.cast_lines(self.addresses.base_url)

    def open_doors(self) -> None:
        """Start what somebody waits for."""
        paths.private_dir(paths.home() / "static")  # whitenoise looks for it
        for program in processes.doors(self.ports):
            self.supervisor.start(program)
        if self.demo:
            self.supervisor.start(processes.office(self.ports))

    def start_background(self) -> None:
        """Start what nobody waits for."""
        for program in processes.background():
            self.supervisor.start(program)

    def await_ready(self) -> None:
        """Until both origins say that they are ready. Raises NotReady with the log of whoever is not."""
        for name, port in (("web", self.ports.web), ("gateway-1", self.ports.gateway)):
            deadline = time.monotonic() + _READY_LIMIT
            url = f"{_on_this_machine(self.ports.host, port)}/readyz"
            while (answer := readiness(url)) != "ready":
                self._tick()
                program = next(found for found in self.supervisor.programs if found.name == name)
                if time.monotonic() > deadline or program.wait > 2:
                    raise NotReady(f"{name} is not ready ({answer}). Its log ends:\n{self._words(program)}")

    # -- running

    def run(self) -> None:
        """Until somebody asks us to stop."""
        self._running = True
        while not self._stopping:
            self._tick()

    def stop(self) -> None:
        """Everything, the servers last. A second Ctrl-C does not interrupt it."""
        self._stopping = True
        for number in _STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        if self._lock is None:
            return
        names = [program.name for program in self.supervisor.programs if program.name != "sequencer"]
        self.supervisor.stop_these(*names)
        self.supervisor.stop()  # the sequencer last: what the others have recorded gets its place
        if self.valkey is not None:
            self.valkey.stop()
        if self.postgres is not None:
            self.postgres.stop()
        _state_file().unlink(missing_ok=True)
        self._lock.close()
        self._lock = None

    def _tick(self) -> None:
        time.sleep(_TICK)
        self.supervisor.tend()
        if time.monotonic() - self._look_at_servers > _SERVER_CHECK:
            self._look_at_servers = time.monotonic()
            self._heal_servers()

    def _heal_servers(self) -> None:
        if self.postgres is not None and self.postgres.pid() is None:
            self.tell("PostgreSQL has died; starting it again.")
            with self._said_aloud():
                self.postgres.ensure(with_us=True)
        if self.valkey is not None and not self.valkey.is_running():
            self.tell("Valkey has died; starting it again.")
            with self._said_aloud():
                self.valkey.ensure(with_us=True)

    @contextlib.contextmanager
    def _said_aloud(self) -> Iterator[None]:
        """A server that does not come back now is tried again with the next look."""
        try:
            yield
        except ServerUnavailable as problem:
            self.tell(str(problem))

    def _words(self, program: Program) -> str:
        return f"{self.supervisor.last_words(program)}\n(all of it: {self.supervisor.log_of(program)})"

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True
        if not self._running:
            raise Interrupted

    def _write_state(self) -> None:
        """What runs, for people and programs that ask: `doctor`, a second `up`, the tests."""
        state = {
            "pid": os.getpid(),
            "base_url": self.addresses.base_url,
            "gateway_url": self.addresses.gateway_url,
            "programs": {program.name: program.pid for program in self.supervisor.programs},
        }
        fresh = _state_file().with_suffix(".new")
        fresh.write_text(json.dumps(state))
        fresh.replace(_state_file())


def read_state() -> dict[str, Any] | None:
    """What runs on this home, or None when nothing does."""
    try:
        state = json.loads(_state_file().read_text())
        lock = hold_home()
    except AlreadyRunning:
        return dict(state)
    except (OSError, ValueError):
        return None
    lock.close()
    return None


def hold_home() -> IO[str]:
    """The lock that says who runs this home, held until it is closed or the process ends."""
    paths.make_home()
    lock = open(paths.home() / "up.lock", "w")  # noqa: SIM115  # held
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise AlreadyRunning from None
    return lock


def owner_dsn() -> str:
    """The owner's way into the database, as psycopg takes it."""
    from django.db import connections
    from psycopg.conninfo import make_conninfo

    settings = connections["owner"].get_connection_params()
    settings.pop("cursor_factory", None)
    for name in ("context", "server_side_binding", "prepare_threshold", "isolation_level", "pool", "assume_role"):
        settings.pop(name, None)
    return make_conninfo(**settings)


def _state_file() -> Any:
    return paths.home() / "up.json"


def readiness(url: str) -> str:
    """“ready”, or why not."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as answer:
            return "ready" if answer.status == 200 else f"status {answer.status}"
    except urllib.error.HTTPError as problem:
        return f"status {problem.code}: {problem.read(300).decode(errors='replace')}"
    except (OSError, ValueError) as problem:
        return str(getattr(problem, "reason", problem))


def _on_this_machine(host: str, port: int) -> str:
    """Where we reach a server ourselves that listens at `host`."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{shown}:{port}"


class _CountingLines(TextIOBase):
    """Listens to `migrate` and counts what it has applied."""

    def __init__(self, total: int, progress: Callable[[int, int], None]) -> None:
        self._total = total
        self._progress = progress
        self._done = 0

    def write(self, text: str) -> int:
        found = text.count(" OK")
        if found:
            self._done += found
            self._progress(self._done, self._total)
        return len(text)
