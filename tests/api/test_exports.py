"""Evidence over REST: ordered, made, fetched, verified; what is not ready cannot be fetched."""

import hashlib
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils.timezone import now

from audit import sequencer
from audit.export import running
from audit.merkle import verify_inclusion
from audit.verify import verify
from tests import cast
from tests.api.test_authentication import refused
from tests.api.tokens import Api, helper_of, robot

PERIOD = {"since": (now() - timedelta(hours=1)).isoformat(), "until": (now() + timedelta(hours=1)).isoformat()}


@pytest.fixture
def acme(transactional_db):
    """Committed: the sequencer reads through a connection of its own."""
    with transaction.atomic():
        return cast.acme()


@pytest.fixture(autouse=True)
def _queue_is_elsewhere(monkeypatch):
    monkeypatch.setattr("audit.export.requesting.enqueue", lambda export, tenant: None)


def api_of(house, make, *arguments: Any, **modes: str) -> Api:
    from tenants.rls import in_tenant

    with in_tenant(house.tenant.id):
        made: Api = make(house, *arguments, **modes)
        return made


def test_from_the_order_to_a_bundle_that_verifies(acme, tmp_path):
    api = api_of(acme, helper_of, acme.members["cora"], exports__read="always", exports__write="always")
    ordered = api.post("/exports", PERIOD | {"format": "csv"})
    assert ordered.status_code == 202, ordered.content
    order = ordered.json()
    assert order["state"] == "queued" and order["requested_by"] == str(acme.members["cora"].id)
    refused(api.get(f"/exports/{order['id']}/bundle"), "conflict", 409)
    sequencer.drain()
    assert running.run_export(order["id"], acme.tenant.id)
    ready = api.client.get(ordered["Location"]).json()
    assert ready["state"] == "ready" and ready["rows_done"] == ready["rows_total"] > 5
    answer = api.get(f"/exports/{order['id']}/bundle")
    data = b"".join(answer.streaming_content)
    assert answer["Content-Type"] == "application/zip" and hashlib.sha256(data).hexdigest() == ready["sha256"]
    (tmp_path / "bundle.zip").write_bytes(data)
    assert not verify(tmp_path / "bundle.zip").problems
    with transaction.atomic():
        assert len(acme.events("export.downloaded")) == 1
    refused(api.post(f"/exports/{order['id']}/cancel"), "conflict", 409)
    assert [one["id"] for one in api.get("/exports").json()["items"]] == [order["id"]]


def test_one_event_comes_with_a_proof_that_holds(acme):
    api = api_of(acme, robot, "events:read")
    event = api.get("/events", q="action:tenant.created").json()["items"][0]["id"]
    assert api.get(f"/events/{event}").json()["proof"] is None
    sequencer.drain()
    whole = api.get(f"/events/{event}").json()
    proof = whole["proof"]
    leaf = hashlib.sha256(b"\0" + whole["body"].encode()).digest()
    assert leaf.hex() == proof["leaf_hash"] and proof["problem"] == ""
    path = [bytes.fromhex(step) for step in proof["path"]]
    verify_inclusion(leaf, proof["index"], proof["size"], path, bytes.fromhex(proof["root"]))


def test_an_order_can_be_stopped_once(acme):
    api = api_of(acme, robot, "exports:read", "exports:write")
    order = api.post("/exports", PERIOD).json()["id"]
    assert api.post(f"/exports/{order}/cancel").json()["state"] == "cancelled"
    refused(api.post(f"/exports/{order}/cancel"), "conflict", 409)
    refused(api.get(f"/exports/{order}/bundle"), "conflict", 409)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no period": ({"since": None}, "since"),
    "an end before the beginning": ({"until": "2020-01-01T00:00:00Z"}, "since"),
    "an unknown format": ({"format": "pdf"}, "format"),
    "a query that makes no sense": ({"query": "agnet:x"}, "query"),
    "an unknown field": ({"bundle": "/etc/passwd"}, "bundle"),
}


@pytest.mark.parametrize("why", WRONG)
def test_a_wrong_field_is_named(acme, why):
    change, field = WRONG[why]
    api = api_of(acme, robot, "exports:write")
    problem = refused(api.post("/exports", PERIOD | change), "invalid", 422)
    assert problem["errors"][0]["field"] == field


def test_an_export_of_globex_is_not_there(acme):
    with transaction.atomic():
        globex = cast.globex()
    theirs = api_of(globex, robot, "exports:write").post("/exports", PERIOD).json()["id"]
    api = api_of(acme, robot, "exports:read", "exports:write")
    for answer in (api.get(f"/exports/{theirs}"), api.get(f"/exports/{theirs}/bundle"),
                   api.post(f"/exports/{theirs}/cancel")):  # fmt: skip
        refused(answer, "not-found", 404)
    assert api.get("/exports").json()["items"] == []
