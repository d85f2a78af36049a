"""`manage.py offer_resource crm CRM https://crm.example/api --document openapi.json`: offer it to every tenant."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from agentauth.resources.importing import offer
from audit.record import Actor


class Command(BaseCommand):
    help = "Offer a REST API or an MCP server to every organisation of this installation."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("slug", help="short name: small letters, digits, hyphens")
        parser.add_argument("name", help="its name for people")
        parser.add_argument("address", help="of the API, or of the MCP server's endpoint")
        parser.add_argument("--description", default="")
        parser.add_argument(
            "--document", type=Path, metavar="FILE", help="its OpenAPI document; without it, an MCP server"
        )

    def handle(
        self, *_: Any, slug: str, name: str, address: str, description: str, document: Path | None, **__: Any
    ) -> None:
        try:
            entry = offer(
                by=Actor("operator", "manage.py offer_resource"),
                slug=slug,
                name=name,
                kind="rest" if document else "mcp",
                upstream_url=address,
                description=description,
                document=document.read_text() if document else "",
            )
        except (OSError, UnicodeDecodeError) as wrong:
            raise CommandError(f"{document} cannot be read: {wrong}") from None
        except ValidationError as wrong:
            raise CommandError(" ".join(wrong.messages)) from None
        self.stdout.write(f"{entry.name} is offered to every organisation. Tenants find it under Resources.")
