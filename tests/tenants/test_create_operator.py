"""Operators from the command line."""

import pytest
from django.core.management import CommandError, call_command

from tenants.models import SignInLink, User
from tests.cast import acme

pytestmark = pytest.mark.django_db


def test_a_new_operator_gets_a_link_that_signs_in_once(capsys):
    call_command("create_operator", "olga@example.com", name="Olga Lind")
    said = capsys.readouterr().out
    user = User.objects.get(email="olga@example.com")
    assert user.is_operator and user.name == "Olga Lind" and "/operator/" in said
    token = said.rsplit("/sign-in/", 1)[1].strip()
    assert SignInLink.redeem(token) == user
    assert SignInLink.redeem(token) is None


def test_an_existing_person_becomes_operator_and_keeps_the_password():
    user = acme().owner.user
    user.set_password("kept as it was")
    user.save()
    call_command("create_operator", user.email)
    user.refresh_from_db()
    assert user.is_operator and user.check_password("kept as it was")


def test_what_is_no_address_is_refused():
    with pytest.raises(CommandError):
        call_command("create_operator", "olga")
    assert not User.objects.filter(email="olga").exists()
