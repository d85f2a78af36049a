"""The full measure: every kind, many races, on a stack of its own; prints a table and what is wrong.

From the checkout:

    python -m tests.races --races 500 --callers 12 --kill 5
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import tests.conftest  # noqa: F401  # a home of our own, and Django
from tests.database import TestServer
from tests.races.harness import Verdict, run
from tests.races.kinds import KINDS
from tests.races.scene import Scene
from tests.stack import Stack


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.races", description=__doc__)
    parser.add_argument("--races", type=int, default=500, help="of each kind")
    parser.add_argument("--callers", type=int, default=12, help="with each artefact")
    parser.add_argument("--at-once", type=int, default=4, help="artefacts in one moment")
    parser.add_argument("--kill", type=int, default=0, metavar="N", help="kill -9 a process in each Nth moment")
    parser.add_argument("--seed", type=int, default=1, help="of when it is killed and who goes first")
    parser.add_argument("--into", type=Path, help="a folder for what came out, a JSON file for each kind")
    parser.add_argument("kinds", nargs="*", help=f"of {', '.join(KINDS)}; none: all")
    asked = parser.parse_args()
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    server = TestServer()
    stack = Stack(server, server.new_database(_migrate(server)))
    print(f"| {'what counts once':<26} | races | callers | kills | successes | answers | wrong | s |")
    print("|---|---|---|---|---|---|---|---|")
    wrong: list[str] = []
    try:
        stack.start()
        with Scene(stack) as scene, _words_of(scene):
            for name in asked.kinds or KINDS:
                verdict = run(
                    scene,
                    KINDS[name](scene),
                    races=asked.races,
                    callers=asked.callers,
                    at_once=asked.at_once,
                    kill_every=asked.kill,
                    seed=asked.seed,
                )
                print(_row(verdict, asked.callers), flush=True)
                if asked.into:
                    (asked.into / f"{name}.json").write_text(json.dumps(vars(verdict), indent=1))
                wrong += verdict.findings
            wrong += scene.tracebacks()
    finally:
        stack.stop()
        server.close()
    print("\n".join(["", *wrong]) if wrong else "\nNothing is wrong.")
    return 1 if wrong else 0


@contextmanager
def _words_of(scene: Scene) -> Iterator[None]:
    """Who fails to set the scene wants to read what the processes say about it."""
    try:
        yield
    except Exception:
        print("\n\n".join(scene.tracebacks()), file=sys.stderr)
        raise


def _row(verdict: Verdict, callers: int) -> str:
    answers = ", ".join(f"{count:,} × {status}" for status, count in sorted(verdict.statuses.items()))
    cells = [f"{verdict.name:<26}", verdict.races, callers, verdict.kills, verdict.won, answers]
    cells += [len(verdict.findings), f"{verdict.seconds:.0f}"]
    return f"| {' | '.join(map(str, cells))} |"


def _migrate(server: TestServer) -> Callable[[str], None]:
    def migrate(name: str) -> None:
        from django.conf import settings
        from django.core.management import call_command
        from django.db import connections

        from tests.database import ALIASES

        for alias, role in ALIASES.items():
            settings.DATABASES[alias].update(NAME=name, USER=role, HOST=str(server.cluster.socket_dir))
        call_command("migrate", database="owner", verbosity=0, interactive=False)
        connections["owner"].close()

    return migrate


if __name__ == "__main__":
    sys.exit(main())
