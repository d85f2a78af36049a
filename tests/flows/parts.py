"""Servers that nobody here wrote: Kinto (REST, from PyPI) and the reference MCP server (from npm)."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from agentauth.embedded.lifeline import die_with_parent

NODE_MODULES = Path(__file__).resolve().parent.parent / "node" / "node_modules"
_PATIENCE = 30.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def kinto(folder: Path) -> Iterator[str]:
    """Kinto with its memory store. Yields the base address of its API; an OpenAPI document is at `/__api__`."""
    port = free_port()
    ini = folder / "kinto.ini"
    program = [str(Path(sys.executable).with_name("kinto"))]
    made = [*program, "init", "--ini", str(ini), "--backend", "memory", "--cache-backend", "memory"]
    subprocess.run(made, check=True, capture_output=True, cwd=folder)
    rights = ini.read_text().replace("account:admin", "account:gateway")  # what the console's admin types in
    ini.write_text(rights.replace("[app:main]", "[app:main]\nkinto.bucket_read_principals = account:gateway", 1))
    with _running([*program, "start", "--ini", str(ini), "--port", str(port)], folder, "kinto"):
        address = f"http://127.0.0.1:{port}/v1"
        _wait_for(f"{address}/__heartbeat__")
        yield address


@contextmanager
def everything(node: str, folder: Path) -> Iterator[str]:
    """The reference MCP server over streamable HTTP. Yields its endpoint."""
    port = free_port()
    script = NODE_MODULES / "@modelcontextprotocol" / "server-everything" / "dist" / "index.js"
    with _running([node, str(script), "streamableHttp"], folder, "everything", {"PORT": str(port)}):
        _wait_for(f"http://127.0.0.1:{port}/mcp")
        yield f"http://127.0.0.1:{port}/mcp"


@contextmanager
def _running(command: list[str], folder: Path, name: str, environ: dict[str, str] | None = None) -> Iterator[None]:
    parent = os.getpid()
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            cwd=folder,
            env={**os.environ, **(environ or {})},
            preexec_fn=lambda: die_with_parent(parent),  # noqa: PLW1509  # one thread
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(url: str) -> None:
    """Until something answers at all."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            httpx2.get(url, timeout=2)
        except httpx2.HTTPError:
            assert time.monotonic() < deadline, f"nothing answers at {url}"
            time.sleep(0.1)
        else:
            return
