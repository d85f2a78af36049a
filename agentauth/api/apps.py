import sys
from pathlib import Path

from django.apps import AppConfig


class Api(AppConfig):
    name = "agentauth.api"

    def ready(self) -> None:
        """The uppermost room that every process loads, so the one that refuses to start on unsafe settings."""
        from agentauth import checks

        if Path(sys.argv[0]).name != "manage.py":  # there the checks run by themselves, and are told more nicely
            checks.refuse_unsafe()
