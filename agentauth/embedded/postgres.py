"""PostgreSQL on a unix socket, without a password: make it, start it, keep it, stop it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from agentauth.embedded import paths, write_ahead
from agentauth.embedded.lifeline import ServerUnavailable, die_with_parent, end, is_alive
from agentauth.embedded.postgres_binaries import Binaries, find_binaries, reachable_copy

SYSTEM_USER = "agentauth"
SUPERUSER = "postgres"
_ROLES = (SUPERUSER, paths.OWNER_ROLE, paths.APP_ROLE, paths.SEQUENCER_ROLE)
_START_LIMIT = 60.0
_RETRY_LIMIT = 10.0
_ENVIRONMENT = {"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}


class Cluster:
    """One PostgreSQL in one folder. `ensure` and `stop` may be called by any process, at any time, in any state.

    `durable=False` is for tests: such a cluster loses data when the machine goes down, in exchange for speed.
    """

    def __init__(
        self,
        folder: Path,
        *,
        durable: bool = True,
        socket_dir: Path | None = None,
        copies: Path | None = None,
        tell: Callable[[str], None] = print,
    ) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / "postgres.log"
        self.durable = durable
        self.socket_dir = socket_dir or paths.runtime_dir_of(folder) / "pg"
        self.copies = copies or folder.parent  # where root keeps the copy of the server that the system user can reach
        self.tell = tell
        self.process: subprocess.Popen[bytes] | None = None  # only when this object started it

    def dsn(self, database: str = "postgres", user: str = SUPERUSER) -> str:
        """How to reach it with psycopg."""
        return f"host='{self.socket_dir}' dbname={database} user={user}"

    def ensure(self, *, with_us: bool = False) -> None:
        """Make the cluster if it is new and start it if it is down.

        With `with_us`, a server that this call starts is shut down by the kernel when the calling process dies.
        """
        with self._lock():
            self._prepare_folders()
            self._initialise()
            self._write_access_rules()
            if not self.is_running():
                self._start(with_us)
                if self.durable:
                    write_ahead.prepare(self.dsn(), self.data)

    def stop(self) -> None:
        """Fast shutdown: sessions are ended, what is committed is on disk. Nothing to do is fine."""
        if not self.folder.is_dir():
            return
        with self._lock():
            pid = self.pid()
            if pid is None:
                return
            end(pid, self.process, politely=signal.SIGINT, after=30, firmly=signal.SIGQUIT)
            self.process = None

    def is_running(self) -> bool:
        """Whether it takes connections now."""
        command = [str(self._server.bin / "pg_isready"), "-q", "-t", "2", "-h", str(self.socket_dir)]
        return self.pid() is not None and subprocess.run(command, env=_ENVIRONMENT, check=False).returncode == 0

    def pid(self) -> int | None:
        """The process id of the running server, or None. A stale file whose id somebody else has now is None."""
        try:
            first = (self.data / "postmaster.pid").read_text().splitlines()[0]
            pid = int(first)
        except (OSError, IndexError, ValueError):
            return None
        return pid if is_alive(pid) and _looks_like_postgres(pid) else None

    @cached_property
    def version(self) -> int:
        """The major version of the server."""
        return self._server.major

    # -- who runs it, and from where

    @cached_property
    def _user(self) -> pwd.struct_passwd | None:
        """The user the server runs as when we are root (PostgreSQL refuses to be root); None: as ourselves."""
        if os.geteuid() != 0:
            return None
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(SYSTEM_USER)
        useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
        if useradd:
            shell = "/usr/sbin/nologin"
            command = [useradd, "--system", "--user-group", "--no-create-home", "--shell", shell, SYSTEM_USER]
            made = subprocess.run(command, check=False, capture_output=True, text=True)
            with contextlib.suppress(KeyError):
                user = pwd.getpwnam(SYSTEM_USER)
                if made.returncode == 0:
                    self.tell(f"Made the system user “{SYSTEM_USER}”: PostgreSQL does not run as root.")
                return user
        self.tell(f"Warning: no system user “{SYSTEM_USER}” and it cannot be made; PostgreSQL runs as “nobody”.")
        return pwd.getpwnam("nobody")

    @cached_property
    def _server(self) -> Binaries:
        found = find_binaries()
        if self._user is None or found.wheel_root is None:
            return found
        return reachable_copy(found, self.copies)

    # -- making it

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        paths.make_home(self.folder)
        with open(self.folder / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _prepare_folders(self) -> None:
        self._require_reachable()
        paths.make_home(self.socket_dir.parent)
        for folder in (self.data, self.socket_dir):
            folder.mkdir(mode=0o700, exist_ok=True)
            folder.chmod(0o700)
            if self._user is not None and folder.stat().st_uid != self._user.pw_uid:
                try:
                    os.chown(folder, self._user.pw_uid, self._user.pw_gid)
                except OSError:  # EPERM, or EINVAL for a user id that is not mapped
                    raise ServerUnavailable(_CANNOT_DROP_ROOT) from None
        if not self.log.exists():
            self.log.touch(mode=0o600)

    def _require_reachable(self) -> None:
        """As root: the system user must be able to pass every parent folder. We say so; we open nobody's folder."""
        if self._user is None:
            return
        for parent in self.folder.parents:
            if parent.is_dir() and not _may_pass(parent, self._user):
                raise ServerUnavailable(
                    f"PostgreSQL runs as “{self._user.pw_name}”, which cannot pass through {parent}: choose another "
                    "place with AGENTAUTH_HOME (as root, /var/lib/agentauth is a good one)"
                )

    def _initialise(self) -> None:
        marker = self.data / "PG_VERSION"
        if marker.exists():
            made_by = int(float(marker.read_text()))
            if made_by != self._server.major:
                raise ServerUnavailable(
                    f"the data in {self.data} was made by PostgreSQL {made_by}, the server here is "
                    f"{self._server.major}: install the matching server, or restore a backup into a new AGENTAUTH_HOME"
                )
            return
        for left_over in self.data.iterdir():  # an initdb that was interrupted; without PG_VERSION it holds no data
            shutil.rmtree(left_over) if left_over.is_dir() and not left_over.is_symlink() else left_over.unlink()
        # PG_VERSION is among the first files that initdb writes, so it works beside the folder and is moved when whole.
        half = self.data / "half"
        builtin = ["--locale-provider=builtin", "--locale=C.UTF-8"]  # no surprise when the system's libc changes
        locale = builtin if self._server.major >= 17 else ["--locale=C.UTF-8"]
        self._run(
            "initdb",
            *("-D", str(half), "-U", SUPERUSER, "--encoding=UTF8", *locale),
            *("--auth=peer", "--data-checksums", "--no-instructions", *([] if self.durable else ["--no-sync"])),
        )
        for made in sorted(half.iterdir(), key=lambda path: path.name == "PG_VERSION"):
            made.rename(self.data / made.name)
        half.rmdir()

    def _write_access_rules(self) -> None:
        """The socket lets in one operating-system user, ours, as any of our roles. No password exists anywhere."""
        me = pwd.getpwuid(os.geteuid()).pw_name
        rules = {
            "pg_hba.conf": "local all all peer map=agentauth\n",
            "pg_ident.conf": "".join(f'agentauth "{me}" {role}\n' for role in _ROLES),
        }
        changed = False
        for name, text in rules.items():
            path = self.data / name
            if not path.exists() or path.read_text() != text:
                path.write_text(text)
                changed = True
                if self._user is not None:
                    os.chown(path, self._user.pw_uid, self._user.pw_gid)
        pid = self.pid()
        if changed and pid is not None:
            os.kill(pid, signal.SIGHUP)

    # -- running it

    def _start(self, with_us: bool) -> None:
        """Start it and wait until it answers. Right after kill -9 its children may still be dying: try again."""
        give_up = time.monotonic() + _RETRY_LIMIT
        while True:
            self._reap_the_last_one()
            before = self.log.stat().st_size
            process = self._launch(with_us)
            deadline = time.monotonic() + _START_LIMIT
            while process.poll() is None:
                if self.is_running():
                    self.process = process
                    return
                if time.monotonic() > deadline:
                    process.send_signal(signal.SIGQUIT)
                    raise ServerUnavailable(f"PostgreSQL did not start in {_START_LIMIT:.0f} s; see {self.log}")
                time.sleep(0.02)
            said = self.log.read_bytes()[before:].decode(errors="replace")
            still_dying = "pre-existing shared memory" in said or "already exists" in said or "in use" in said
            if not still_dying or time.monotonic() > give_up:
                raise ServerUnavailable(f"PostgreSQL did not start; the end of {self.log} says:\n{said[-1500:]}")
            time.sleep(0.2)

    def _reap_the_last_one(self) -> None:
        """A server that this process started and that was killed stays a zombie, which PostgreSQL takes for alive."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            os.waitpid(int((self.data / "postmaster.pid").read_text().splitlines()[0]), os.WNOHANG)

    def _launch(self, with_us: bool) -> subprocess.Popen[bytes]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": '"{}"'.format(str(self.socket_dir).replace('"', '""')),
            "unix_socket_permissions": "0700",
            "cluster_name": "agentauth",
            "max_connections": "200",
            "shared_buffers": f"{_shared_buffers()}MB",
            "max_wal_size": "4GB",  # checkpoints by the clock, not by how much is written
            "min_wal_size": f"{write_ahead.BYTES // 2**20}MB",
            "log_timezone": "UTC",
            "timezone": "UTC",
        }
        if (self._server.bin.parent / "lib" / "pg_stat_statements.so").exists():
            settings["shared_preload_libraries"] = "pg_stat_statements"
        if not self.durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        command = [str(self._server.bin / "postgres"), "-D", str(self.data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        parent = os.getpid()
        with open(self.log, "ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=(lambda: die_with_parent(parent, signal.SIGINT)) if with_us else None,  # noqa: PLW1509  # one thread
                **self._as_user(),
            )

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._server.bin / program), *arguments]
        done = subprocess.run(command, check=False, capture_output=True, text=True, **self._as_user())
        if done.returncode != 0:
            raise ServerUnavailable(f"{program} failed: {done.stderr.strip()[-1500:]}")

    def _as_user(self) -> dict[str, Any]:
        settings: dict[str, Any] = {"cwd": "/", "env": _ENVIRONMENT}
        if self._user is not None:
            settings |= {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        return settings


def cluster() -> Cluster:
    """The cluster of this install."""
    return Cluster(paths.home() / "postgres", socket_dir=paths.postgres_socket_dir())


def ensure() -> None:
    """The install's PostgreSQL is up when this returns."""
    cluster().ensure()


def stop() -> None:
    """The install's PostgreSQL is down when this returns."""
    cluster().stop()


_CANNOT_DROP_ROOT = (
    "this root has only one user id (a rootless container), and PostgreSQL refuses to run as root: "
    "run AgentAuth as a normal user, or set DATABASE_URL"
)


def _looks_like_postgres(pid: int) -> bool:
    try:
        return b"postgres" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return not Path("/proc/self").exists()  # no /proc (macOS): believe the file


def _shared_buffers() -> int:
    """In MiB: an eighth of the memory that we may use, at most one GiB. What is not needed is not taken."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # no limit, or none that is told
        memory = min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return max(128, min(1024, memory // 8 // 2**20))


def _may_pass(folder: Path, user: pwd.struct_passwd) -> bool:
    found = folder.stat()
    if found.st_uid == user.pw_uid:
        return bool(found.st_mode & 0o100)
    if found.st_gid == user.pw_gid:
        return bool(found.st_mode & 0o010)
    return bool(found.st_mode & 0o001)
