"""Keeps a set of programs running: starts them, restarts what dies, stops all of them in order.

Every child is told by the kernel to die with us, so killing the supervisor leaves nothing behind. All calls must come
from one thread: the kernel watches the thread that started the child.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agentauth.embedded.lifeline import die_with_parent

_FIRST_WAIT = 0.1
_LONGEST_WAIT = 30.0
_STEADY_AFTER = 20.0
_BIGGEST_LOG = 10 * 1024 * 1024


@dataclass
class Program:
    """One process to keep running."""

    name: str
    command: Sequence[str]
    environ: Mapping[str, str] = field(default_factory=dict)
    pass_fds: Sequence[int] = ()
    patience: float = 8.0  # seconds between the polite request to stop and the other one
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    wait: float = _FIRST_WAIT
    due_at: float | None = None  # when to start it again

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None and self.process.poll() is None else None


class Supervisor:
    """`start` programs, call `tend` a few times a second, `stop` them."""

    def __init__(self, logs: Path, *, tell: Callable[[str], None], changed: Callable[[], None] = lambda: None) -> None:
        self.logs = logs
        self.programs: list[Program] = []
        self._tell = tell
        self._changed = changed

    def start(self, program: Program) -> None:
        """Start it, and keep it running from now on."""
        self.programs.append(program)
        log = self.log_of(program)
        if log.exists() and log.stat().st_size > _BIGGEST_LOG:
            log.replace(log.with_suffix(".old.log"))
        self._launch(program)

    def tend(self) -> None:
        """Restart what has died. A program that dies again and again is tried less and less often."""
        now = time.monotonic()
        for program in self.programs:
            if program.process is not None and program.process.poll() is not None:
                self._bury(program, now)
            elif program.due_at is not None and now >= program.due_at:
                self._launch(program)
            elif program.wait > _FIRST_WAIT and program.due_at is None and now - program.started_at > _STEADY_AFTER:
                program.wait = _FIRST_WAIT

    def stop(self) -> None:
        """End all of them; whoever does not listen is killed."""
        self.stop_these(*(program.name for program in self.programs))

    def stop_these(self, *names: str) -> None:
        """End some programs for good, all at the same time."""
        ending = [program for program in self.programs if program.name in names]
        for program in ending:
            if program.pid is not None:
                _signal(program, signal.SIGTERM)
        for program in ending:
            self._await_end(program)
            self.programs.remove(program)

    def log_of(self, program: Program) -> Path:
        return self.logs / f"{program.name}.log"

    def last_words(self, program: Program, lines: int = 12) -> str:
        """The end of its log."""
        try:
            with open(self.log_of(program), "rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - 8192))
                return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def _launch(self, program: Program) -> None:
        parent = os.getpid()
        with open(self.log_of(program), "ab") as log:
            program.process = subprocess.Popen(
                list(program.command),
                env={**os.environ, **program.environ},
                pass_fds=tuple(program.pass_fds),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches us only; we stop the others in order
                preexec_fn=lambda: die_with_parent(parent),  # noqa: PLW1509  # we have one thread
            )
        program.started_at = time.monotonic()
        program.due_at = None
        self._changed()

    def _bury(self, program: Program, now: float) -> None:
        assert program.process is not None
        code = program.process.returncode
        how = f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with code {code}"
        _signal(program, signal.SIGKILL)  # whatever is left of its group
        program.process = None
        program.due_at = now + program.wait
        when = "now" if program.wait < 1 else f"in {program.wait:.0f} s"
        self._tell(f"{program.name} {how}; starting it again {when}. Log: {self.log_of(program)}")
        program.wait = min(program.wait * 3, _LONGEST_WAIT)

    def _await_end(self, program: Program) -> None:
        if program.process is None:
            return
        try:
            program.process.wait(program.patience)
        except subprocess.TimeoutExpired:
            _signal(program, signal.SIGKILL)
            program.process.wait()
        _signal(program, signal.SIGKILL)
        program.process = None


def _signal(program: Program, number: signal.Signals) -> None:
    """To the program's whole group for the last word, to the program alone for a polite one."""
    assert program.process is not None
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if number == signal.SIGKILL:
            os.killpg(program.process.pid, number)
        else:
            program.process.send_signal(number)
