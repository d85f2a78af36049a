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
