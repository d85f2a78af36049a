"""`manage.py verify FILE`: check an evidence bundle; the same check that every bundle brings with it."""

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit.checkpoint import NoLogKey, NoteError
from audit.identity import verifier
from audit.verify import verify


class Command(BaseCommand):
    help = "Check an evidence bundle offline. Ends with 1 and the first bad record when it does not hold."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("bundle", nargs="?", help="the zip file, or the folder it was unpacked to")
        parser.add_argument("--key", help="the verifier key that must have signed it; else the key in the bundle")
        parser.add_argument("--tenant", help="it must be signed with this installation's key for that tenant")
        parser.add_argument("--show-key", metavar="TENANT", help="print the verifier key of a tenant's log, to publish")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["show_key"]:
                self.stdout.write(verifier(options["show_key"]).vkey)
                return
            key = verifier(options["tenant"]).vkey if options["tenant"] else options["key"]
        except (NoLogKey, NoteError) as missing:
            raise CommandError(str(missing)) from missing
        if not options["bundle"]:
            raise CommandError("Say which bundle: manage.py verify FILE")
        found = verify(options["bundle"], key)
        self.stdout.write(str(found))
        if not found.ok:
            sys.exit(1)
