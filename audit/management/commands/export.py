"""`manage.py export`: order an export, do it here and now, and put the bundle where it is wanted."""

import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit.export.requesting import NoBundle, NotExportable, open_bundle, request_export
from audit.export.running import run_export
from audit.models import Export
from tenants.rls import in_tenant


class Command(BaseCommand):
    help = "Export events of a tenant as an evidence bundle."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("tenant", help="the tenant's short name, such as acme")
        parser.add_argument("--by", required=True, metavar="EMAIL", help="the member in whose name; it is recorded")
        parser.add_argument("--since", required=True, type=_moment, help="such as 2026-11-01 or 2026-11-01T08:00, UTC")
        parser.add_argument("--until", type=_moment, default=None, help="not included; now unless told")
        parser.add_argument("--query", default="", help="as in the record's search; everything unless told")
        parser.add_argument("--format", default=Export.Format.JSONL, choices=Export.Format.values)
        parser.add_argument("--out", required=True, type=Path, help="the zip file to write")

    def handle(self, *args: Any, **options: Any) -> None:
        tenant = apps.get_model("tenants", "Tenant").objects.filter(slug=options["tenant"]).first()
        if tenant is None:
            raise CommandError(f"There is no tenant {options['tenant']!r}.")
        with in_tenant(tenant.id):
            people = apps.get_model("tenants", "Member").objects.filter(tenant=tenant, deactivated_at=None)
            member = people.filter(user__email__iexact=options["by"]).first()
            if member is None or not member.may_audit:
                raise CommandError(f"{options['by']} is nobody who may export the record of {tenant.slug}.")
            try:
                export = request_export(
                    tenant,
                    by=member,
                    since=options["since"],
                    until=options["until"] or datetime.now(UTC),
                    query=options["query"],
                    format=options["format"],
                )
            except NotExportable as wrong:
                raise CommandError(f"{wrong.field}: {wrong}") from wrong
        run_export(export.id, tenant.id)
        with in_tenant(tenant.id):
            export = _when_over(export)
            try:
                shutil.copyfile(open_bundle(export, by=member), options["out"])
            except (NoBundle, OSError) as wrong:
                raise CommandError(export.failure or str(wrong)) from wrong
        self.stdout.write(f"{export.rows_done} records in {options['out']}, SHA-256 {export.sha256}")


def _when_over(export: Export) -> Export:
    """A worker may have taken the order before us."""
    while True:
        export.refresh_from_db()
        if export.is_over:
            return export
        time.sleep(0.2)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
