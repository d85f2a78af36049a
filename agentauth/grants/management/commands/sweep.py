"""`manage.py sweep`: close what has expired, now, as the clock does every minute. Refusing it needs no sweep."""

from typing import Any

from django.core.management.base import BaseCommand

from agentauth.grants.tasks import sweep_expired


class Command(BaseCommand):
    help = "Close expired grants and unanswered questions of all tenants, and record it."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(f"{sweep_expired()} closed")
