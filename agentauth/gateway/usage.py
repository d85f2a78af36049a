"""When a grant was last used and an agent last seen: written behind the calls, at most once a minute each."""

import asyncio
import logging
import time
from datetime import UTC, datetime
from uuid import UUID

import psycopg

from agentauth.gateway.database import Pool, reading
from agentauth.gateway.who import Principal

log = logging.getLogger(__name__)

EVERY = 2.0
NOT_AGAIN = 60.0
_GRANTS = "UPDATE grants_grant SET last_used_at = %s WHERE tenant_id = %s AND id = ANY(%s)"
_AGENTS = "UPDATE agents_agent SET last_seen_at = %s WHERE tenant_id = %s AND id = ANY(%s)"


class Usage:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._written: dict[tuple[UUID, UUID], float] = {}
        self._waiting: dict[UUID, set[tuple[UUID, UUID]]] = {}

    def saw(self, tenant_id: UUID, who: Principal) -> None:
        key, now = (tenant_id, who.grant_id), time.monotonic()
        if self._written.get(key, 0.0) < now - NOT_AGAIN:
            self._written[key] = now
            self._waiting.setdefault(tenant_id, set()).add((who.grant_id, who.agent_id))

    async def run(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            try:
                await self.write()
            except (psycopg.Error, OSError, TimeoutError):
                log.warning("could not note when grants were last used")
            if len(self._written) > 50_000:
                self._written.clear()

    async def write(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for tenant_id, pairs in waiting.items():
            grants, agents = sorted({grant for grant, _ in pairs}), sorted({agent for _, agent in pairs})
            now = datetime.now(UTC)
            for statement, ids in ((_GRANTS, grants), (_AGENTS, agents)):
                # A transaction each: others lock an agent and then its grants, and must not meet us half way
                async with reading(self._pool, tenant_id) as db:
                    await db.execute(statement, [now, tenant_id, ids])
