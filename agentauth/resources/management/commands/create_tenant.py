"""`manage.py create_tenant acme Acme --owner ada@acme.example`: found an organisation."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.core.validators import validate_email
from django.db import transaction

from agentauth.resources.founding import found_tenant
from audit.record import Actor
from tenants.models import SignInLink


class Command(BaseCommand):
    help = "Found an organisation with its first owner; prints the owner's one-time sign-in link."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("slug", help="its name in addresses: small letters, digits, hyphens")
        parser.add_argument("name", help="its name for people")
        parser.add_argument("--owner", required=True, metavar="E-MAIL", help="e-mail address of the first owner")
        parser.add_argument("--owner-name", default="", metavar="NAME", help="how others will read the owner's name")

    def handle(self, *_: Any, slug: str, name: str, owner: str, owner_name: str, **__: Any) -> None:
        try:
            validate_email(owner)
            with transaction.atomic():
                tenant, member = found_tenant(
                    slug=slug,
                    name=name,
                    owner_email=owner,
                    owner_name=owner_name or owner.partition("@")[0],
                    actor=Actor("operator", "manage.py create_tenant"),
                )
                token = SignInLink.make(member.user)
        except ValidationError as wrong:
            raise CommandError(" ".join(wrong.messages)) from None
        base = settings.KNOBS.base_url
        self.stdout.write(f"{tenant.name} is founded: {base}/t/{tenant.slug}/")
        self.stdout.write(f"Sign-in link of {member.name}, good for 24 hours, once: {base}/sign-in/{token}")
