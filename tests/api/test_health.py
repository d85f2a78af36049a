"""The console's origin tells a load balancer the truth."""

import pytest
from django.db import connection
from django.test import Client

from agentauth.api import health


def test_livez_answers_without_a_database():
    assert Client().get("/livez").json() == {"status": "ok"}


@pytest.mark.django_db
def test_readyz_answers_when_the_role_is_walled_in():
    answer = Client().get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert answer["Cache-Control"] == "no-store"


@pytest.mark.django_db
def test_readyz_refuses_a_role_that_owns_the_tables(monkeypatch):
    from django.db import connections

    monkeypatch.setattr(health, "connection", connections["owner"])
    answer = Client().get("/readyz")
    assert answer.status_code == 503 and "bypass" in answer.json()["reason"]


@pytest.mark.django_db
def test_readyz_names_a_database_that_does_not_answer(monkeypatch):
    from django.db import OperationalError

    def down():
        raise OperationalError("connection refused, password=hunter2")

    monkeypatch.setattr(connection, "cursor", down)
    answer = Client().get("/readyz")
    assert answer.status_code == 503 and answer.json()["reason"] == "the database does not answer"


@pytest.mark.django_db
@pytest.mark.parametrize("place", ["agentauth.api.door.find_tenant", "agentauth.api.authentication.public_keys"])
def test_without_a_database_the_api_says_so_and_lets_nobody_in(monkeypatch, place):
    from django.db import OperationalError

    from tests import cast
    from tests.api.tokens import robot

    api = robot(cast.acme(), "agents:read")

    def down(*_):
        raise OperationalError("connection refused, password=hunter2")

    monkeypatch.setattr(place, down)
    answer = api.get("/agents")
    assert answer.status_code == 503 and answer.json()["type"].endswith("#unavailable")
    assert "hunter2" not in answer.content.decode()


@pytest.mark.django_db
def test_what_breaks_says_nothing_outside_but_an_id_for_the_log(monkeypatch, caplog):
    from tests import cast
    from tests.api.tokens import robot

    api = robot(cast.acme(), "agents:read")

    def broken(*_):
        raise RuntimeError("hunter2")

    monkeypatch.setattr("agentauth.api.agents.page", broken)
    answer = api.get("/agents")
    incident = answer.json()["instance"].removeprefix("urn:uuid:")
    assert answer.status_code == 500 and "hunter2" not in answer.content.decode()
    assert incident in caplog.text and "hunter2" in caplog.text
