"""Processes that must not outlive whoever started them, and what is said when a server cannot run here."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


class ServerUnavailable(Exception):
    """An embedded server cannot run here; the text says what to do."""


def die_with_parent(parent: int, with_signal: signal.Signals = signal.SIGKILL) -> None:
    """In a new child, before exec: have the kernel send `with_signal` when the parent dies. Linux only; else no-op."""
    if sys.platform != "linux":
        return
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG
    ctypes.CDLL(None).prctl(set_parent_death_signal, int(with_signal), 0, 0, 0)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)


def is_alive(pid: int) -> bool:
    """Whether a process with this id runs. One that has ended and only waits to be reaped does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


def end(
    pid: int,
    process: subprocess.Popen[bytes] | None,
    *,
    politely: signal.Signals,
    after: float,
    firmly: signal.Signals,
) -> None:
    """Ask it to stop, and tell it to every `after` seconds; back when it is gone. `process`: where it is our child."""
    deadline = time.monotonic() + after
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, politely)
        while is_alive(pid):
            if process is not None:
                process.poll()  # reaps it, else it stays as a zombie of ours
            if time.monotonic() > deadline:
                os.kill(pid, firmly)
                deadline += after
            time.sleep(0.01)
