"""`manage.py move_issuer acme auth.acme.example`: a tenant's issuer gets a host of its own, or goes `--back`."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit.record import Actor
from tenants.issuer import issuer_at, move_issuer
from tenants.models import Tenant
from tenants.rls import in_tenant


class Command(BaseCommand):
    help = "Move a tenant's issuer to a host of its own. Tokens that name the former issuer are refused at once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("tenant", help="the tenant's name in addresses")
        parser.add_argument("host", nargs="?", default="", help="the host's name alone, such as auth.acme.example")
        parser.add_argument("--back", action="store_true", help="to its path under this installation's address")

    def handle(self, *args: Any, **options: Any) -> None:
        if bool(options["host"]) == options["back"]:
            raise CommandError("Name the host, or say --back.")
        tenant = Tenant.objects.filter(slug=options["tenant"]).first()
        if tenant is None:
            raise CommandError(f"There is no tenant {options['tenant']}.")
        try:
            with in_tenant(tenant.id):
                move_issuer(tenant, options["host"], by=Actor("operator", "manage.py move_issuer"))
        except ValidationError as wrong:
            raise CommandError(" ".join(wrong.messages)) from None
        self.stdout.write(f"{tenant.slug}: {issuer_at(tenant.slug, tenant.issuer_host)}")
