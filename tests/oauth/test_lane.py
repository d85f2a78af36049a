"""The short lane answers as the ordinary way does: the same requests through both, before and after every change.

Each change is also made with one wall taken away: what is heard, or what the last look at the database sees. The other
one must hold; and with both away the test must fail, else it proves nothing.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from io import BytesIO
from typing import Any
from unittest import mock
from urllib.parse import urlencode

import jwt
import orjson
import pytest
from django.core.wsgi import get_wsgi_application
from django.db import OperationalError, connections
from django.utils.timezone import now

from agentauth.agents.models import Agent, Credential
from agentauth.agents.registering import add_secret
from agentauth.grants.granting import give
from agentauth.grants.models import Grant
from agentauth.keys.signing import rotate
from agentauth.oauth import ledger
from agentauth.oauth.lane import Lane
from agentauth.oauth.memory import Issuable
from agentauth.resources.ceilings import set_ceiling
from agentauth.resources.models import Resource
from audit.actions import Action
from audit.models import Event
from audit.record import event_row
from tenants.models import Tenant
from tenants.rls import in_tenant
from tests import cast
from tests.oauth.browser import Flow, basic

FORM = "application/x-www-form-urlencoded"


class Answer:
    def __init__(self, status: str, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status, self.headers, self.body = status, dict(headers), body
        assert len(self.headers) == len(headers)
        assert self.headers.pop("Content-Length") == str(len(body))

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


def ask(application: Any, path: str, form: Any, **environ: str) -> Answer:
    """One POST, as a WSGI server would hand it over."""
    body = form if isinstance(form, bytes) else urlencode(form, doseq=True).encode()
    whole: dict[str, Any] = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "localhost:8000",
        "REMOTE_ADDR": "192.0.2.7",
        "CONTENT_TYPE": FORM,
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(body),
        "wsgi.errors": BytesIO(),
    } | environ
    told: list[Any] = []
    answer = application(whole, lambda status, headers, *_: told.extend((status, headers)))
    return Answer(told[0], told[1], b"".join(answer))


@pytest.fixture
def by_itself(acme: cast.House) -> Flow:
    with in_tenant(acme.tenant.id):
        agent = cast.assistant(acme, kind="autonomous", redirect_uris=[])
        _, secret = add_secret(agent, by=acme.owner)
        grant_to_itself(acme, agent)
    return Flow(acme, agent, secret)


def grant_to_itself(house: cast.House, agent: Agent, resource: Resource | None = None) -> Grant:
    at = resource or house.office
    names = ("rooms:read", "rooms:book")
    scopes = {name: at.scopes.get(name=name) for name in names}
    return give(
        agent=agent,
        resource=at,
        member=None,
        by=house.owner,
        permissions=dict.fromkeys(scopes.values(), "always"),
        expires_at=now() + timedelta(days=1),
    )


@pytest.fixture
def lane(by_itself: Flow) -> Iterator[Lane]:
    lane = Lane(get_wsgi_application())
    lane.hearing.ensure_started()
    await_hearing(lane)
    yield lane
    lane.stop()
    connections["default"].close()


def await_hearing(lane: Lane) -> None:
    """Until a beat that began after now: whatever was committed before has then been heard."""
    lane.hearing.doubt()
    deadline = time.monotonic() + 10
    while not lane.hearing.is_fresh:
        assert time.monotonic() < deadline, "the lane does not hear"
        time.sleep(0.005)


def token_form(flow: Flow, **more: str) -> dict[str, str]:
    return {"grant_type": "client_credentials", "resource": flow.resource} | flow.proof() | more


def warmed(lane: Lane, path: str, form: Any, **environ: str) -> Answer:
    """The answer of the lane itself, after the ordinary way gave one."""
    await_hearing(lane)  # what is on its way now is not about the answer to come
    ask(lane, path, form, **environ)
    await_hearing(lane)
    before = lane.answered
    answer = ask(lane, path, form, **environ)
    assert lane.answered == before + 1, "the ordinary way answered"
    return answer


def shape(answer: Answer) -> Any:
    """All of an answer but what is new in each token."""
    said = dict(answer.json) if answer.body else None
    if said and "access_token" in said:
        token = said["access_token"]
        claims = jwt.decode(token, options={"verify_signature": False})
        claims |= {"jti": "", "exp": claims["exp"] - claims["iat"], "iat": 0}
        said["access_token"] = (jwt.get_unverified_header(token), claims)
    return answer.status, answer.headers, said


def events(flow: Flow) -> list[Event]:
    with in_tenant(flow.house.tenant.id):
        return flow.house.events()


def told(event: Event) -> Any:
    """All of an event but its id, its time and the token's own."""
    body = orjson.loads(event.body)
    assert body.pop("id") == str(event.id) and body.pop("at")
    details = {name: value for name, value in body.get("details", {}).items() if name not in ("jti", "expires")}
    columns = Event.objects.model._meta.concrete_fields
    row = {f.attname: getattr(event, f.attname) for f in columns if f.name not in ("id", "at", "details", "body")}
    return body | {"details": details}, row


