"""A call that began and never ended is closed as unknown, once."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils.timezone import now

from audit.actions import Action
from audit.record import record
from audit.tasks import close_lost_calls
from tenants.rls import new_id, set_tenant
from tests import cast

pytestmark = pytest.mark.django_db


def test_a_call_without_an_outcome_is_closed_as_unknown_once() -> None:
    house, theirs = cast.acme(), cast.globex()
    old = now() - timedelta(minutes=6)
    lost, finished, running, theirs_lost = (new_id() for _ in range(4))
    for tenant, call, at in (
        (house.tenant, lost, old),
        (house.tenant, finished, old),
        (house.tenant, running, now()),
        (theirs.tenant, theirs_lost, old),
    ):
        set_tenant(tenant.id)
        record(
            Action.CALL_ALLOWED, tenant_id=tenant.id, actor=cast.CAST, call_id=call, at=at, details={"protocol": "rest"}
        )
    set_tenant(house.tenant.id)
    record(Action.CALL_FINISHED, tenant_id=house.tenant.id, actor=cast.CAST, call_id=finished, outcome="ok")

    assert close_lost_calls() == 2
    assert close_lost_calls() == 0
    (event,) = house.events("call.lost")
    assert (event.call_id, event.outcome, event.details) == (lost, "unknown", {"protocol": "rest"})
    assert [event.call_id for event in theirs.events("call.lost")] == [theirs_lost]


def test_a_rare_sweep_closes_what_happened_while_no_clock_was_running() -> None:
    house = cast.acme()
    record(
        Action.CALL_ALLOWED,
        tenant_id=house.tenant.id,
        actor=cast.CAST,
        call_id=new_id(),
        at=now() - timedelta(days=3),
    )
    assert close_lost_calls() == 0
    assert close_lost_calls(hours=24 * 31) == 1
