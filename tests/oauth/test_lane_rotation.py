"""Refresh tokens in the short lane (OAuth 2.1 §4.3.1): rotated as the ordinary way does it, and never twice."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta
from typing import Any
from unittest import mock

import psycopg
import pytest
from django.db import connections
from django.utils.timezone import now

from agentauth.agents.models import Agent
from agentauth.grants.models import Grant
from agentauth.oauth import statements
from agentauth.oauth.families import hold_family
from agentauth.oauth.models import RefreshToken
from tenants.models import Member, secret_hash
from tenants.rls import in_tenant
from tests.oauth.browser import Flow
from tests.oauth.serving import Answer, Serving, ask, asked, await_hearing, events, shape, told

Form = dict[str, str]


@pytest.fixture(params=["public", "flow"])
def client(request: pytest.FixtureRequest) -> Flow:
    """A public client and a confidential one."""
    found: Flow = request.getfixturevalue(request.param)
    return found


def form_of(client: Flow, token: str, **more: str) -> Form:
    return {"grant_type": "refresh_token", "refresh_token": token} | client.proof() | more


def warm(served: Serving, client: Flow, **more: str) -> Form:
    """A form that the lane will answer: its refresh token comes of an ordinary rotation."""
    first = client.tokens()["refresh_token"]
    await_hearing(served)
    answer = ask(served, client.path("token"), form_of(client, first, **more))
    assert answer.status == 200, answer.body
    await_hearing(served)
    return form_of(client, answer.json["refresh_token"], **more)


def by_the_lane(served: Serving, client: Flow, form: Form) -> Answer:
    before = served.lane.answered
    answer = ask(served, client.path("token"), form)
    assert served.lane.answered == before + 1, "the ordinary way answered"
    return answer


def row_of(client: Flow, token: str) -> RefreshToken:
    with in_tenant(client.house.tenant.id):
        return RefreshToken.objects.get(token_hash=secret_hash(token))


def fields_of(row: RefreshToken) -> dict[str, Any]:
    """All of a row but what is new in each."""
    own = {"id", "token_hash", "created_at", "expires_at", "access_jti"}
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields if field.name not in own}


def plain(answer: Answer) -> Any:
    status, headers, said = shape(answer)
    return status, headers, said and {name: value for name, value in said.items() if name != "refresh_token"}


@pytest.mark.parametrize("more", [{}, {"scope": "rooms:read"}], ids=["all", "narrower"])
def test_a_rotation_of_the_lane_is_one_of_the_ordinary_way(served: Serving, client: Flow, more: Form) -> None:
    form = warm(served, client, **more)
    expected = events(client)[-1]
    ordinary_row = row_of(client, form["refresh_token"])
    quick = by_the_lane(served, client, form)
    found = events(client)[-1]
    again = form | {"refresh_token": quick.json["refresh_token"]}
    ordinary = ask(served, client.path("token"), again, ordinary=True)
    assert plain(quick) == plain(ordinary) and quick.status == 200
    assert told(found) == told(expected) == told(events(client)[-1])
    row = row_of(client, quick.json["refresh_token"])
    spent = row_of(client, form["refresh_token"])
    assert spent.spent_at and spent.revoked_at is None and row.spent_at
    assert fields_of(row) | {"spent_at": None} == fields_of(ordinary_row)
    assert str(row.access_jti) == found.details["jti"]
    assert abs(row.expires_at - ordinary_row.expires_at) < timedelta(minutes=1)
    assert abs(row.created_at - now()) < timedelta(minutes=1)


def test_a_family_goes_on_in_the_lane(served: Serving, client: Flow) -> None:
    form = warm(served, client)
    for _ in range(5):
        form["refresh_token"] = by_the_lane(served, client, form).json["refresh_token"]
    with in_tenant(client.house.tenant.id):
        assert RefreshToken.objects.filter(spent_at=None, revoked_at=None).count() == 1


def test_a_second_use_of_one_ends_the_family(served: Serving, client: Flow) -> None:
    """OAuth 2.1 §4.3.1: the server MUST revoke what came of it."""
    form = warm(served, client)
    quick = by_the_lane(served, client, form)
    again = ask(served, client.path("token"), form)
    assert again.status == 400 and again.json["error"] == "invalid_grant"
    assert [event.action for event in events(client)[-2:]] == ["token.reused", "token.refused"]
    after = ask(served, client.path("token"), form | {"refresh_token": quick.json["refresh_token"]})
    assert after.status == 400 and after.json["error"] == "invalid_grant"
    token = {"token": quick.json["access_token"]} | client.proof()
    if client.secret:
        assert ask(served, client.path("introspect"), token).json == {"active": False}


def leave(client: Flow) -> None:
    Member.objects.filter(pk=client.house.members["matt"].pk).update(deactivated_at=now())


CHANGES = {
    "suspended": lambda client: client.agent.suspend(by=client.house.owner, reason="odd"),
    "revoked": lambda client: Grant.objects.get(agent=client.agent).revoke(by=client.house.members["matt"]),
    "expired": lambda client: Grant.objects.filter(agent=client.agent).update(expires_at=now()),
    "person has left": leave,
    "token revoked": lambda client: RefreshToken.objects.update(revoked_at=now()),
    "token ended": lambda client: RefreshToken.objects.update(expires_at=now()),
    "no public client any more": lambda client: Agent.objects.filter(pk=client.agent.pk).update(
        token_endpoint_auth_method="private_key_jwt"
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_ended_is_refused_as_the_ordinary_way_does_though_nothing_was_heard(
    served: Serving, public: Flow, change: str
) -> None:
    form = warm(served, public)
    with mock.patch.object(served.lane.hearing, "_on_notice"):
        with in_tenant(public.house.tenant.id):
            CHANGES[change](public)
        await_hearing(served)
        assert served.lane.memory._kept, "it was heard"
        issued = len([event for event in events(public) if event.action == "token.issued"])
        answer = ask(served, public.path("token"), form)
    assert answer.status in (400, 401) and "error" in answer.json
    assert len([event for event in events(public) if event.action == "token.issued"]) == issued
    assert row_of(public, form["refresh_token"]).spent_at is None


def test_of_many_with_the_same_token_one_wins_and_the_family_ends(served: Serving, client: Flow) -> None:
    path = client.path("token")
    for _ in range(3):
        form = warm(served, client)

        async def together(form: Form = form) -> list[Answer]:
            return list(await asyncio.gather(*(asked(served.lane, path, form) for _ in range(8))))

        answers = served.run(together())
        assert sorted({answer.status for answer in answers}) in ([200, 400], [400])
        assert len([answer for answer in answers if answer.status == 200]) <= 1
        with in_tenant(client.house.tenant.id):
            assert not RefreshToken.objects.filter(spent_at=None, revoked_at=None).exists()


def test_a_family_that_somebody_holds_makes_nobody_else_wait(served: Serving, client: Flow) -> None:
    """The lane does not wait for the family's lock: other tokens are in the same commit."""
    form, other = warm(served, client), warm(served, client)
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with in_tenant(client.house.tenant.id):
            hold_family(row_of_now(form["refresh_token"]).family)
            held.set()
            go_on.wait(10)
        connections.close_all()

    def row_of_now(token: str) -> RefreshToken:
        return RefreshToken.objects.get(token_hash=secret_hash(token))

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(10)

    async def both() -> tuple[Answer, Answer]:
        first = asyncio.create_task(asked(served.lane, client.path("token"), form))
        second = await asked(served.lane, client.path("token"), other)
        assert not first.done()
        go_on.set()
        return await first, second

    first, second = served.run(both())
    holder.join(10)
    assert (first.status, second.status) == (200, 200)


