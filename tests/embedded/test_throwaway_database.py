"""The tests' own ground: each alias has its role, and a test that commits leaves nothing behind."""

from __future__ import annotations

import pytest
from django.db import connections

from tests.database import ALIASES


@pytest.mark.django_db
@pytest.mark.parametrize(("alias", "role"), ALIASES.items())
def test_each_alias_signs_in_as_its_own_role(alias: str, role: str) -> None:
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT current_user, rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user")
        assert cursor.fetchone() == (role, False, False)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("_round", [1, 2])
def test_a_test_that_commits_leaves_nothing_behind(_round: int) -> None:
    with connections["owner"].cursor() as cursor:
        cursor.execute("SELECT count(*) FROM django_session")
        assert cursor.fetchone() == (0,)
        cursor.execute("INSERT INTO django_session VALUES ('left', 'over', now())")
        cursor.execute("SELECT count(*) FROM django_content_type WHERE app_label = 'left'")
        assert cursor.fetchone() == (0,)
        cursor.execute("INSERT INTO django_content_type (app_label, model) VALUES ('left', 'over')")
