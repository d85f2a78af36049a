"""`manage.py create_operator olga@example.com`: let somebody create tenants and offer resources, and see no content."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.core.validators import validate_email
from django.db import transaction
from django.utils.timezone import now

from tenants.models import SignInLink, User


class Command(BaseCommand):
    help = "Make a person an operator of this installation; prints their one-time sign-in link."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("email", help="e-mail address; an existing person keeps their password")
        parser.add_argument("--name", default="", help="how others will read the name")

    def handle(self, *_: Any, email: str, name: str, **__: Any) -> None:
        try:
            validate_email(email)
        except ValidationError as wrong:
            raise CommandError(" ".join(wrong.messages)) from None
        with transaction.atomic():
            user = User.objects.filter(email__iexact=email).first()
            if user is None:
                user = User.objects.create_user(email, name=name or email.partition("@")[0])
            if user.operator_since is None:
                user.operator_since = now()
                user.save(update_fields=["operator_since"])
            token = SignInLink.make(user)
        self.stdout.write(f"{user.name} operates this installation: {settings.KNOBS.base_url}/operator/")
        self.stdout.write(f"Sign-in link, good for 24 hours, once: {settings.KNOBS.base_url}/sign-in/{token}")