@pytest.mark.parametrize("holds", [True, False], ids=["as it is", "without the lock"])
def test_who_ends_a_family_waits_for_a_rotation_under_way(served: Serving, public: Flow, holds: bool) -> None:
    """Else the token that is being added would be missed, and live on. Without the lock this test must see that."""
    form = warm(served, public)
    rotations: list[list[bytes]] = []
    commands = statements.commands

    def noted(rows: Any) -> Any:
        found = list(commands(rows))
        rotations.extend(values for name, values in found if name == "rotate")
        return iter(())

    with mock.patch("agentauth.oauth.writer.commands", noted):
        ask(served, public.path("token"), form)  # the ordinary way rotates it in the end
    statement = statements.PREPARED["rotate"]
    if not holds:
        statement = statement.replace("AND pg_try_advisory_xact_lock(hashtextextended(a.family::text, 0))", "")
        assert statement != statements.PREPARED["rotate"]
    with in_tenant(public.house.tenant.id):  # as if it had not
        RefreshToken.objects.filter(token_hash=secret_hash(form["refresh_token"])).update(spent_at=None)
        RefreshToken.objects.exclude(token_hash=secret_hash(form["refresh_token"])).filter(spent_at=None).delete()
    given = connections["default"].get_connection_params()
    known = {key: given[key] for key in ("dbname", "user", "host")}
    ended = threading.Event()
    pids: list[int] = []

    def end() -> None:
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            pids.append(cursor.fetchone()[0])
        answer = public.post("revoke", {"token": form["refresh_token"]} | public.proof())
        assert answer.status_code == 200
        connections.close_all()
        ended.set()

    with psycopg.connect(**known) as db:
        db.execute("SELECT set_config('agentauth.tenant', %s, true)", [str(public.house.tenant.id)])
        numbered = db.pgconn.exec_params(statement.encode(), rotations[0], None, [1] * len(rotations[0]))
        assert numbered.get_value(0, 0), "it did not rotate"
        ender = threading.Thread(target=end)
        ender.start()
        deadline = time.monotonic() + 10
        with connections["owner"].cursor() as cursor:
            while True:
                cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = ANY(%s)", [pids])
                if cursor.fetchone() == (1,):
                    break
                assert time.monotonic() < deadline and not ended.is_set()
                time.sleep(0.01)
        db.commit()
    ender.join(10)
    with in_tenant(public.house.tenant.id):
        alive = RefreshToken.objects.filter(spent_at=None, revoked_at=None).exists()
    assert alive is not holds
