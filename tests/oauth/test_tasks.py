"""The sweep of what has run out."""

from datetime import timedelta

import pytest
from django.utils.timezone import now

from agentauth.oauth.models import SpentOnce
from agentauth.oauth.tasks import sweep_spent
from tenants.models import SignInLink
from tests.cast import acme, globex

pytestmark = pytest.mark.django_db


def test_marks_that_ended_long_ago_go_in_every_tenant_and_others_stay():
    for found in (acme, globex):
        house = found()
        for number, ends in enumerate(
            (now() - timedelta(days=2), now() - timedelta(hours=2), now() + timedelta(days=1))
        ):
            SpentOnce.objects.create(tenant=house.tenant, kind="t", value_hash=bytes([number]) * 32, expires_at=ends)
    assert sweep_spent() == 2
    assert SpentOnce.objects.count() == 2  # of Globex, in whose transaction we are
    assert sweep_spent() == 0


def test_old_sign_in_links_go():
    house = acme()
    SignInLink.make(house.owner.user)
    SignInLink.objects.update(expires_at=now() - timedelta(days=2))
    assert sweep_spent() == 1
    assert SignInLink.objects.count() == 0
