import sys
from pathlib import Path

from django.apps import AppConfig
from django.core.exceptions import ImproperlyConfigured


class Api(AppConfig):
    name = "agentauth.api"

    def ready(self) -> None:
        """The uppermost room that every process loads, so the one that refuses to start on unsafe settings."""
        from agentauth import checks

        if Path(sys.argv[0]).name == "manage.py" and sys.argv[1:2] in (["check"], ["doctor"]):
            return  # they report it
        try:
            checks.refuse_unsafe()
        except ImproperlyConfigured as unsafe:
            raise SystemExit(f"AgentAuth does not start.\n{unsafe}") from None
