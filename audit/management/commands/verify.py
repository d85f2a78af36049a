"""`manage.py verify FILE`: check an evidence bundle; the same check that every bundle brings with it."""

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit.checkpoint import NoLogKey, NoteError, Verifier
from audit.identity import signing_key, verifier
from audit.verify import Findings, verify


class Command(BaseCommand):
    help = "Check an evidence bundle offline. Ends with 1 and the first bad record when it does not hold."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("bundle", nargs="?", help="the zip file, or the folder it was unpacked to")
        parser.add_argument("--key", help="the verifier key that must have signed it; else the key in the bundle")
        parser.add_argument("--tenant", help="it must be of that tenant's log, signed with this installation's key")
        parser.add_argument("--show-key", metavar="TENANT", help="print the verifier key of a tenant's log, to publish")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["show_key"]:
                self.stdout.write(verifier(options["show_key"]).vkey)
                return
            if not options["bundle"]:
                raise CommandError("Say which bundle: manage.py verify FILE")
            path = Path(options["bundle"])
            key = _own_key(path, options["tenant"]) if options["tenant"] else options["key"]
        except (NoLogKey, NoteError) as missing:
            raise CommandError(str(missing)) from missing
        found = verify(path, key)
        self.stdout.write(str(found))
        if found.ok and key is None:
            self.stdout.write(_whose(found))
        if not found.ok:
            sys.exit(1)


def _own_key(bundle: Path, tenant: str) -> str:
    """This installation's key for that tenant's log, under the address it had when the bundle was made."""
    try:
        claimed = Verifier.parse(_claimed(bundle))
    except (NoteError, ValueError, KeyError, TypeError, OSError, zipfile.BadZipFile):
        return verifier(tenant).vkey
    named = claimed.name.endswith(f"/t/{tenant}")
    return signing_key().verifier(claimed.name).vkey if named else verifier(tenant).vkey


def _claimed(bundle: Path) -> str:
    if bundle.is_dir():
        manifest = (bundle / "manifest.json").read_bytes()
    else:
        with zipfile.ZipFile(bundle) as opened, opened.open("manifest.json") as file:
            manifest = file.read(1 << 20)
    return str(json.loads(manifest)["vkey"])


def _whose(found: Findings) -> str:
    try:
        ours = signing_key().verifier(found.origin).vkey == found.vkey
    except (NoLogKey, NoteError):
        ours = False
    return "It is this installation's key." if ours else "It is not this installation's key."
