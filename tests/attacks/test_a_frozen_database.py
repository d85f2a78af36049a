"""A database that is there and says nothing: nobody waits for it without end, and all is well when it is back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import close_old_connections, connection, transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client

from agentauth.database import patience
from tests import cast

pytestmark = pytest.mark.django_db(transaction=True)

PROGRAMS = (("get", "/t/acme/oauth/jwks.json"), ("post", "/t/acme/oauth/token"), ("get", "/api/v1/tenants/acme/agents"))
PEOPLE = (("get", "/t/acme/"), ("get", "/t/acme/oauth/authorize?client_id=x"))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "LIMIT", 0.4)
    monkeypatch.setattr(patience, "CANCELLING", 0.2)


@contextmanager
def frozen_server() -> Iterator[None]:
    """The process that serves our connection is stopped, not ended: its socket stays open and silent."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize(("method", "path"), [*PROGRAMS, *PEOPLE])
def test_a_silent_database_is_a_503_within_the_limit(method: str, path: str) -> None:
    with transaction.atomic():
        owner = cast.acme().owner
    browser = cast.signed_in(owner) if (method, path) in PEOPLE else Client()
    browser.raise_request_exception = False
    with frozen_server():
        began = time.monotonic()
        answer = getattr(browser, method)(path, headers={"Authorization": "Bearer x"})
        took = time.monotonic() - began
    assert answer.status_code == 503 and took < 2
    close_old_connections()  # as a server does between requests
    again = getattr(browser, method)(path)
    assert again.status_code < 500  # on a connection of its own


def test_a_lock_that_somebody_holds_is_not_waited_for_without_end() -> None:
    from threading import Event, Thread

    from django.db import connections

    with transaction.atomic():
        cast.acme()
    held, done = Event(), Event()

    def hold() -> None:
        with transaction.atomic(using="owner"), connections["owner"].cursor() as cursor:
            cursor.execute("LOCK TABLE tenants_tenant IN ACCESS EXCLUSIVE MODE")
            held.set()
            done.wait(10)
        connections["owner"].close()

    holder = Thread(target=hold)
    holder.start()
    try:
        assert held.wait(5)
        began = time.monotonic()
        answer = Client(raise_request_exception=False).get("/t/acme/oauth/jwks.json")
        assert answer.status_code == 503 and time.monotonic() - began < 2
    finally:
        done.set()
        holder.join()
    close_old_connections()
    assert Client().get("/t/acme/oauth/jwks.json").status_code == 200


def test_what_nobody_waits_for_is_cancelled_in_a_server_that_is_well() -> None:
    patience._here.left = 0.3
    try:
        with pytest.raises(Exception, match="in time"), connection.cursor() as cursor:
            cursor.execute("SELECT 'nobody waits', pg_sleep(30)")
    finally:
        patience._here.left = None
    connection.close()
    with connection.cursor() as cursor:
        cursor.execute("SELECT state FROM pg_stat_activity WHERE query LIKE 'SELECT ''nobody%'")
        assert ("active",) not in cursor.fetchall()


def test_only_what_is_waited_for_the_database_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that a tenant named may be slow: what it answered, or that it did not, still goes on record."""

    monkeypatch.setattr(patience, "LIMIT", 1.0)

    def view(request: HttpRequest) -> HttpResponse:
        with connection.cursor() as cursor:
            time.sleep(1.1)  # longer than the limit, somewhere else
            cursor.execute("SELECT pg_sleep(0.1)")
            left = patience.left()
            assert left is not None and 0 < left <= 0.9
            with pytest.raises(Exception, match="in time"):
                cursor.execute("SELECT pg_sleep(30)")
        return HttpResponse()

    assert patience.Patience(view)(HttpRequest()).status_code == 200
    connection.close()


def test_tasks_and_commands_wait_as_long_as_it_takes() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(0.6)")
    assert patience.left() is None
