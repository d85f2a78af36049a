"""One worker: what it holds, what it hears, and how it ends calls that must not go on."""

import asyncio
import logging
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import aiohttp
import psycopg

from agentauth.gateway.admitting import revoked_of
from agentauth.gateway.calls import Call, OpenCalls
from agentauth.gateway.database import make_pool, reading
from agentauth.gateway.hearing import Hearing
from agentauth.gateway.ledger import Ledger
from agentauth.gateway.snapshot import Snapshots
from agentauth.gateway.usage import Usage
from agentauth.gateway.whether import gather
from agentauth.outbound.connector import open_session
from agentauth.policy.decision import Reason
from agentauth.policy.evaluate import standing

log = logging.getLogger(__name__)

PATROL = 0.5
DEAF_TOO_LONG = 3.0  # seconds without the database after which open streams end: somebody may have revoked them


class Worker:
    def __init__(self) -> None:
        self.hearing = Hearing(self._on_notice, self._on_gap)
        self.pool = make_pool()
        self.snapshots = Snapshots(self.pool, self.hearing)
        self.ledger = Ledger()
        self.calls = OpenCalls()
        self.usage = Usage(self.pool)
        self.http: aiohttp.ClientSession
        self._tasks: list[asyncio.Task[None]] = []
        self._checks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        await self.pool.open(wait=False)
        self.http = open_session()
        steps = (self.hearing.run(), self.ledger.run(), self.usage.run(), self._patrol())
        self._tasks = [asyncio.create_task(step) for step in steps]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.ledger.close()
        with suppress(Exception):
            await self.usage.write()
        await self.http.close()
        await self.pool.close(timeout=2)

    def _on_notice(self, tenant_id: UUID, what: str, subject: str) -> None:
        self.snapshots.on_notice(tenant_id, what, subject)
        if what == "config":
            self._look_after([call for call in self.calls.of(tenant_id) if call.is_forwarding])
            return
        # Heard means committed; whether it still stands (a suspension may be lifted) is asked, but not waited for
        affected = [call for call in self.calls.of(tenant_id) if call.is_about(what, subject)]
        self._look_after(affected)

    async def _on_gap(self) -> None:
        self.snapshots.clear()
        self._look_after(list(self.calls))

    def _look_after(self, calls: list[Call]) -> None:
        by_tenant: dict[UUID, list[Call]] = {}
        for call in calls:
            by_tenant.setdefault(call.intent.tenant_id, []).append(call)
        for tenant_id, theirs in by_tenant.items():
            task = asyncio.create_task(self._judge_again(tenant_id, theirs))
            self._checks.add(task)
            task.add_done_callback(self._checks.discard)

    async def _judge_again(self, tenant_id: UUID, calls: list[Call]) -> None:
        """End those that would not be let in now. Who cannot be asked about is ended too."""
        try:
            async with reading(self.pool, tenant_id) as db:
                revoked = await revoked_of(db, [call.intent for call in calls])
            for call, is_revoked in zip(calls, revoked, strict=True):
                reasons = (Reason.TOKEN_REVOKED,) if is_revoked else await self._against(call)
                if reasons:
                    call.cut("revoked", *(reason.value for reason in reasons))
        except (psycopg.Error, OSError, TimeoutError):
            for call in calls:
                call.cut("revoked", "database_unreachable")

    async def _against(self, call: Call) -> tuple[Reason, ...]:
        """What now speaks against a call that was let in. Budgets and approvals were spent when it was."""
        intent = call.intent
        slug = call.tenant_slug
        tenant = await self.snapshots.tenant(slug)
        resource = (
            next((one for one in tenant.resources.values() if one.id == intent.resource_id), None) if tenant else None
        )
        if tenant is None or resource is None:
            return (Reason.RESOURCE_NOT_PUBLISHED,)
        held = intent.facts
        call_now = replace(held.call, now=datetime.now(UTC))
        facts = await gather(
            self.snapshots, tenant, resource, intent.principal, operation=held.operation, call=call_now
        )
        against = standing(facts)
        scope = held.operation.scope if held.operation else None
        if not against and scope and facts.grant is not None and facts.grant.modes.get(scope) not in ("always", "ask"):
            return (Reason.GRANT_SAYS_NEVER,)
        return against

    async def _patrol(self) -> None:
        """What nobody announces: grants that run out, and a database that has been silent for too long."""
        while True:
            await asyncio.sleep(PATROL)
            now = datetime.now(UTC)
            deaf = self.hearing.silence > DEAF_TOO_LONG
            for call in self.calls:
                if call.ends_at is not None and call.ends_at <= now:
                    call.cut("revoked", Reason.GRANT_EXPIRED.value)
                elif deaf and call.is_forwarding:
                    call.cut("revoked", "database_unreachable")
