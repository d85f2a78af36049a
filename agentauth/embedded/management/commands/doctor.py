"""`manage.py doctor`: is this install well, and if not, which command mends it?"""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from agentauth.embedded.examine import examine


class Command(BaseCommand):
    help = "Examines this install; each line says ok or wrong, with the command that mends it. Exits 1 if one is wrong."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="for programs: a list of findings")

    def handle(self, *args: Any, **options: Any) -> None:
        findings = list(examine())
        if options["json"]:
            self.stdout.write(json.dumps([finding.as_dict() for finding in findings], indent=2))
        else:
            for finding in findings:
                self.stdout.write(f"{'ok   ' if finding.ok else 'WRONG'}  {finding.name:<18}  {finding.text}")
                if not finding.ok:
                    self.stdout.write(f"{'':27}→ {finding.remedy}")
        if not all(finding.ok for finding in findings):
            sys.exit(1)
