"""Ping (OpenID Connect CIBA Core §10.2): the client is told, at the address it registered, that there is an answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest import mock

import pytest
from django.utils.timezone import now

from agentauth import settings
from agentauth.keys.ring import RingError, unseal
from agentauth.oauth import ping as pinging
from agentauth.oauth.models import BackchannelRequest
from agentauth.oauth.ping import ping, ping_again
from tenants.rls import in_tenant
from tests.cast import House, events_of
from tests.oauth.asking import (
    GRANT,
    NOTIFY,
    PING,
    answer,
    asking_flow,
    begin,
    begun,
    fetch,
    refused_for,
    rows_of,
)
from tests.oauth.browser import Flow, register
from tests.oauth.test_races import together

TOKEN = "8d67dc78-7faa-4d41-aabd-67707b374255"


class Ear:
    """A client's notification endpoint on this machine."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, dict[str, str], Any]] = []
        self.says = 204
        self.then: Any = None
        ear = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                ear.heard.append((self.path, dict(self.headers.items()), json.loads(body)))
                if ear.then is not None:
                    ear.then()
                self.send_response(ear.says)
                if ear.says == 302:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/ping"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def queue() -> Iterator[list[tuple[str, ...]]]:
    """What was handed to the queue; nobody works on it."""
    handed: list[tuple[str, ...]] = []
    with mock.patch.object(pinging, "hand_over", lambda task, *args: handed.append((task.name, *args))):
        yield handed


@pytest.fixture
def ear(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ear]:
    """This machine is out of reach, but for what its operator allows."""
    listening = Ear()
    monkeypatch.setattr(settings.KNOBS, "allowed_hosts_outbound", [listening.url.split("/")[2]])
    yield listening
    listening.server.shutdown()


@pytest.fixture
def pinged(acme: House, queue: list[tuple[str, ...]]) -> Flow:
    return asking_flow(acme, PING)


def listens(flow: Flow, ear: Ear) -> None:
    """As if the address that it registered were this one: https is asked for where it registers, not where we knock."""
    with in_tenant(flow.house.tenant.id):
        BackchannelRequest.objects.filter(tenant=flow.house.tenant).update(ping_url=ear.url)


def due(flow: Flow) -> tuple[str, str]:
    return str(rows_of(flow)[-1].id), str(flow.house.tenant.id)


def test_a_client_is_told_once_its_person_has_answered(pinged: Flow, ear: Ear, queue: Any) -> None:
    auth_req_id = begun(pinged, client_notification_token=TOKEN)
    listens(pinged, ear)
    assert queue == []
    answer(pinged)
    assert queue == [("agentauth.oauth.ping.ping", *due(pinged))]  # the row, and nothing that opens anything
    assert ping(*due(pinged)) is True
    ((path, headers, body),) = ear.heard
    assert path == "/ping" and headers["Authorization"] == f"Bearer {TOKEN}"  # §10.2
    assert headers["Content-Type"] == "application/json" and body == {"auth_req_id": auth_req_id}
    assert rows_of(pinged)[0].sealed_ping_token is None  # needed no more
    assert ping(*due(pinged)) is False and len(ear.heard) == 1
    assert fetch(pinged, auth_req_id).status_code == 200


def test_a_no_is_told_as_well(pinged: Flow, ear: Ear) -> None:
    auth_req_id = begun(pinged, client_notification_token=TOKEN)
    listens(pinged, ear)
    answer(pinged, "deny")
    assert ping(*due(pinged)) is True and len(ear.heard) == 1
    assert fetch(pinged, auth_req_id).json()["error"] == "access_denied"


def test_who_is_pinged_may_fetch_before_it_answers_the_ping(pinged: Flow, ear: Ear) -> None:
    auth_req_id = begun(pinged, client_notification_token=TOKEN)
    listens(pinged, ear)
    answer(pinged)
    fetched: list[int] = []

    def fetch_at_once() -> None:
        from django.db import connections

        fetched.append(fetch(pinged, auth_req_id).status_code)
        connections.close_all()

    ear.then = fetch_at_once
    assert ping(*due(pinged)) is True
    assert fetched == [200]


def test_neither_id_nor_token_can_be_read_from_the_table(pinged: Flow) -> None:
    auth_req_id = begun(pinged, client_notification_token=TOKEN)
    row = rows_of(pinged)[0]
    kept = b"".join(bytes(value) for value in (row.sealed_ping_token or b"", row.auth_req_hash))
    assert auth_req_id.encode() not in kept and TOKEN.encode() not in kept
    with in_tenant(pinged.house.tenant.id):  # sealed for this row: in another it does not open
        other = BackchannelRequest(tenant=pinged.house.tenant, sealed_ping_token=row.sealed_ping_token)
    assert row.sealed_ping_token is not None
    with pytest.raises(RingError):
        unseal(row.sealed_ping_token, tenant_id=row.tenant_id, row_id=other.id, purpose="oauth.ping")


