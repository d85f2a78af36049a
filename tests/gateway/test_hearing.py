"""A worker trusts what it holds only while it really hears: a pooler that swallows notices is noticed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest
from django.conf import settings

from agentauth.gateway import database, hearing
from agentauth.gateway.hearing import Hearing
from tenants.notice import announce
from tenants.rls import in_tenant, new_id

pytestmark = pytest.mark.django_db(transaction=True)
Heard = list[tuple[UUID, str, str]]


async def until(look: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not look():  # noqa: ASYNC110  # nobody else would set an event
            await asyncio.sleep(0.01)


def listening(act: Callable[[Hearing, Heard], Awaitable[None]]) -> None:
    """Run `act` beside a worker that listens."""

    async def run() -> None:
        heard: Heard = []

        async def gap() -> None: ...

        one = Hearing(lambda *notice: heard.append(notice), gap)
        task = asyncio.create_task(one.run())
        try:
            await act(one, heard)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


def through_a_pooler(monkeypatch: pytest.MonkeyPatch) -> list[database.Connection]:
    """What is listened for belongs to a server connection that is not ours for the next transaction."""
    opened: list[database.Connection] = []
    connect = database.connect

    async def pooled(*, direct: bool = False) -> database.Connection:
        connection = await connect()
        execute = connection.execute

        async def one(query: Any, *more: Any) -> Any:
            cursor = await execute(query, *more)
            if str(query).startswith("LISTEN"):
                await execute("UNLISTEN *")
            return cursor

        monkeypatch.setattr(connection, "execute", one)
        opened.append(connection)
        return connection

    monkeypatch.setattr(hearing, "connect", pooled)
    return opened


def test_who_hears_itself_trusts_what_it_holds_and_hears_others() -> None:
    async def act(one: Hearing, heard: Heard) -> None:
        await until(lambda: one.is_fresh)
        tenant = new_id()

        def say() -> None:
            from django.db import connection

            with in_tenant(tenant):
                announce(tenant, "config", "agents:x")
            connection.close()

        await asyncio.to_thread(say)
        await until(lambda: (tenant, "config", "agents:x") in heard, 1)
        assert all(what == "config" for _, what, _ in heard)  # its own word is nobody's notice

    listening(act)


def test_behind_a_pooler_that_swallows_notices_nothing_is_trusted_and_the_log_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hearing, "TRUST", 0.2)
    through_a_pooler(monkeypatch)

    async def act(one: Hearing, heard: Heard) -> None:
        await until(lambda: "AGENTAUTH_DATABASE_DIRECT_URL" in caplog.text)
        assert not one.is_fresh and one.silence > 0

    listening(act)


def test_who_goes_deaf_later_is_found_out_at_the_next_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hearing, "SELF_CALL", 0.3)
    monkeypatch.setattr(hearing, "TRUST", 0.3)
    kept: list[database.Connection] = []
    connect = database.connect

    async def watched(*, direct: bool = False) -> database.Connection:
        connection = await connect()
        if direct:
            kept.append(connection)
        return connection

    monkeypatch.setattr(hearing, "connect", watched)

    async def act(one: Hearing, heard: Heard) -> None:
        await until(lambda: one.is_fresh)
        async with asyncio.timeout(5):
            await kept[0].execute("UNLISTEN *")  # as if another server connection stood behind it now
        await until(lambda: not one.is_fresh)
        await until(lambda: one.is_fresh and len(kept) > 1)  # a connection anew

    listening(act)


def test_whoever_listens_goes_past_the_pooler_when_a_way_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    past = {**settings.DATABASES["default"], "HOST": "/past/the/pooler"}
    monkeypatch.setattr(settings, "DATABASE_DIRECT", past)
    assert "/past/the/pooler" in database.conninfo(direct=True)
    assert "/past/the/pooler" not in database.conninfo()
