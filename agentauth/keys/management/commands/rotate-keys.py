"""`manage.py rotate-keys [TENANT …]`: a new signing key each; the old ones verify for another day and sign no more."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from agentauth.keys.signing import rotate
from audit.record import Actor
from tenants.models import Tenant
from tenants.rls import in_tenant


class Command(BaseCommand):
    help = "Make a new signing key for the named tenants, or for all with --all."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("tenants", nargs="*", help="tenants' names in their addresses")
        parser.add_argument("--all", action="store_true", help="every tenant")

    def handle(self, *args: Any, **options: Any) -> None:
        names: list[str] = options["tenants"]
        if bool(names) == options["all"]:
            raise CommandError("Name the tenants, or say --all.")
        tenants = Tenant.objects.order_by("slug") if options["all"] else Tenant.objects.filter(slug__in=names)
        missing = set(names) - {tenant.slug for tenant in tenants}
        if missing:
            raise CommandError(f"There is no tenant {', '.join(sorted(missing))}.")
        for tenant in tenants:
            with in_tenant(tenant.id):
                key = rotate(tenant.id, by=Actor("operator", "rotate-keys"))
            self.stdout.write(f"{tenant.slug}: signs with {key.kid}")
