"""What dies is started again, what does not listen is killed, and nobody outlives the supervisor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentauth.embedded.lifeline import is_alive
from agentauth.embedded.supervisor import Program, Supervisor
from tests.database import CHECKOUT

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
DEAF = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)",
]


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def supervisor(tmp_path: Path, said: list[str]) -> Iterator[Supervisor]:
    made = Supervisor(tmp_path, tell=said.append)
    yield made
    made.stop()


def test_what_is_killed_is_started_again_and_said_so(supervisor: Supervisor, said: list[str]) -> None:
    program = Program("door", SLEEP)
    supervisor.start(program)
    first = program.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    _until(lambda: program.pid not in (None, first), supervisor.tend)
    assert "door was killed (SIGKILL)" in said[0]


def test_killing_one_leaves_the_other_alone(supervisor: Supervisor) -> None:
    one, other = Program("gateway-1", SLEEP), Program("gateway-2", SLEEP)
    supervisor.start(one)
    supervisor.start(other)
    before = other.pid
    assert one.pid is not None
    os.kill(one.pid, signal.SIGKILL)
    _until(lambda: one.due_at is not None, supervisor.tend)
    assert other.pid == before


def test_what_dies_again_and_again_is_tried_less_and_less(supervisor: Supervisor, said: list[str]) -> None:
    program = Program("broken", [sys.executable, "-c", "raise SystemExit('no such table')"])
    supervisor.start(program)
    waits: list[float] = []
    while len(waits) < 3:
        if program.due_at is not None and len(said) > len(waits):
            waits.append(program.wait)
        supervisor.tend()
        time.sleep(0.01)
    assert waits == sorted(waits)
    assert waits[-1] > 2 * waits[0]
    assert "ended with code 1" in said[0]
    assert "no such table" in supervisor.last_words(program)


def test_what_does_not_listen_is_killed(supervisor: Supervisor) -> None:
    program = Program("deaf", DEAF, patience=0.3)
    supervisor.start(program)
    _until(lambda: "deaf" in supervisor.last_words(program))
    pid = program.pid
    assert pid is not None
    supervisor.stop()
    assert not is_alive(pid)


def test_nobody_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom agentauth.embedded.supervisor import Program, Supervisor\n"
        "supervisor = Supervisor(Path(sys.argv[1]), tell=print)\n"
        "for number in range(2):\n"
        "    program = Program(f'p{number}', [sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "    supervisor.start(program)\n    print(program.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT) as process:
        assert process.stdout is not None
        children = [int(process.stdout.readline()) for _ in range(2)]
        process.kill()
    _until(lambda: not any(map(is_alive, children)))


def _until(is_so: Callable[[], bool], meanwhile: Callable[[], None] = lambda: None) -> None:
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        meanwhile()
        time.sleep(0.02)
