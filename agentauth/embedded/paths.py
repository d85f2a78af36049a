"""Where a one-machine install keeps its things. Standard library only: settings.py imports this first."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path

# The three database roles: who owns the tables, who serves requests, who puts the record in order.
OWNER_ROLE = "agentauth_owner"
APP_ROLE = "agentauth_app"
SEQUENCER_ROLE = "agentauth_sequencer"
DATABASE = "agentauth"

# sockaddr_un holds 108 bytes on Linux and 104 on macOS, the last one a NUL. The longest name we put behind the
# runtime folder is PostgreSQL's.
_LONGEST_SOCKET = "/pg/.s.PGSQL.5432"
_SOCKET_PATH_LIMIT = 103
_MISREAD = set(",'\"\\@")  # in a connection's `host` libpq takes a comma for a list, the others for quoting and more


class UnsafeFolder(Exception):
    """A folder that must be ours belongs to somebody else, or is not a folder."""


def home() -> Path:
    """The folder that holds everything this install owns: data, secrets, logs. Never inside the checkout."""
    chosen = os.environ.get("AGENTAUTH_HOME")
    if chosen:
        return Path(chosen).expanduser().absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/agentauth")
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "agentauth"


def runtime_dir() -> Path:
    """Where the sockets are: `home()/run`, or a short folder under /tmp when that path does not suit a socket."""
    return runtime_dir_of(home())


def runtime_dir_of(folder: Path) -> Path:
    """The runtime folder that belongs to `folder`; the same answer for every process, whatever its TMPDIR."""
    wanted = folder / "run"
    fits = len(os.fsencode(f"{wanted}{_LONGEST_SOCKET}")) <= _SOCKET_PATH_LIMIT
    if fits and not set(str(wanted)) & _MISREAD:
        return wanted
    short = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    # Not gettempdir() first: every process must find the same folder, whatever its TMPDIR.
    shared = Path("/tmp") if Path("/tmp").is_dir() else Path(tempfile.gettempdir())  # noqa: S108  # checked below
    fallback = shared / f"agentauth-{short}"
    if fallback.is_symlink() or fallback.exists():
        _require_ours(fallback)  # anybody may write to /tmp, so somebody may have been there before us
    return fallback


def postgres_socket_dir() -> Path:
    """The folder with PostgreSQL's socket: what goes into a connection's `host`."""
    return runtime_dir() / "pg"


def valkey_socket() -> Path:
    """The socket of the embedded Valkey."""
    return runtime_dir() / "valkey.sock"


def secrets_dir() -> Path:
    """The folder for secret files, made with mode 0700 when it is not there yet."""
    return private_dir(home() / "secrets")


def logs_dir() -> Path:
    """The folder for the log of each process, made when it is not there yet."""
    return private_dir(home() / "logs")


def private_dir(folder: Path) -> Path:
    """`folder`, made with mode 0700 and ours; its parents up to home() come with it."""
    make_home(folder.parent)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        _require_ours(folder)
        if stat.S_IMODE(folder.stat().st_mode) & 0o077:
            folder.chmod(0o700)
    return folder


def make_home(folder: Path | None = None) -> Path:
    """Make `folder` (home() unless told) and check that it is ours.

    As root it can be passed through by the system user that PostgreSQL runs as (0711); otherwise it is private (0700).
    """
    folder = folder or home()
    mode = 0o711 if os.geteuid() == 0 else 0o700
    if not folder.is_dir():
        if home() in folder.parents:
            make_home(folder.parent)
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=mode, exist_ok=True)
        folder.chmod(mode)  # whatever the umask took away
    _require_ours(folder)
    return folder


def make_runtime_dir(folder: Path) -> Path:
    """Make the runtime folder of `folder` and check that nobody else owns it."""
    return make_home(runtime_dir_of(folder))


def _require_ours(folder: Path) -> None:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise UnsafeFolder(f"{folder} is not a folder; remove it or choose another place with AGENTAUTH_HOME")
    if found.st_uid != os.geteuid():
        raise UnsafeFolder(
            f"{folder} belongs to user id {found.st_uid}, not to us ({os.geteuid()}); "
            "remove it or choose another place with AGENTAUTH_HOME"
        )
