"""Exports: ordered by those who may audit, watched, fetched, and all of it on record."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.db import transaction
from django.utils.timezone import now

from audit import sequencer
from audit.export.running import run_export
from audit.models import Export
from audit.verify import verify
from tenants.rls import in_tenant, set_tenant
from tests import cast
from tests.console.calls import a_call

EXPORTS = "/t/acme/audit/exports/"


@pytest.fixture(autouse=True)
def _no_queue(monkeypatch):
    """The worker is called by hand here."""
    monkeypatch.setattr("audit.export.requesting.enqueue", lambda *_: None)


def _order(**changes):
    today = now().astimezone(UTC).date().isoformat()
    return {"since": today, "until": today, "query": "", "format": "jsonl"} | changes


@pytest.mark.django_db
def test_counting_tells_what_the_export_would_hold():
    acme = cast.acme()
    grant = cast.matts_grant(acme, cast.assistant(acme))
    a_call(acme, grant, decision="refuse")
    page = cast.signed_in(acme.members["cora"]).get(f"{EXPORTS}new/", _order(query="decision:refuse")).content.decode()
    assert '<b class="num">1</b> line now' in page and 'value="decision:refuse"' in page
    assert not Export.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"since": ""}, "since"),
        ({"since": "yesterday"}, "since"),
        ({"since": "2026-12-01", "until": "2026-11-01"}, "since"),
        ({"query": "decison:refuse"}, "query"),
        ({"format": "exe"}, "format"),
    ],
)
def test_a_wrong_order_is_said_at_the_field(changes, field):
    acme = cast.acme()
    answer = cast.signed_in(acme.members["cora"]).post(f"{EXPORTS}new/", _order(**changes))
    assert answer.status_code == 422 and f'id="id_{field}_error"' in answer.content.decode()
    assert not Export.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_the_auditor_orders_watches_and_fetches_evidence_that_verifies(tmp_path):
    with transaction.atomic():
        acme = cast.acme()
        grant = cast.matts_grant(acme, cast.assistant(acme))
        for _ in range(5):
            a_call(acme, grant)
    sequencer.drain()
    cora = cast.signed_in(acme.members["cora"])
    answer = cora.post(f"{EXPORTS}new/", _order())
    assert answer.status_code == 303
    job = answer["Location"]
    page = cora.get(job).content.decode()
    assert "<progress" in page and 'hx-trigger="every 1s"' in page
    sequencer.drain()
    assert run_export(_id_of(job), acme.tenant.id)
    done = cora.get(f"{job}progress/").content.decode()
    assert "Evidence bundle" in done and "hx-trigger" not in done
    fetched = cora.get(f"{job}bundle.zip")
    assert fetched["Content-Type"] == "application/zip" and "attachment" in fetched["Content-Disposition"]
    bundle = tmp_path / "bundle.zip"
    bundle.write_bytes(b"".join(fetched))
    assert verify(bundle).ok
    with in_tenant(acme.tenant.id):
        assert [event.actor for event in acme.events("export.requested")] == [str(acme.members["cora"].id)]
        assert len(acme.events("export.finished")) == len(acme.events("export.downloaded")) == 1


@pytest.mark.django_db
def test_cancelling_stops_it_and_a_second_time_changes_nothing():
    acme = cast.acme()
    cora = cast.signed_in(acme.members["cora"])
    job = cora.post(f"{EXPORTS}new/", _order())["Location"]
    for _ in range(2):
        assert cora.post(f"{job}cancel/").status_code == 303
    set_tenant(acme.tenant.id)
    assert Export.objects.get().state == "cancelled" and len(acme.events("export.cancelled")) == 1
    assert "Cancelled" in cora.get(job).content.decode()
    assert cora.get(f"{job}bundle.zip").status_code == 303, "nothing to fetch, said on the job's page"


@pytest.mark.django_db
def test_a_failure_says_so_and_what_next():
    acme = cast.acme()
    cora = cast.signed_in(acme.members["cora"])
    job = cora.post(f"{EXPORTS}new/", _order())["Location"]
    set_tenant(acme.tenant.id)
    Export.objects.update(state="failed", failure="The disk is full.")
    page = cora.get(job).content.decode()
    assert "The disk is full." in page and "Order it again" in page


@pytest.mark.django_db
def test_members_and_other_tenants_get_nothing():
    acme = cast.acme()
    job = cast.signed_in(acme.members["cora"]).post(f"{EXPORTS}new/", _order())["Location"]
    globex = cast.globex()
    matt, gus = cast.signed_in(acme.members["matt"]), cast.signed_in(globex.owner)
    for path in (EXPORTS, f"{EXPORTS}new/", job, f"{job}bundle.zip", f"{job}progress/"):
        assert matt.get(path).status_code == 403, path
        assert gus.get(path).status_code == 404, path
    assert gus.get(job.replace("acme", "globex")).status_code == 404
    assert gus.post(f"{job}cancel/").status_code == 404


@pytest.mark.django_db
def test_none_one_and_many():
    acme = cast.acme()
    cora = cast.signed_in(acme.members["cora"])
    assert "Nothing has been exported yet" in cora.get(EXPORTS).content.decode()
    set_tenant(acme.tenant.id)
    since = datetime(2026, 11, 1, tzinfo=UTC)
    for number in range(26):
        Export.objects.create(
            tenant=acme.tenant,
            requested_by=acme.members["cora"].id,
            since=since,
            until=since + timedelta(days=number + 1),
        )
    page = cora.get(EXPORTS).content.decode()
    assert page.count('class="cell-main"') == 25 and 'rel="next"' in page


def _id_of(path):
    return UUID(path.rstrip("/").rsplit("/", 1)[1])