PROOFS: dict[str, Callable[[Flow], tuple[dict[str, str], dict[str, str]]]] = {
    "basic": lambda flow: ({}, {"HTTP_AUTHORIZATION": basic(flow.agent.client_id, flow.secret)}),
    "post": lambda flow: (flow.proof(), {}),
}


@pytest.mark.parametrize("proof", PROOFS)
@pytest.mark.parametrize("extra", [{}, {"scope": "rooms:read"}, {"resource": ""}], ids=["all", "narrow", "anywhere"])
def test_a_token_of_the_lane_is_one_of_the_ordinary_way(
    lane: Lane, by_itself: Flow, proof: str, extra: dict[str, str]
) -> None:
    fields, headers = PROOFS[proof](by_itself)
    form = {"grant_type": "client_credentials", "resource": by_itself.resource} | fields | extra
    ordinary = ask(get_wsgi_application(), by_itself.path("token"), form, **headers)
    expected = events(by_itself)[-1]
    quick = warmed(lane, by_itself.path("token"), form, **headers)
    found = events(by_itself)[-1]
    assert shape(quick) == shape(ordinary) and quick.status == "200 OK"
    assert told(found) == told(expected)
    claims = jwt.decode(quick.json["access_token"], options={"verify_signature": False})
    assert found.details["jti"] == claims["jti"] != expected.details["jti"]
    assert found.details["expires"] and found.ip == "192.0.2.7"
    again = ask(lane, by_itself.path("introspect"), by_itself.proof() | {"token": quick.json["access_token"]})
    assert again.json["active"] is True  # signed by the key that is published


def test_an_introspection_of_the_lane_is_one_of_the_ordinary_way(lane: Lane, by_itself: Flow) -> None:
    token = ask(lane, by_itself.path("token"), token_form(by_itself)).json["access_token"]
    form = by_itself.proof() | {"token": token, "token_type_hint": "access_token"}
    ordinary = ask(get_wsgi_application(), by_itself.path("introspect"), form)
    before = len(events(by_itself))
    assert shape(warmed(lane, by_itself.path("introspect"), form)) == shape(ordinary)
    assert ordinary.json["active"] is True and len(events(by_itself)) == before


