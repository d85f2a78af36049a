"""The queue's side: orders reach our own queue, and a queue that is down harms no order."""

from __future__ import annotations

import time
from datetime import timedelta

from django.utils.timezone import now

from audit.export import tasks
from audit.export.requesting import request_export
from audit.models import Export
from tenants.rls import in_tenant
from tests.cast import House


def test_orders_go_to_our_own_queue() -> None:
    assert tasks.run.app.main == "agentauth"
    scheduled = {entry["task"] for entry in tasks.run.app.conf.beat_schedule.values()}
    assert {tasks.resume_stalled.name, tasks.remove_expired.name, "audit.tasks.close_lost_calls"} <= scheduled


def test_an_order_is_taken_at_once_although_the_queue_is_down(acme: House) -> None:
    """The socket of the broker is not there in tests. The clock finds the order later."""
    began = time.monotonic()
    with in_tenant(acme.tenant.id):
        export = request_export(
            acme.tenant, by=acme.members["cora"], since=now() - timedelta(hours=1), until=now() + timedelta(hours=1)
        )
    assert time.monotonic() - began < 5
    with in_tenant(acme.tenant.id):
        assert Export.objects.get(id=export.id).state == Export.State.QUEUED
