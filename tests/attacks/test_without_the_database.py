"""Without the database every door of the control plane says 503 and when to come again, never 500."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import connections
from django.test import Client

from tests import cast

pytestmark = pytest.mark.django_db(transaction=True)

PROGRAMS = (
    ("get", "/.well-known/oauth-authorization-server/t/acme"),
    ("get", "/t/acme/oauth/jwks.json"),
    ("post", "/t/acme/oauth/token"),
    ("post", "/t/acme/oauth/register"),
    ("post", "/t/acme/oauth/revoke"),
)
PEOPLE = (("get", "/t/acme/"), ("get", "/t/acme/agents/"), ("get", "/t/acme/oauth/authorize?client_id=x"))


@contextmanager
def database_gone() -> Iterator[None]:
    """The address of the database leads nowhere."""
    for connection in connections.all():
        connection.close()
    known = connections["default"].settings_dict["HOST"]
    connections["default"].settings_dict["HOST"] = "/nowhere"
    try:
        yield
    finally:
        connections["default"].close()
        connections["default"].settings_dict["HOST"] = known


@pytest.mark.parametrize(("method", "path"), [*PROGRAMS, *PEOPLE, ("get", "/api/v1/tenants/acme/agents")])
def test_without_the_database_it_is_a_503(method: str, path: str) -> None:
    from django.db import transaction

    with transaction.atomic():
        owner = cast.acme().owner
    browser = cast.signed_in(owner) if (method, path) in PEOPLE else Client()
    browser.raise_request_exception = False
    with database_gone():
        answer = getattr(browser, method)(path)
    assert answer.status_code == 503
    if (method, path) in PROGRAMS:
        assert answer.json()["error"] == "temporarily_unavailable"
    elif (method, path) in PEOPLE:
        assert "The database does not answer" in answer.content.decode() and answer["Retry-After"] == "2"
