"""What the flows share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.database import TestServer
from tests.flows.document_host import document_host
from tests.flows.installation import TOKEN_LIFE, Installation
from tests.flows.person import Person
from tests.stack import Stack


@pytest.fixture(scope="package")
def here(
    postgres_server: TestServer, migrated_database: str, node: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """The one that clients nobody here wrote talk with."""

    def already(_name: str) -> None:
        raise AssertionError("migrated_database has made the template")

    certificate = tmp_path_factory.mktemp("web") / "localhost.pem"
    with document_host(certificate) as web:
        environ = {"AGENTAUTH_ACCESS_TOKEN_SECONDS": str(TOKEN_LIFE), "SSL_CERT_FILE": str(certificate)}
        stack = Stack(postgres_server, postgres_server.new_database(already), environ=environ)
        try:
            stack.start()
            ada, matt = (
                Person(stack.base_url).sign_in(f"{name}@acme.example", stack.demo_password) for name in ("ada", "matt")
            )
            yield Installation(stack, ada, matt, web, node)
        finally:
            stack.stop()
