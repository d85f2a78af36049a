"""The ports of a one-machine install, chosen before Django reads its settings, so that every process hears of them.

Standard library only. What an operator has set wins; a busy port gives way to the next free one, said aloud.
"""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass

_TRIES = 200
_LOOPBACK = "127.0.0.1"
_NAMES = {"web": "the console", "gateway": "the gateway", "office": "the demo's office"}


class NoFreePort(Exception):
    """None of the ports in reach is free, or we may not use the one that was asked for."""


@dataclass(frozen=True)
class Ports:
    """What the processes listen on. The gateway's socket is open already and shared by its workers."""

    host: str
    web: int
    gateway: int
    office: int  # 0 in production, which has none
    gateway_socket: socket.socket
    notes: tuple[str, ...] = ()  # what the operator should hear about them


_claimed: Ports | None = None


def claim() -> Ports:
    """Choose the ports once, and put the addresses that follow from them into the environment."""
    global _claimed
    if _claimed is None:
        host = os.environ.get("AGENTAUTH_BIND", "127.0.0.1")
        wanted = {"web": _wanted("PORT", 8000), "gateway": _wanted("GATEWAY_PORT", 8001)}
        if os.environ.get("AGENTAUTH_MODE") != "production":
            wanted["office"] = _wanted("OFFICE_PORT", 8002)
        sockets: dict[str, socket.socket] = {}
        got: dict[str, int] = {}
        notes: list[str] = []
        for name, first in wanted.items():
            spoken_for = {port for other, port in wanted.items() if other != name} | set(got.values())
            sockets[name], got[name] = _listen(_LOOPBACK if name == "office" else host, first, spoken_for)
            if got[name] != first:
                notes.append(f"Port {first} is busy: {_NAMES[name]} takes {got[name]}.")
        for name in sockets.keys() - {"gateway"}:  # these bind by themselves
            sockets[name].close()
        os.environ.setdefault("AGENTAUTH_BASE_URL", f"http://localhost:{got['web']}")
        os.environ.setdefault("AGENTAUTH_GATEWAY_URL", f"http://localhost:{got['gateway']}")
        if "office" in got:
            os.environ.setdefault("AGENTAUTH_OFFICE_URL", f"http://{_LOOPBACK}:{got['office']}")
        _claimed = Ports(host, got["web"], got["gateway"], got.get("office", 0), sockets["gateway"], tuple(notes))
    return _claimed


def _wanted(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise NoFreePort(f"{name}={text} is not a port: set a number from 1 to 65535")
    return int(text)


def _listen(host: str, first: int, avoid: set[int]) -> tuple[socket.socket, int]:
    """A listening socket at `first`, or at the next port that is free and not wanted by another of ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in range(first, min(first + _TRIES, 65536)):
        if port != first and port in avoid:
            continue
        candidate = socket.socket(family, socket.SOCK_STREAM)
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind((host, port))
            candidate.listen(2048)
        except OSError as problem:
            candidate.close()
            if problem.errno == errno.EADDRINUSE:
                continue
            if problem.errno == errno.EACCES:
                raise NoFreePort(f"port {port} needs root: set PORT and GATEWAY_PORT to 1024 or more") from problem
            raise NoFreePort(f"cannot listen at {host}: {problem.strerror}; check AGENTAUTH_BIND") from problem
        return candidate, port
    raise NoFreePort(f"no port is free from {first} on: set PORT and GATEWAY_PORT")
