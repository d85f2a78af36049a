"""`manage.py up`: everything that AgentAuth needs on one machine, until Ctrl-C."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from agentauth.embedded import machine, paths, ports
from agentauth.embedded.lifeline import ServerUnavailable
from agentauth.embedded.machine import Addresses, AlreadyRunning, Interrupted, Machine, NotReady
from agentauth.embedded.paths import UnsafeFolder
from agentauth.embedded.roles import RolesMissing


class Command(BaseCommand):
    help = "Starts the servers and all processes of AgentAuth on this machine; Ctrl-C stops them."
    requires_system_checks: list[str] = []  # a start must be quick

    def handle(self, *args: Any, **options: Any) -> None:
        begun = time.monotonic()
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a terminal that cannot show ✓ must not end the start
        addresses = Addresses(settings.KNOBS.base_url, settings.KNOBS.gateway_url)
        try:
            if settings.PRODUCTION:
                self.check(include_deployment_checks=True)
            claimed = ports.claim()
            with Machine(claimed, addresses, demo=not settings.PRODUCTION, tell=self._say) as running:
                for note in claimed.notes:
                    self._say(note)
                self._start(running, begun)
                running.run()
                self._say("\nStopping …")
            self._say("Stopped.")
        except Interrupted:
            self._say("Stopped.")
        except AlreadyRunning:
            raise CommandError(self._who_runs()) from None
        except RolesMissing as missing:
            raise CommandError(
                "the user of DATABASE_URL may not make the roles that AgentAuth needs. "
                f"An administrator must run this once in that database:\n\n{missing}"
            ) from None
        except (ServerUnavailable, NotReady, UnsafeFolder, ports.NoFreePort, ValueError) as problem:
            raise CommandError(str(problem)) from None

    def _start(self, running: Machine, begun: float) -> None:
        with self._step("PostgreSQL and Valkey" if running.postgres else "servers"):
            running.start_servers()
        with self._step("database roles"):
            running.ensure_roles()
        with self._step("tables") as detail:
            count = running.migrate(lambda done, total: detail(f"{done} of {total} migrations"))
            detail(f"{count} migrations" if count else "up to date")
        running.open_doors()  # they need a moment to come up; we use it
        if running.demo:
            with self._step("demo data"):
                running.seed()
        with self._step("console, gateway, sequencer, worker, clock"):
            running.start_background()
            running.await_ready()
        self._welcome(running, time.monotonic() - begun)

    def _welcome(self, running: Machine, seconds: float) -> None:
        lines = [
            "",
            f"AgentAuth runs (started in {seconds:.1f} s).",
            "",
            f"  Console   {running.addresses.base_url}",
            f"  Gateway   {running.addresses.gateway_url}",
            f"  Data      {paths.home()}",
            f"  Logs      {paths.logs_dir()}",
            "",
        ]
        if running.demo:
            lines += [*running.cast_lines(), ""]
        lines.append("Ctrl-C stops everything.")
        self._say("\n".join(lines))

    def _who_runs(self) -> str:
        state = machine.read_state()
        where = f": {state['base_url']} (process {state['pid']})" if state else "; it is just starting or stopping"
        return f"AgentAuth already runs on {paths.home()}{where}. For a second one set AGENTAUTH_HOME."

    @contextmanager
    def _step(self, what: str) -> Iterator[Callable[[str], None]]:
        """One line per step: what, how far, how long. On a terminal the line fills in as it goes."""
        begun = time.monotonic()
        terminal = sys.stdout.isatty()
        said = ""

        def detail(text: str) -> None:
            nonlocal said
            said = f" ({text})"
            if terminal:
                self.stdout.write(f"\r\033[K  … {what}{said}", ending="")
                self.stdout.flush()

        if terminal:
            self.stdout.write(f"  … {what}", ending="")
            self.stdout.flush()
        yield detail
        start = "\r\033[K" if terminal else ""
        self._say(f"{start}  ✓ {what}{said} {time.monotonic() - begun:.1f} s")

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()
