"""The short lane answers as the ordinary way does: the same requests through both, before and after every change.

Each change is also made with one wall taken away: what is heard, or what the last look at the database sees. The other
one must hold; and with both away the test must fail, else it proves nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from typing import Any
from unittest import mock
from urllib.parse import urlencode

import jwt
import pytest
from django.db import OperationalError, connections, transaction
from django.utils.timezone import now

from agentauth.agents.models import Agent, Credential
from agentauth.agents.registering import add_secret
from agentauth.grants.granting import give
from agentauth.grants.models import Grant
from agentauth.keys.rotating import rotate
from agentauth.oauth import hearing, statements, writer
from agentauth.oauth.memory import Issuable
from agentauth.resources.ceilings import set_ceiling
from agentauth.resources.models import Resource
from agentauth.resources.publishing import demand_bound_tokens
from agentauth.web import threads
from tenants.models import Tenant
from tenants.rls import in_tenant
from tests import cast
from tests.oauth.browser import Flow, basic
from tests.oauth.proofs import Holder
from tests.oauth.serving import Answer, Serving, ask, asked, await_hearing, events, shape, told, warmed


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


def token_form(flow: Flow, **more: str) -> dict[str, str]:
    return {"grant_type": "client_credentials", "resource": flow.resource} | flow.proof() | more


PROOFS: dict[str, Callable[[Flow], tuple[dict[str, str], dict[str, str]]]] = {
    "basic": lambda flow: ({}, {"authorization": basic(flow.agent.client_id, flow.secret)}),
    "post": lambda flow: (flow.proof(), {}),
}


@pytest.mark.parametrize("proof", PROOFS)
@pytest.mark.parametrize("extra", [{}, {"scope": "rooms:read"}, {"resource": ""}], ids=["all", "narrow", "anywhere"])
def test_a_token_of_the_lane_is_one_of_the_ordinary_way(
    served: Serving, by_itself: Flow, proof: str, extra: dict[str, str]
) -> None:
    fields, headers = PROOFS[proof](by_itself)
    form = {"grant_type": "client_credentials", "resource": by_itself.resource} | fields | extra
    ordinary = ask(served, by_itself.path("token"), form, ordinary=True, **headers)
    expected = events(by_itself)[-1]
    quick = warmed(served, by_itself.path("token"), form, **headers)
    found = events(by_itself)[-1]
    assert shape(quick) == shape(ordinary) and quick.status == 200
    assert told(found) == told(expected)
    claims = jwt.decode(quick.json["access_token"], options={"verify_signature": False})
    assert found.details["jti"] == claims["jti"] != expected.details["jti"]
    assert found.details["expires"] and found.ip == "192.0.2.7"
    again = ask(served, by_itself.path("introspect"), by_itself.proof() | {"token": quick.json["access_token"]})
    assert again.json["active"] is True  # signed by the key that is published


def test_an_introspection_of_the_lane_is_one_of_the_ordinary_way(served: Serving, by_itself: Flow) -> None:
    token = ask(served, by_itself.path("token"), token_form(by_itself)).json["access_token"]
    form = by_itself.proof() | {"token": token, "token_type_hint": "access_token"}
    ordinary = ask(served, by_itself.path("introspect"), form, ordinary=True)
    before = len(events(by_itself))
    assert shape(warmed(served, by_itself.path("introspect"), form)) == shape(ordinary)
    assert ordinary.json["active"] is True and len(events(by_itself)) == before


REFUSED: dict[str, Callable[[Flow], tuple[Any, dict[str, str]]]] = {
    "no grant type": lambda flow: (flow.proof(), {}),
    "other grant type": lambda flow: (token_form(flow, grant_type="password"), {}),
    "not registered": lambda flow: (token_form(flow, grant_type="refresh_token", refresh_token="x"), {}),
    "wrong secret": lambda flow: (token_form(flow, client_secret="aas_wrong"), {}),
    "no secret": lambda flow: ({**token_form(flow), "client_secret": ""}, {}),
    "unknown client": lambda flow: (token_form(flow, client_id="nobody"), {}),
    "two proofs": lambda flow: (token_form(flow), {"authorization": "Basic QTpC"}),
    "bad basic": lambda flow: (token_form(flow), {"authorization": "Basic !!!"}),
    "unknown resource": lambda flow: (token_form(flow, resource=flow.issuer), {}),
    "two resources": lambda flow: (token_form(flow) | {"resource": [flow.resource, flow.issuer]}, {}),
    "more scope": lambda flow: (token_form(flow, scope="finance:enter"), {}),
    "malformed scope": lambda flow: (token_form(flow, scope='"'), {}),
    "repeated": lambda flow: (urlencode([*token_form(flow).items(), ("scope", "a"), ("scope", "b")]).encode(), {}),
    "too long": lambda flow: (token_form(flow, scope="x" * 5000), {}),
    "not text": lambda flow: (b"grant_type=\xff\xfe", {}),
    "content type": lambda flow: (token_form(flow), {"content_type": "application/json"}),
    "empty": lambda flow: (b"", {}),
    "too large": lambda flow: (b"a=" + b"b" * 70_000, {}),
    "assertion": lambda flow: (token_form(flow, client_assertion="x.y.z"), {}),
    "GET": lambda flow: (token_form(flow), {"method": "GET"}),
    "unknown tenant": lambda flow: (token_form(flow), {"path": "/t/nobody/oauth/token"}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_ordinary_way_refuses_the_lane_refuses_alike(served: Serving, by_itself: Flow, case: str) -> None:
    warmed(served, by_itself.path("token"), token_form(by_itself))
    form, request = REFUSED[case](by_itself)
    path = request.pop("path", by_itself.path("token"))
    seen = []
    for ordinary in (True, False, False):
        before, answered = len(events(by_itself)), served.lane.answered
        await_hearing(served)
        answer = ask(served, path, form, ordinary=ordinary, **request)
        assert served.lane.answered == answered
        seen.append((shape(answer), [told(event) for event in events(by_itself)[before:]]))
    assert seen[0] == seen[1] == seen[2] and seen[0][0][0] != 200


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
    "bound tokens only": lambda flow: demand_bound_tokens(flow.house.office, by=flow.house.owner, demanded=True),
}
SEEN_IN_THE_DATABASE = {"suspended", "retired", "revoked", "credential retired", "bound tokens only"}


def after(served: Serving, flow: Flow, change: str, endpoint: str) -> tuple[Any, Any]:
    """What the lane says after this change, warm before it, and what the ordinary way says."""
    form = {"grant_type": "client_credentials", "scope": "rooms:read"} | flow.proof()
    if endpoint == "introspect":
        form = flow.proof() | {"token": ask(served, flow.path("token"), form).json["access_token"]}
    warmed(served, flow.path(endpoint), form)
    with in_tenant(flow.house.tenant.id):
        CHANGES[change](flow)
    await_hearing(served)
    quick = ask(served, flow.path(endpoint), form)
    return shape(quick), shape(ask(served, flow.path(endpoint), form, ordinary=True))


@pytest.mark.parametrize("endpoint", ["token", "introspect"])
@pytest.mark.parametrize("change", CHANGES)
def test_after_a_change_the_lane_says_what_the_ordinary_way_says(
    served: Serving, by_itself: Flow, change: str, endpoint: str
) -> None:
    quick, ordinary = after(served, by_itself, change, endpoint)
    assert quick == ordinary


@pytest.mark.parametrize("change", sorted(SEEN_IN_THE_DATABASE))
def test_what_was_not_heard_is_seen_when_the_event_is_written(served: Serving, by_itself: Flow, change: str) -> None:
    with mock.patch.object(served.lane.hearing, "_on_notice"):
        before = len([event for event in events(by_itself) if event.action == "token.issued"])
        quick, ordinary = after(served, by_itself, change, "token")
        issued = [event for event in events(by_itself) if event.action == "token.issued"]
    assert quick == ordinary and quick[0] != 200
    assert len(issued) == before + 2  # those of before the change


@pytest.mark.parametrize("change", sorted(SEEN_IN_THE_DATABASE | {"narrowed", "ceiling cut", "key rotated"}))
def test_deaf_and_blind_the_lane_is_caught(served: Serving, by_itself: Flow, change: str) -> None:
    blind = statements.PREPARED["tell"].replace(statements._STANDS, "true").replace(statements._PROVEN, "true")
    assert "(SELECT true" not in blind
    served.lane.ledger.reconnect()
    with mock.patch.object(served.lane.hearing, "_on_notice"), mock.patch.dict(statements.PREPARED, tell=blind):
        quick, ordinary = after(served, by_itself, change, "token")
    assert quick != ordinary


def test_a_suspended_tenant_gets_nothing_although_nothing_was_announced(served: Serving, by_itself: Flow) -> None:
    form = token_form(by_itself)
    warmed(served, by_itself.path("token"), form)
    Tenant.objects.filter(pk=by_itself.house.tenant.pk).update(suspended_at=now())
    assert ask(served, by_itself.path("token"), form).status == 404


def test_a_revoked_token_is_inactive_at_once_also_before_the_notice_comes(served: Serving, by_itself: Flow) -> None:
    token = ask(served, by_itself.path("token"), token_form(by_itself)).json["access_token"]
    form = by_itself.proof() | {"token": token}
    for _ in range(10):
        warmed(served, by_itself.path("introspect"), form)
        assert ask(served, by_itself.path("revoke"), form).status == 200
        assert ask(served, by_itself.path("introspect"), form).json == {"active": False}
        token = ask(served, by_itself.path("token"), token_form(by_itself)).json["access_token"]
        form = by_itself.proof() | {"token": token}


def test_nothing_outlives_its_end(served: Serving, by_itself: Flow) -> None:
    form = token_form(by_itself)
    with in_tenant(by_itself.house.tenant.id):
        Credential.objects.update(expires_at=now() + timedelta(seconds=60))
        Grant.objects.update(expires_at=now() + timedelta(seconds=90))
    answer = warmed(served, by_itself.path("token"), form)
    assert 80 <= answer.json["expires_in"] <= 90
    asked = by_itself.proof() | {"token": answer.json["access_token"]}
    warmed(served, by_itself.path("introspect"), asked)
    answered = served.lane.answered
    with mock.patch("agentauth.oauth.lane.time.time", return_value=time.time() + 61):
        ask(served, by_itself.path("token"), form)
        ask(served, by_itself.path("introspect"), asked)
    assert served.lane.answered == answered


def test_while_nothing_is_heard_the_ordinary_way_answers(served: Serving, by_itself: Flow) -> None:
    form = token_form(by_itself)
    warmed(served, by_itself.path("token"), form)
    served.run(served.lane.hearing.stop())
    answered = served.lane.answered
    assert ask(served, by_itself.path("token"), form).status == 200 and served.lane.answered == answered


def test_behind_a_pooler_that_swallows_notices_nothing_is_remembered(
    served: Serving, by_itself: Flow, caplog: pytest.LogCaptureFixture
) -> None:
    """There each statement succeeds, LISTEN too, and no notice ever comes."""
    form = token_form(by_itself)
    warmed(served, by_itself.path("token"), form)
    connect = hearing.connect

    async def lent(name: str, *, direct: bool = True) -> Any:
        connection = await connect(name, direct=direct)
        if name == "agentauth-lane-hearing":
            mock.patch.object(connection, "execute", mock.AsyncMock()).start()
        return connection

    with mock.patch.object(hearing, "connect", lent), mock.patch.object(hearing, "PATIENCE", 0.2):
        served.run(served.lane.hearing.stop())
        served.do(served.lane.hearing.start)
        answered = served.lane.answered
        assert not served.run(served.lane.hearing.becomes_fresh(0.5))
        assert ask(served, by_itself.path("token"), form).status == 200 and served.lane.answered == answered
        deadline = time.monotonic() + 10
        while not any("no notice comes back" in record.getMessage() for record in caplog.records):
            assert time.monotonic() < deadline
            served.run(served.lane.hearing.becomes_fresh(0.05))


def test_no_token_without_its_event(served: Serving, by_itself: Flow) -> None:
    form = token_form(by_itself)
    warmed(served, by_itself.path("token"), form)
    served.lane.ledger.reconnect()
    with mock.patch.object(writer, "connect", side_effect=OSError("gone")):
        answer = ask(served, by_itself.path("token"), form)
    assert answer.status == 503 and answer.json["error"] == "temporarily_unavailable"
    assert ask(served, by_itself.path("token"), form).status == 200


@pytest.mark.parametrize("endpoint", ["token", "introspect", "revoke"])
def test_without_its_database_an_endpoint_says_503(served: Serving, by_itself: Flow, endpoint: str) -> None:
    with mock.patch("agentauth.oauth.door.find_tenant", side_effect=OperationalError("gone")):
        for ordinary in (False, True):
            answer = ask(served, by_itself.path(endpoint), token_form(by_itself), ordinary=ordinary)
            assert answer.status == 503 and answer.json["error"] == "temporarily_unavailable"
            assert answer.headers["cache-control"] == "no-store"


def test_a_database_that_hangs_is_503_within_seconds_and_all_is_well_afterwards(
    served: Serving, by_itself: Flow
) -> None:
    path, form = by_itself.path("token"), token_form(by_itself)
    warmed(served, path, form)

    async def many() -> list[Answer]:
        return list(await asyncio.gather(*(asked(served.lane, path, form) for _ in range(5))))

    before = served.lane.answered
    with connections["owner"].cursor() as cursor, transaction.atomic(using="owner"):
        cursor.execute("LOCK TABLE audit_unsequenced IN ACCESS EXCLUSIVE MODE")
        with mock.patch.object(writer, "PATIENCE", 0.3):
            began = time.monotonic()
            answers = served.run(many())
    assert {answer.status for answer in answers} == {503} and time.monotonic() - began < 3
    assert {answer.json["error"] for answer in answers} == {"temporarily_unavailable"}
    assert served.lane.answered == before + 5
    await_hearing(served)
    assert ask(served, path, form).status == 200 and served.lane.answered == before + 6


def test_requests_in_flight_share_commits_and_each_token_has_its_event(served: Serving, by_itself: Flow) -> None:
    path, form = by_itself.path("token"), token_form(by_itself)
    warmed(served, path, form)
    before, commits = served.lane.answered, []
    write = writer.Writer.write

    async def counted(self: Any, rows: Any, meanwhile: Any) -> Any:
        commits.append(len(rows))
        return await write(self, rows, meanwhile)

    async def one_after_another() -> list[Answer]:
        return [await asked(served.lane, path, form) for _ in range(10)]

    async def side_by_side() -> list[Answer]:
        return [one for some in await asyncio.gather(*(one_after_another() for _ in range(8))) for one in some]

    with mock.patch.object(writer.Writer, "write", counted):
        answers = served.run(side_by_side())
    given = {jwt.decode(one.json["access_token"], options={"verify_signature": False})["jti"] for one in answers}
    recorded = {event.details["jti"] for event in events(by_itself) if event.action == "token.issued"}
    assert len(given) == 80 and given <= recorded
    assert sum(commits) == served.lane.answered - before == 80 and len(commits) <= 30


def test_who_goes_away_leaves_an_event_and_holds_nobody_up(served: Serving, by_itself: Flow) -> None:
    path, form = by_itself.path("token"), token_form(by_itself)
    warmed(served, path, form)
    before = len(events(by_itself))

    async def gone() -> None:
        task = asyncio.create_task(asked(served.lane, path, form))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    served.run(gone())
    assert ask(served, path, form).status == 200
    assert len(events(by_itself)) >= before + 1


def test_events_of_several_tenants_share_a_commit_and_each_is_in_its_own(
    served: Serving, by_itself: Flow, globex: cast.House
) -> None:
    with in_tenant(globex.tenant.id):
        globex.members["matt"] = globex.owner
        agent = cast.assistant(globex, kind="autonomous", redirect_uris=[])
        _, secret = add_secret(agent, by=globex.owner)
        grant_to_itself(globex, agent)
    flows = [by_itself, Flow(globex, agent, secret)]
    for flow in flows:
        warmed(served, flow.path("token"), token_form(flow))
    kept = [entry for entry in served.lane.memory._kept.values() if isinstance(entry, Issuable)]
    assert len({entry.event.tenant_id for entry in kept}) == 2
    with in_tenant(globex.tenant.id):
        agent.suspend(by=globex.owner, reason="odd")
    rows = [entry.event.row(ip="192.0.2.7", details={"jti": "x"}) for entry in kept]
    one = writer.Writer(statements.PREPARED)
    written = served.run(one.write(rows))
    served.do(one.close)
    assert {row.id in written for row in rows if row.tenant_id == str(by_itself.house.tenant.id)} == {True}
    assert {row.id in written for row in rows if row.tenant_id == str(globex.tenant.id)} == {False}
    assert [event.tenant_id for event in events(by_itself)[-1:]] == [by_itself.house.tenant.id]
    assert "x" not in [event.details.get("jti") for event in events(flows[1])]


@pytest.mark.parametrize("endpoint", ["token", "introspect", "revoke", "par"])
def test_a_body_beyond_all_bounds_is_refused_as_any_that_is_too_large(
    served: Serving, by_itself: Flow, endpoint: str
) -> None:
    answer = ask(served, by_itself.path(endpoint), b"a=" + b"x" * threads.LARGEST_BODY)
    assert (answer.status, answer.json["error"]) == (413, "invalid_request")
    assert answer.headers["cache-control"] == "no-store" and answer.headers["connection"] == "close"
    assert events(by_itself)[-1].reasons == ["body_too_large"]


def test_another_tenants_way_in_is_its_own(served: Serving, by_itself: Flow, globex: cast.House) -> None:
    form = token_form(by_itself)
    warmed(served, by_itself.path("token"), form)
    answer = ask(served, f"/t/{globex.tenant.slug}/oauth/token", form)
    assert answer.status == 401 and answer.json["error"] == "invalid_client"


def test_a_request_with_a_proof_goes_the_ordinary_way_and_is_never_remembered(served: Serving, by_itself: Flow) -> None:
    """RFC 9449 §5: what it gets is bound to its key, so it is nobody else's answer."""
    path, form, holder = by_itself.path("token"), token_form(by_itself), Holder()
    warmed(served, path, form)
    before = served.lane.answered
    for _ in range(3):
        answer = ask(served, path, form, dpop=holder.proof("POST", f"{by_itself.issuer}/oauth/token"))
        claims = jwt.decode(answer.json["access_token"], options={"verify_signature": False})
        assert (answer.json["token_type"], claims["cnf"]) == ("DPoP", {"jkt": holder.jkt})
    assert served.lane.answered == before
    bearer = ask(served, path, form)
    assert bearer.json["token_type"] == "Bearer" and served.lane.answered == before + 1


