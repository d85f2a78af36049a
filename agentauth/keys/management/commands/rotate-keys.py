"""`manage.py rotate-keys`: new signing keys for tenants, or a new key for the ring that seals secrets at rest."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from agentauth.keys import resealing, ring
from agentauth.keys.rotating import distrust, rotate
from audit.record import Actor
from tenants.models import Tenant
from tenants.rls import in_tenant

OPERATOR = Actor("operator", "rotate-keys")


class Command(BaseCommand):
    help = "Make a new signing key for the named tenants, or for all with --all; with --ring, a new key for the ring."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("tenants", nargs="*", help="tenants' names in their addresses")
        parser.add_argument("--all", action="store_true", help="every tenant")
        parser.add_argument("--distrust", action="store_true", help="end every token of the former keys at once")
        parser.add_argument("--ring", action="store_true", help="a new key for the ring; seal everything anew under it")
        parser.add_argument("--reseal", action="store_true", help="go on sealing anew after --ring was interrupted")
        parser.add_argument("--forget", action="store_true", help="then take the former keys off the ring")
        parser.add_argument("--new-ring", action="store_true", help="the ring is lost for good: begin another")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["new_ring"]:
                ring.make()
            if options["ring"] or options["reseal"] or options["forget"]:
                self._ring(options)
            elif options["tenants"] or options["all"]:
                self._signing_keys(options["tenants"], options["all"], options["distrust"])
            elif not options["new_ring"]:
                raise CommandError("Name the tenants, or say --all, or --ring for what seals secrets at rest.")
        except ring.RingError as wrong:
            raise CommandError(f"{wrong}. See docs/operator.md, “The key ring”.") from None

    def _signing_keys(self, names: list[str], everyone: bool, at_once: bool) -> None:
        if names and everyone:
            raise CommandError("Name the tenants, or say --all.")
        tenants = Tenant.objects.order_by("slug") if everyone else Tenant.objects.filter(slug__in=names)
        missing = set(names) - {tenant.slug for tenant in tenants}
        if missing:
            raise CommandError(f"There is no tenant {', '.join(sorted(missing))}.")
        for tenant in tenants:
            with in_tenant(tenant.id):
                ended = distrust(tenant.id, by=OPERATOR) if at_once else None
                key = None if at_once else rotate(tenant.id, by=OPERATOR)
            said = f"{ended.tokens} tokens ended" if ended else f"signs with {key.kid if key else ''}"
            self.stdout.write(f"{tenant.slug}: {said}")

    def _ring(self, options: dict[str, Any]) -> None:
        if options["ring"]:
            self.stdout.write(f"The ring seals with {resealing.add_key()} from now on.")
        lost = 0
        if options["ring"] or options["reseal"]:
            for one in resealing.reseal(by=OPERATOR):
                lost += one.lost
                more = f", {one.lost} could not be opened" if one.lost else ""
                self.stdout.write(f"{one.tenant.slug}: {one.done} sealed anew{more}")
        if lost:
            raise CommandError(f"{lost} could not be opened: their key is not on the ring.")
        if options["forget"]:
            forgotten = resealing.forget_former()
            self.stdout.write(f"Off the ring: {', '.join(forgotten) or 'nothing'}.")
