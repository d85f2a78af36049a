"""A program in Node that the test talks with: it is asked for acts, and may send the person to a browser in between."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agentauth.embedded.lifeline import die_with_parent

SCRIPTS = Path(__file__).resolve().parent.parent / "node"

Browse = Callable[[str], str]  # from the address that a client opens to the one where the browser ends up


class Problem(Exception):
    """The program could not do it. `code` is the protocol's word, where there is one."""

    def __init__(self, said: dict[str, Any]) -> None:
        super().__init__(f"{said['name']} {said['code']}: {said['message']}")
        self.code = str(said["code"])


class NodeProgram:
    def __init__(self, process: subprocess.Popen[str], browse: Browse) -> None:
        self._process, self._browse = process, browse

    def ask(self, act: str, **wanted: Any) -> Any:
        """What the program answers to `act`. Raises Problem."""
        self._say({"act": act, **wanted})
        while True:
            heard = self._hear()
            if "open" in heard:
                self._say({"landed": self._browse(heard["open"])})
            elif "problem" in heard:
                raise Problem(heard["problem"])
            else:
                return heard["answer"]

    def _say(self, value: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(value) + "\n")
        self._process.stdin.flush()

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the program has ended with {self._process.wait()}; its last words are above"
        heard: dict[str, Any] = json.loads(line)
        return heard


@contextmanager
def node_program(node: str, script: str, browse: Browse, **told: Any) -> Iterator[NodeProgram]:
    """Started with what it is told, ended at the end."""
    parent = os.getpid()
    process = subprocess.Popen(
        [node, str(SCRIPTS / script), json.dumps(told)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: die_with_parent(parent),  # noqa: PLW1509  # one thread
    )
    try:
        yield NodeProgram(process, browse)
    finally:
        process.kill()
        process.communicate()