def test_who_must_bind_its_tokens_gets_no_more_of_the_other_kind(served: Serving, by_itself: Flow) -> None:
    """RFC 9449 §5.2, also where the lane has just given one."""
    path, form = by_itself.path("token"), token_form(by_itself)
    for wall in ("heard", "seen by the last look"):
        require_bound(by_itself, wanted=False)
        warmed(served, path, form)
        with mock.patch.object(served.lane.hearing, "_on_notice") if wall != "heard" else nullcontext():
            require_bound(by_itself, wanted=True)
            await_hearing(served)
            for _ in range(3):
                answer = ask(served, path, form)
                assert (answer.status, answer.json["error"]) == (400, "invalid_dpop_proof"), wall
        assert events(by_itself)[-1].reasons == ["proof_missing"]


def require_bound(flow: Flow, *, wanted: bool) -> None:
    with in_tenant(flow.house.tenant.id):
        agent = Agent.objects.get(pk=flow.agent.pk)
        agent.change(by=flow.house.owner, dpop_bound_access_tokens=wanted)


def test_without_a_free_thread_the_answer_is_503_and_nothing_fails(served: Serving, by_itself: Flow) -> None:
    form = token_form(by_itself)
    with mock.patch.object(threads, "MOST_WAITING", 0):
        assert ask(served, by_itself.path("token"), form).status == 503
    assert ask(served, by_itself.path("token"), form).status == 200
