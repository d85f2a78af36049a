"""The processes that race: the programs of the stack, which can be told to be mutants and may be killed at any time.

Loaded once; who answers at a door is a fork of that, which begins with code and no memory. So one that is killed is
back at once, where a new interpreter takes seconds and the stack's supervisor waits longer each time.

python -m tests.races.beside web|gateway DESCRIPTOR...
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from typing import Any

from agentauth.embedded.lifeline import die_with_parent
from agentauth.embedded.serving import raise_limits, serve


def main(what: str, descriptors: list[int]) -> None:
    """A process for each listening socket, and another in the place of each that is killed."""
    application: Any
    raise_limits()
    if what == "web":
        from agentauth.web.application import application
    else:
        from agentauth.asgi import application
    assert threading.active_count() == 1, "a fork has only the thread that made it"
    children = {_born(application, descriptor): descriptor for descriptor in descriptors}
    while True:
        pid, status = os.wait()
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            sys.exit(f"{pid} ended by itself with {status}")
        descriptor = children.pop(pid)
        children[_born(application, descriptor)] = descriptor


def _born(application: Any, descriptor: int) -> int:
    parent = os.getpid()
    pid = os.fork()
    if not pid:
        die_with_parent(parent)
        told = (Quick if hasattr(application, "at_once") else Told)(application)
        serve(told, fd=descriptor, timeout_graceful_shutdown=1)
        os._exit(0)
    return pid


class Told:
    """The application, which also says which process it is, and lets itself be changed or be silenced."""

    def __init__(self, application: Any) -> None:
        from tests.races.mutants import MUTANTS

        self._application, self._mutants = application, MUTANTS
        self._cure, self._silent = MUTANTS[""](), False

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        async def say(message: dict[str, Any]) -> None:
            if self._silent:
                await asyncio.sleep(3600)
            await send(message)

        if scope["type"] != "http" or not scope["path"].startswith("/-"):
            await self._application(scope, receive, say)
            return
        _, what, value = scope["path"].split("/")
        if what == "-mutant":
            self._cure()
            self._cure = self._mutants[value]()
        self._silent = what == "-silent"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(os.getpid()).encode()})


class Quick(Told):
    """The same of one with a short way, which is shut while nothing may be told."""

    def takes(self, *request: Any) -> bool:
        return not self._silent and bool(self._application.takes(*request))

    def at_once(self, *request: Any) -> Any:
        return self._application.at_once(*request)


if __name__ == "__main__":
    main(sys.argv[1], [int(one) for one in sys.argv[2:]])