def test_nobody_is_pinged_before_there_is_an_answer_or_after_its_time(pinged: Flow, ear: Ear) -> None:
    begun(pinged, client_notification_token=TOKEN)
    listens(pinged, ear)
    assert ping(*due(pinged)) is False
    answer(pinged)
    with in_tenant(pinged.house.tenant.id):
        BackchannelRequest.objects.update(expires_at=now())
    assert ping(*due(pinged)) is False and ear.heard == []


def test_a_stopped_agent_is_told_nothing(pinged: Flow, ear: Ear) -> None:
    begun(pinged, client_notification_token=TOKEN)
    listens(pinged, ear)
    answer(pinged)
    with in_tenant(pinged.house.tenant.id):
        pinged.agent.suspend(by=pinged.house.owner)
    assert ping(*due(pinged)) is False and ear.heard == []


@pytest.mark.parametrize("says", [302, 400, 401, 500])
def test_what_was_not_taken_is_on_record_and_sent_again_by_the_clock(
    pinged: Flow, ear: Ear, queue: list[Any], says: int
) -> None:
    begun(pinged, client_notification_token=TOKEN)
    listens(pinged, ear)
    answer(pinged)
    ear.says = says
    assert ping(*due(pinged)) is False and len(ear.heard) == 1  # §10.2: a redirect is not followed
    (failed,) = events_of(pinged.house.tenant.id, "client.ping_failed")
    assert failed.agent_id == pinged.agent.id and TOKEN not in str(failed.details)
    queue.clear()
    assert ping_again() == 0 and ping(*due(pinged)) is False  # not at once
    with in_tenant(pinged.house.tenant.id):
        BackchannelRequest.objects.update(pinged_at=now() - timedelta(seconds=11))
    assert ping_again() == 1 and queue == [("agentauth.oauth.ping.ping", *due(pinged))]
    ear.says = 200  # §10.2: as good as 204
    assert ping(*due(pinged)) is True
    assert ping_again() == 0


def test_after_two_minutes_nobody_tries_any_more(pinged: Flow, ear: Ear, queue: list[Any]) -> None:
    begun(pinged, client_notification_token=TOKEN)
    answer(pinged)
    with in_tenant(pinged.house.tenant.id):
        BackchannelRequest.objects.update(allowed_at=now() - timedelta(minutes=2, seconds=1))
    assert ping_again() == 0


def test_a_queue_that_is_down_costs_the_person_nothing(pinged: Flow, ear: Ear) -> None:
    auth_req_id = begun(pinged, client_notification_token=TOKEN)
    with mock.patch.object(pinging, "hand_over", side_effect=OSError("no queue")):
        assert answer(pinged).status_code == 200
    assert fetch(pinged, auth_req_id).status_code == 200  # and the client may ask by itself
    assert ping(*due(pinged)) is False  # it knows already


def test_a_ping_goes_only_where_we_may_go(pinged: Flow) -> None:
    begun(pinged, client_notification_token=TOKEN)
    with in_tenant(pinged.house.tenant.id):
        BackchannelRequest.objects.update(ping_url="http://169.254.169.254/latest")
    answer(pinged)
    assert ping(*due(pinged)) is False
    assert len(events_of(pinged.house.tenant.id, "client.ping_failed")) == 1


def test_a_lost_key_ring_stops_the_ping_and_nothing_else(pinged: Flow, ear: Ear) -> None:
    auth_req_id = begun(pinged, client_notification_token=TOKEN)
    listens(pinged, ear)
    with mock.patch.object(pinging, "seal", side_effect=RingError("gone")):
        assert begin(pinged, client_notification_token=TOKEN).json()["error"] == "temporarily_unavailable"
    answer(pinged)
    with mock.patch.object(pinging, "unseal", side_effect=RingError("gone")):
        assert ping(*due(pinged)) is False and ear.heard == []
    assert fetch(pinged, auth_req_id).status_code == 200


def race_pings(flow: Flow, ear: Ear) -> None:
    begun(flow, client_notification_token=TOKEN)
    listens(flow, ear)
    answer(flow)
    ear.heard.clear()
    told = together(lambda: ping(*due(flow)))
    assert sum(told) == 1 and len(ear.heard) == 1


