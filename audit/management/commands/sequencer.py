"""`manage.py sequencer`: put the record in order, for as long as it runs."""

import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from audit import sequencer


class Command(BaseCommand):
    help = "Give every event its place and sign the record. Start two if you like: one leads, the other stands by."
    requires_system_checks = []  # the database may come up after us

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="place all that waits, then end")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["once"]:
            self.stdout.write(f"{sequencer.drain()} events placed")
            return
        stop = threading.Event()
        for wanted in (signal.SIGTERM, signal.SIGINT):
            signal.signal(wanted, lambda *_: stop.set())
        sequencer.run(stop)