REFUSED: dict[str, Callable[[Flow], tuple[Any, dict[str, str]]]] = {
    "no grant type": lambda flow: (flow.proof(), {}),
    "other grant type": lambda flow: (token_form(flow, grant_type="password"), {}),
    "not registered": lambda flow: (token_form(flow, grant_type="refresh_token", refresh_token="x"), {}),
    "wrong secret": lambda flow: (token_form(flow, client_secret="aas_wrong"), {}),
    "no secret": lambda flow: ({**token_form(flow), "client_secret": ""}, {}),
    "unknown client": lambda flow: (token_form(flow, client_id="nobody"), {}),
    "two proofs": lambda flow: (token_form(flow), {"HTTP_AUTHORIZATION": "Basic QTpC"}),
    "bad basic": lambda flow: (token_form(flow), {"HTTP_AUTHORIZATION": "Basic !!!"}),
    "unknown resource": lambda flow: (token_form(flow, resource=flow.issuer), {}),
    "two resources": lambda flow: (token_form(flow) | {"resource": [flow.resource, flow.issuer]}, {}),
    "more scope": lambda flow: (token_form(flow, scope="finance:enter"), {}),
    "malformed scope": lambda flow: (token_form(flow, scope='"'), {}),
    "repeated": lambda flow: (urlencode([*token_form(flow).items(), ("scope", "a"), ("scope", "b")]).encode(), {}),
    "too long": lambda flow: (token_form(flow, scope="x" * 5000), {}),
    "not text": lambda flow: (b"grant_type=\xff\xfe", {}),
    "content type": lambda flow: (token_form(flow), {"CONTENT_TYPE": "application/json"}),
    "empty": lambda flow: (b"", {}),
    "too large": lambda flow: (b"a=" + b"b" * 70_000, {}),
    "assertion": lambda flow: (token_form(flow, client_assertion="x.y.z"), {}),
    "GET": lambda flow: (token_form(flow), {"REQUEST_METHOD": "GET"}),
    "unknown tenant": lambda flow: (token_form(flow), {"PATH_INFO": "/t/nobody/oauth/token"}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_ordinary_way_refuses_the_lane_refuses_alike(lane: Lane, by_itself: Flow, case: str) -> None:
    warmed(lane, by_itself.path("token"), token_form(by_itself))
    form, environ = REFUSED[case](by_itself)
    seen = []
    for application in (get_wsgi_application(), lane, lane):
        before, answered = len(events(by_itself)), lane.answered
        await_hearing(lane)
        answer = ask(application, by_itself.path("token"), form, **environ)
        assert lane.answered == answered
        seen.append((shape(answer), [told(event) for event in events(by_itself)[before:]]))
    assert seen[0] == seen[1] == seen[2] and not seen[0][0][0].startswith("200")


def cut(flow: Flow) -> None:
    set_ceiling(flow.agent, [flow.house.scope("rooms:book")], by=flow.house.owner)


def narrow(flow: Flow) -> None:
    Grant.objects.get(agent=flow.agent).narrow(
        by=flow.house.owner, permissions={flow.house.scope("rooms:read"): "never"}
    )


def replace_grant(flow: Flow) -> None:
    grant_to_itself(flow.house, flow.agent)


def elsewhere_too(flow: Flow) -> None:
    other = cast.office(flow.house, slug="annex")
    set_ceiling(flow.agent, [*flow.house.office.scopes.all(), *other.scopes.all()], by=flow.house.owner)
    grant_to_itself(flow.house, flow.agent, other)


def retire_credential(flow: Flow) -> None:
    Credential.objects.get(agent=flow.agent).retire(by=flow.house.owner)


def other_agent(flow: Flow) -> None:
    cast.assistant(flow.house, name="Another")


CHANGES: dict[str, Callable[[Flow], Any]] = {
    "suspended": lambda flow: flow.agent.suspend(by=flow.house.owner, reason="odd"),
    "retired": lambda flow: flow.agent.retire(by=flow.house.owner, reason="odd"),
    "revoked": lambda flow: Grant.objects.get(agent=flow.agent).revoke(by=flow.house.owner),
    "credential retired": retire_credential,
    "ceiling cut": cut,
    "narrowed": narrow,
    "replaced": replace_grant,
    "a second grant elsewhere": elsewhere_too,
    "key rotated": lambda flow: rotate(flow.house.tenant.id, by=cast.CAST),
    "another agent": other_agent,
}
SEEN_IN_THE_DATABASE = {"suspended", "retired", "revoked", "credential retired"}


def after(lane: Lane, flow: Flow, change: str, endpoint: str) -> tuple[Any, Any]:
    """What the lane says after this change, warm before it, and what the ordinary way says."""
    form = {"grant_type": "client_credentials", "scope": "rooms:read"} | flow.proof()
    if endpoint == "introspect":
        form = flow.proof() | {"token": ask(lane, flow.path("token"), form).json["access_token"]}
    warmed(lane, flow.path(endpoint), form)
    with in_tenant(flow.house.tenant.id):
        CHANGES[change](flow)
    await_hearing(lane)
    return shape(ask(lane, flow.path(endpoint), form)), shape(ask(get_wsgi_application(), flow.path(endpoint), form))


@pytest.mark.parametrize("endpoint", ["token", "introspect"])
@pytest.mark.parametrize("change", CHANGES)
def test_after_a_change_the_lane_says_what_the_ordinary_way_says(
    lane: Lane, by_itself: Flow, change: str, endpoint: str
) -> None:
    quick, ordinary = after(lane, by_itself, change, endpoint)
    assert quick == ordinary


@pytest.mark.parametrize("change", sorted(SEEN_IN_THE_DATABASE))
def test_what_was_not_heard_is_seen_when_the_event_is_written(lane: Lane, by_itself: Flow, change: str) -> None:
    with mock.patch.object(lane.hearing, "_on_notice"):
        before = len([event for event in events(by_itself) if event.action == "token.issued"])
        quick, ordinary = after(lane, by_itself, change, "token")
        issued = [event for event in events(by_itself) if event.action == "token.issued"]
    assert quick == ordinary and not quick[0].startswith("200")
    assert len(issued) == before + 2  # those of before the change


@pytest.mark.parametrize("change", sorted(SEEN_IN_THE_DATABASE | {"narrowed", "ceiling cut", "key rotated"}))
def test_deaf_and_blind_the_lane_is_caught(lane: Lane, by_itself: Flow, change: str) -> None:
    blind = re.sub(r"WHERE EXISTS.*?RETURNING", "RETURNING", ledger._RECORD, count=1, flags=re.DOTALL)
    lane.ledger.reconnect()
    with mock.patch.object(lane.hearing, "_on_notice"), mock.patch.object(ledger, "_RECORD", blind):
        quick, ordinary = after(lane, by_itself, change, "token")
    assert quick != ordinary


def test_a_suspended_tenant_gets_nothing_although_nothing_was_announced(lane: Lane, by_itself: Flow) -> None:
    form = token_form(by_itself)
    warmed(lane, by_itself.path("token"), form)
    Tenant.objects.filter(pk=by_itself.house.tenant.pk).update(suspended_at=now())
    assert ask(lane, by_itself.path("token"), form).status.startswith("404")


def test_a_revoked_token_is_inactive_at_once_also_before_the_notice_comes(lane: Lane, by_itself: Flow) -> None:
    token = ask(lane, by_itself.path("token"), token_form(by_itself)).json["access_token"]
    form = by_itself.proof() | {"token": token}
    for _ in range(10):
        warmed(lane, by_itself.path("introspect"), form)
        assert ask(lane, by_itself.path("revoke"), form).status == "200 OK"
        assert ask(lane, by_itself.path("introspect"), form).json == {"active": False}
        token = ask(lane, by_itself.path("token"), token_form(by_itself)).json["access_token"]
        form = by_itself.proof() | {"token": token}


def test_nothing_outlives_its_end(lane: Lane, by_itself: Flow) -> None:
    form = token_form(by_itself)
    with in_tenant(by_itself.house.tenant.id):
        Credential.objects.update(expires_at=now() + timedelta(seconds=60))
        Grant.objects.update(expires_at=now() + timedelta(seconds=90))
    answer = warmed(lane, by_itself.path("token"), form)
    assert 80 <= answer.json["expires_in"] <= 90
    asked = by_itself.proof() | {"token": answer.json["access_token"]}
    warmed(lane, by_itself.path("introspect"), asked)
    answered = lane.answered
    with mock.patch("agentauth.oauth.lane.time.time", return_value=time.time() + 61):
        ask(lane, by_itself.path("token"), form)
        ask(lane, by_itself.path("introspect"), asked)
    assert lane.answered == answered


def test_while_nothing_is_heard_the_ordinary_way_answers(lane: Lane, by_itself: Flow) -> None:
    form = token_form(by_itself)
    warmed(lane, by_itself.path("token"), form)
    lane.hearing.stop()
    answered = lane.answered
    assert ask(lane, by_itself.path("token"), form).status == "200 OK" and lane.answered == answered


def test_no_token_without_its_event(lane: Lane, by_itself: Flow) -> None:
    form = token_form(by_itself)
    warmed(lane, by_itself.path("token"), form)
    lane.ledger.reconnect()
    with mock.patch.object(ledger, "connect", side_effect=OSError("gone")):
        answer = ask(lane, by_itself.path("token"), form)
    assert answer.status.startswith("503") and answer.json["error"] == "temporarily_unavailable"
    assert ask(lane, by_itself.path("token"), form).status == "200 OK"


@pytest.mark.parametrize("endpoint", ["token", "introspect", "revoke"])
def test_without_its_database_an_endpoint_says_503(lane: Lane, by_itself: Flow, endpoint: str) -> None:
    with mock.patch("agentauth.oauth.door.find_tenant", side_effect=OperationalError("gone")):
        for application in (lane, get_wsgi_application()):
            answer = ask(application, by_itself.path(endpoint), token_form(by_itself))
            assert answer.status.startswith("503") and answer.json["error"] == "temporarily_unavailable"
            assert answer.headers["Cache-Control"] == "no-store"


def test_requests_in_flight_share_commits_and_each_token_has_its_event(lane: Lane, by_itself: Flow) -> None:
    form = token_form(by_itself)
    warmed(lane, by_itself.path("token"), form)
    before, commits = lane.answered, []
    write = ledger.Ledger._write
    answers: list[Answer] = []

    def counted(self: Any, batch: Any) -> Any:
        commits.append(len(batch))
        return write(self, batch)

    def run() -> None:
        for _ in range(10):
            answers.append(ask(lane, by_itself.path("token"), form))
        connections.close_all()

    with mock.patch.object(ledger.Ledger, "_write", counted):
        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    given = {jwt.decode(one.json["access_token"], options={"verify_signature": False})["jti"] for one in answers}
    recorded = {event.details["jti"] for event in events(by_itself) if event.action == "token.issued"}
    assert len(given) == 80 and given <= recorded
    assert sum(commits) == lane.answered - before and len(commits) < sum(commits)


def test_events_of_several_tenants_share_a_commit_and_each_is_in_its_own(
    lane: Lane, by_itself: Flow, globex: cast.House
) -> None:
    with in_tenant(globex.tenant.id):
        globex.members["matt"] = globex.owner
        agent = cast.assistant(globex, kind="autonomous", redirect_uris=[])
        _, secret = add_secret(agent, by=globex.owner)
        grant_to_itself(globex, agent)
    flows = [by_itself, Flow(globex, agent, secret)]
    entries = []
    for flow in flows:
        warmed(lane, flow.path("token"), token_form(flow))
    kept = [entry for entry in lane.memory._kept.values() if isinstance(entry, Issuable)]
    assert len({entry.tenant_id for entry in kept}) == 2
    with in_tenant(globex.tenant.id):
        agent.suspend(by=globex.owner, reason="odd")
    for entry in kept:
        row = event_row(Action.TOKEN_ISSUED, tenant_id=entry.tenant_id, details={"jti": "x"}, **entry.event)
        entries.append(ledger._Waiting(row, entry.credential_id))
    written = ledger.Ledger()._write(entries)
    assert {str(one.row[0]) in written for one in entries if one.row[1] == by_itself.house.tenant.id} == {True}
    assert {str(one.row[0]) in written for one in entries if one.row[1] == globex.tenant.id} == {False}
    assert [event.tenant_id for event in events(by_itself)[-1:]] == [by_itself.house.tenant.id]
    assert "x" not in [event.details.get("jti") for event in events(flows[1])]


def test_another_tenants_way_in_is_its_own(lane: Lane, by_itself: Flow, globex: cast.House) -> None:
    form = token_form(by_itself)
    warmed(lane, by_itself.path("token"), form)
    answer = ask(lane, f"/t/{globex.tenant.slug}/oauth/token", form)
    assert answer.status.startswith("401") and answer.json["error"] == "invalid_client"