def test_of_many_workers_one_sends_it(pinged: Flow, ear: Ear) -> None:
    race_pings(pinged, ear)


def test_the_ping_race_catches_a_missing_lock(pinged: Flow, ear: Ear) -> None:
    def unlocked(**_: Any) -> Any:
        return BackchannelRequest.objects.all()

    def races() -> None:
        for _ in range(3):
            race_pings(pinged, ear)

    with mock.patch.object(BackchannelRequest.objects, "select_for_update", unlocked), pytest.raises(AssertionError):
        races()


# What is asked of a client that wants to be pinged


@pytest.mark.parametrize("token", [None, "", "two words", "é", "x" * 1025])
def test_it_sends_a_bearer_token_with_each_question(pinged: Flow, token: str | None) -> None:
    answered = begin(pinged, client_notification_token=token)  # §7.1: REQUIRED, at most 1024 characters
    assert (answered.status_code, answered.json()["error"]) == (400, "invalid_request")
    assert refused_for(pinged) == ["notification_token" if token else "missing_parameter"]


def test_from_a_client_that_polls_it_means_nothing(acme: House, queue: list[Any]) -> None:
    flow = asking_flow(acme)
    begun(flow, client_notification_token=TOKEN)
    assert rows_of(flow)[0].sealed_ping_token is None
    answer(flow)
    assert queue == []


def document(**changes: Any) -> dict[str, Any]:
    return {
        "client_name": "Asker",
        "grant_types": [GRANT],
        "token_endpoint_auth_method": "client_secret_basic",
    } | changes


def test_a_registration_says_how_it_wants_to_hear(acme: House) -> None:
    polls = register(acme, document())
    assert polls.status_code == 201, polls.content
    assert polls.json()["backchannel_token_delivery_mode"] == "poll" and polls.json()["grant_types"] == [GRANT]
    is_pinged = register(acme, document(**PING)).json()
    assert is_pinged["backchannel_token_delivery_mode"] == "ping"  # RFC 7591 §3.2.1: all that was registered
    assert is_pinged["backchannel_client_notification_endpoint"] == NOTIFY
    with in_tenant(acme.tenant.id):
        agent = acme.tenant.agents.get(client_id=is_pinged["client_id"])
    assert agent.ping_url == NOTIFY


@pytest.mark.parametrize(
    "changes",
    [
        {"backchannel_token_delivery_mode": "push"},
        {"backchannel_token_delivery_mode": 1},
        {"backchannel_token_delivery_mode": ["ping"]},
        {"backchannel_token_delivery_mode": "ping"},  # §4: the endpoint is REQUIRED
        PING | {"backchannel_client_notification_endpoint": "http://assistant.example/ping"},
        PING | {"backchannel_client_notification_endpoint": "https://"},
        PING | {"backchannel_client_notification_endpoint": "https://a.example/#x"},
        PING | {"backchannel_client_notification_endpoint": "https://user@a.example/"},
        PING | {"backchannel_client_notification_endpoint": "https://a.example/" + "x" * 500},
        PING | {"backchannel_client_notification_endpoint": "https://a.example/\r\nHost: b"},
        PING | {"backchannel_client_notification_endpoint": 5},
    ],
)
def test_a_registration_for_what_we_cannot_do_is_refused(acme: House, changes: dict[str, Any]) -> None:
    answered = register(acme, document(**changes))
    assert (answered.status_code, answered.json()["error"]) == (400, "invalid_client_metadata")
    assert "backchannel_" in answered.json()["error_description"]


def test_a_public_client_is_not_registered_for_it(acme: House) -> None:
    grants = ["authorization_code", GRANT]
    said = register(
        acme,
        document(grant_types=grants, token_endpoint_auth_method="none", redirect_uris=["http://127.0.0.1/cb"], **PING),
    ).json()
    assert said["grant_types"] == ["authorization_code"] and "backchannel_token_delivery_mode" not in said
    alone = register(acme, document(token_endpoint_auth_method="none"))
    assert (alone.status_code, alone.json()["error"]) == (400, "invalid_client_metadata")


def test_a_client_document_that_asks_for_push_keeps_its_other_grants() -> None:
    from agentauth.oauth.client_metadata import read_document

    said = {
        "client_name": "Asker",
        "grant_types": ["authorization_code", GRANT],
        "redirect_uris": ["https://assistant.example/cb"],
        "token_endpoint_auth_method": "private_key_jwt",
        "jwks_uri": "https://assistant.example/jwks.json",
    }
    assert GRANT in read_document(said | PING).grant_types
    assert read_document(said | {"backchannel_token_delivery_mode": "push"}).grant_types == ["authorization_code"]
