"""The sweep of what has run out: whole partitions, each with its line in the record of every tenant that had a row."""

from datetime import timedelta

import pytest
from django.db import DatabaseError, connections, transaction
from django.utils.timezone import now

from agentauth.oauth.models import SpentOnce
from agentauth.oauth.partitions import TABLES
from agentauth.oauth.spent import spend_once
from agentauth.oauth.tasks import sweep_spent
from tenants.models import SignInLink
from tenants.rls import in_tenant
from tests.cast import House, acme, events_of, globex


def mark(house: House, number: int, ends_in: timedelta) -> None:
    with in_tenant(house.tenant.id):
        SpentOnce.objects.create(
            tenant=house.tenant, kind="t", value_hash=bytes([number]) * 32, expires_at=now() + ends_in
        )


def houses() -> list[House]:
    """Acme and Globex, for good: the sweep looks from transactions of its own."""
    found = []
    for make in (acme, globex):
        with transaction.atomic():
            found.append(make())
    return found


def partitions() -> set[str]:
    with connections["owner"].cursor() as cursor:
        cursor.execute("SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r' AND relname LIKE 'oauth%'")
        return {name for (name,) in cursor.fetchall()}


def make_partition(days_ago: int) -> str:
    """A partition of a day that is over, as a clock that ran then would have left it."""
    first = (now() - timedelta(days=days_ago)).date()
    name = f"oauth_spentonce_{first:%Y%m%d}"
    with connections["owner"].cursor() as cursor:
        bounds = f"FROM ('{first}') TO ('{first + timedelta(days=1)}')"
        cursor.execute(f"CREATE TABLE {name} PARTITION OF oauth_spentonce FOR VALUES {bounds}")
    return name


@pytest.mark.django_db(transaction=True, databases=["default", "owner"])
def test_a_partition_that_ended_is_dropped_and_is_on_record_in_each_tenant():
    both = houses()
    over, not_yet = make_partition(5), make_partition(1)
    for house in both:
        for number, ends_in in enumerate((timedelta(days=-5), timedelta(days=-5), timedelta(days=-1), timedelta())):
            mark(house, number, ends_in)
    assert sweep_spent() == 4
    assert over not in partitions() and not_yet in partitions()
    for house in both:
        with in_tenant(house.tenant.id):
            assert SpentOnce.objects.count() == 2
        [event] = events_of(house.tenant.id, "expired.removed")
        assert event.details == {"kind": "spentonce", "rows": 2}
        assert event.actor == "oauth.sweep_spent"
    assert sweep_spent() == 0


@pytest.mark.django_db(transaction=True, databases=["default", "owner"])
def test_a_partition_that_somebody_is_in_waits_for_the_next_sweep_and_makes_nobody_wait():
    [house, _] = houses()
    over = make_partition(5)
    mark(house, 1, timedelta(days=-5))
    reader = connections["owner"].copy()
    with reader.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(f"LOCK TABLE {over} IN ACCESS SHARE MODE")
        assert sweep_spent() == 1  # the row, not its partition
        assert over in partitions()
        cursor.execute("COMMIT")
    reader.close()
    sweep_spent()
    assert over not in partitions()


@pytest.mark.django_db(transaction=True, databases=["default", "owner"])
def test_what_lies_in_no_partition_of_its_own_goes_row_by_row():
    [house, _] = houses()
    for number, ends_in in enumerate((timedelta(days=-40), timedelta(days=40), timedelta(hours=-2))):
        mark(house, number, ends_in)
    assert sweep_spent() == 1
    with in_tenant(house.tenant.id):
        assert SpentOnce.objects.count() == 2
    assert [event.details["rows"] for event in events_of(house.tenant.id, "expired.removed")] == [1]


@pytest.mark.django_db(databases=["default", "owner"])
def test_every_table_has_partitions_ahead():
    sweep_spent()
    for one in TABLES:
        ahead = now().date() + timedelta(days=3)
        bounds = [name for name in partitions() if name.startswith(f"{one.table}_2")]
        assert max(bounds)[-8:] >= f"{ahead:%Y%m%d}", one.table
        assert f"{one.table}_other" in partitions()


@pytest.mark.django_db(databases=["default", "owner"])
@pytest.mark.parametrize("ask", ["oauth_drop_partition('oauth_spentonce', current_date)",
                                 "oauth_drop_partition('audit_event', '2020-01-01')",
                                 "oauth_drop_partition('tenants_tenant', '2020-01-01')"])  # fmt: skip
def test_the_runtime_role_can_drop_nothing_that_still_counts(ask: str):
    with transaction.atomic(), connections["default"].cursor() as cursor:
        cursor.execute(f"SELECT {ask}")
        assert cursor.fetchall() == [(False,)]
    with pytest.raises(DatabaseError), transaction.atomic(), connections["default"].cursor() as cursor:
        cursor.execute("DROP TABLE oauth_spentonce_other")


@pytest.mark.django_db
def test_what_bears_the_name_of_something_spent_is_spent_whatever_its_end():
    house = acme()
    ends = now() + timedelta(hours=1)
    assert spend_once(house.tenant.id, "t", b"a" * 32, ends)
    assert not spend_once(house.tenant.id, "t", b"a" * 32, ends)
    assert not spend_once(house.tenant.id, "t", b"a" * 32, ends + timedelta(days=3))
    assert spend_once(house.tenant.id, "u", b"a" * 32, ends)


@pytest.mark.django_db
def test_old_sign_in_links_go():
    house = acme()
    SignInLink.make(house.owner.user)
    SignInLink.objects.update(expires_at=now() - timedelta(days=2))
    assert sweep_spent() == 1
    assert SignInLink.objects.count() == 0
