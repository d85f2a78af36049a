"""Which processes make up a running AgentAuth, in the order in which they start."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from agentauth.embedded import paths
from agentauth.embedded.ports import Ports
from agentauth.embedded.supervisor import Program

_CHECKOUT = Path(__file__).resolve().parent.parent.parent
_PATIENCE_WITH_TASKS = 12.0


def doors(ports: Ports) -> list[Program]:
    """What answers people and agents: the console and the gateway's workers, who share one listening socket."""
    web = _python("web", "-m", "agentauth.embedded.web", "--host", ports.host, "--port", str(ports.web))
    descriptor = ports.gateway_socket.fileno()
    gateways = [
        _python(f"gateway-{number}", "-m", "agentauth.embedded.gateway", "--fd", str(descriptor))
        for number in range(1, gateway_workers() + 1)
    ]
    for gateway in gateways:
        gateway.pass_fds = (descriptor,)
    return [web, *gateways]


def background() -> list[Program]:
    """What nobody waits for: the record's order, the queue and its clock."""
    schedule = paths.private_dir(paths.home() / "beat") / "schedule"
    worker = _python(
        "worker",
        *("-m", "celery", "-A", "agentauth", "worker", "--pool", "threads", "--concurrency", "2"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING"),
    )
    worker.patience = _PATIENCE_WITH_TASKS
    beat = _python(
        "beat",
        *("-m", "celery", "-A", "agentauth", "beat", "--schedule", str(schedule), "--pidfile", ""),
        *("--loglevel", "WARNING"),
    )
    return [_python("sequencer", str(_CHECKOUT / "manage.py"), "sequencer"), worker, beat]


def office(ports: Ports) -> Program:
    """The demo's upstream."""
    return _python("office", "-m", "agentauth.embedded.office", "--port", str(ports.office))


def gateway_workers() -> int:
    """How many processes guard the gateway's port."""
    text = os.environ.get("AGENTAUTH_GATEWAY_WORKERS") or "2"
    if not text.isdecimal() or not 1 <= int(text) <= 64:
        raise ValueError(f"AGENTAUTH_GATEWAY_WORKERS={text}: set a number from 1 to 64")
    return int(text)


def _python(name: str, *arguments: str) -> Program:
    environ = {
        "DJANGO_SETTINGS_MODULE": "agentauth.settings",
        "PYTHONPATH": _python_path(),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "",  # compiling everything anew in each process would triple a start
    }
    return Program(name, [sys.executable, *arguments], environ)


def _python_path() -> str:
    """The checkout first, whatever folder we were started from."""
    before = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(_CHECKOUT), *([before] if before else [])])
