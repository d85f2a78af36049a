"""Rotating signing keys: by the clock, on demand, at once; and the same thing twice changes nothing."""

from datetime import timedelta

import jwt
import pytest
from django.core.management import call_command
from django.utils.timezone import now

from agentauth.keys import rotating, signing
from agentauth.keys.models import SigningKey
from agentauth.keys.tasks import rotate_due
from audit.actions import Action
from tenants.models import Revocation, Tenant
from tenants.rls import in_tenant, set_tenant
from tests.cast import CAST, acme, globex

pytestmark = pytest.mark.django_db


def age(house, days):
    """All keys of this tenant are so many days older."""
    for key in SigningKey.objects.filter(tenant=house.tenant):
        key.signs_from -= timedelta(days=days)
        key.save()
    signing.forget(house.tenant.id)


def kid_now(house):
    signing.forget(house.tenant.id)
    set_tenant(house.tenant.id)
    return signing.signer(house.tenant.id).kid


def test_a_key_by_the_clock_is_published_a_day_before_it_signs():
    house = acme()
    old = kid_now(house)
    age(house, 89.5)
    assert rotate_due() == 1
    set_tenant(house.tenant.id)
    coming = SigningKey.objects.get(tenant=house.tenant, signs_from__gt=now())
    assert coming.signs_from - now() > timedelta(hours=23.9)
    assert set(signing.public_keys(house.tenant.id)) == {old, coming.kid}
    assert kid_now(house) == old
    event = house.events(Action.KEY_CREATED)[-1]
    assert (event.actor, event.subject) == ("keys.rotate_due", coming.kid)
    assert event.details["signs_from"] == coming.signs_from.isoformat()


def test_then_it_signs_and_the_former_one_verifies_for_another_day():
    house = acme()
    token = signing.sign(house.tenant.id, {"sub": "x"}, "at+jwt")
    age(house, 90)
    assert rotate_due() == 1
    set_tenant(house.tenant.id)
    age(house, 1.01)
    assert rotate_due() == 0
    set_tenant(house.tenant.id)
    old = SigningKey.objects.get(tenant=house.tenant, kid=jwt.get_unverified_header(token)["kid"])
    assert old.retired_at and old.unpublish_at
    assert timedelta(hours=23) < old.unpublish_at - now() <= rotating.OVERLAP
    assert bytes(old.sealed_private) == b""  # nobody signs with it again
    assert kid_now(house) != old.kid and old.kid in signing.public_keys(house.tenant.id)
    assert [event.subject for event in house.events(Action.KEY_RETIRED)] == [old.kid]
    SigningKey.objects.filter(pk=old.pk).update(unpublish_at=now() - timedelta(seconds=1))
    assert old.kid not in signing.public_keys(house.tenant.id)


def test_the_clock_does_it_once_however_often_it_comes():
    house, other = acme(), globex()
    set_tenant(house.tenant.id)
    age(house, 200)
    assert [rotate_due(), rotate_due(), rotate_due()] == [1, 0, 0]
    set_tenant(house.tenant.id)
    assert SigningKey.objects.filter(tenant=house.tenant).count() == 2
    set_tenant(other.tenant.id)
    assert SigningKey.objects.filter(tenant=other.tenant).count() == 1


def test_a_tenant_may_have_it_on_demand_only_or_more_often():
    house = acme()
    rotating.set_rotation(house.tenant, 0, by=CAST)
    age(house, 900)
    assert rotate_due() == 0
    set_tenant(house.tenant.id)
    rotating.set_rotation(house.tenant, 30, by=CAST)
    assert rotate_due() == 1
    assert [event.details["key_rotation_days"] for event in house.events(Action.TENANT_CHANGED)] == [0, 30]


def test_without_the_ring_the_clock_leaves_the_old_key(monkeypatch, tmp_path):
    house = acme()
    age(house, 200)
    monkeypatch.setattr("agentauth.keys.ring.path", lambda: tmp_path / "ring.json")
    assert rotate_due() == 0
    set_tenant(house.tenant.id)
    assert SigningKey.objects.get(tenant=house.tenant).retired_at is None


def test_on_demand_the_new_key_signs_now():
    house = acme()
    old = kid_now(house)
    fresh = rotating.rotate(house.tenant.id, by=CAST)
    assert kid_now(house) == fresh.kid
    assert set(signing.public_keys(house.tenant.id)) == {old, fresh.kid}


def test_on_demand_also_replaces_a_key_that_was_waiting_for_its_turn():
    house = acme()
    age(house, 90)
    rotate_due()
    set_tenant(house.tenant.id)
    fresh = rotating.rotate(house.tenant.id, by=CAST)
    assert [key.kid for key in SigningKey.objects.filter(tenant=house.tenant, retired_at=None)] == [fresh.kid]
    assert rotate_due() == 0


def test_a_distrusted_key_verifies_nothing_any_more_and_says_what_ended():
    house = acme()
    rotating.rotate(house.tenant.id, by=CAST)  # one that is retired and still published is distrusted as well
    published = set(signing.public_keys(house.tenant.id))
    ended = rotating.distrust(house.tenant.id, by=CAST)
    assert ended.tokens == 0
    assert not published & set(signing.public_keys(house.tenant.id))
    assert {event.subject for event in house.events(Action.KEY_DISTRUSTED)} == published
    revocation = Revocation.objects.get(tenant=house.tenant)
    assert (revocation.kind, revocation.subject) == ("tenant", str(house.tenant.id)) and revocation.lifted_at
    assert kid_now(house) in signing.public_keys(house.tenant.id)


def test_what_is_next_is_told():
    house = acme()
    first = rotating.schedule(house.tenant)
    assert (
        first.coming is None
        and first.next_at
        and abs(first.next_at - now() - timedelta(days=90)) < timedelta(minutes=1)
    )
    age(house, 90)
    rotate_due()
    set_tenant(house.tenant.id)
    second = rotating.schedule(house.tenant)
    assert second.coming and second.signing and second.next_at == second.coming.signs_from
    assert second.signing.kid != second.coming.kid
    rotating.set_rotation(house.tenant, 0, by=CAST)
    rotating.rotate(house.tenant.id, by=CAST)
    assert rotating.schedule(house.tenant).next_at is None


def test_the_command_names_what_it_did(capsys):
    house = acme()
    call_command("rotate-keys", "acme")
    assert "acme: signs with " in capsys.readouterr().out
    call_command("rotate-keys", "--all", "--distrust")
    assert "acme: 0 tokens ended" in capsys.readouterr().out
    set_tenant(house.tenant.id)
    assert house.events(Action.KEY_DISTRUSTED)[0].actor_kind == "operator"
    with in_tenant(house.tenant.id):
        assert Tenant.objects.get(slug="acme").signingkeys.count() == 3
