"""The calls that are under way in this worker, so that what is revoked is also ended."""

import asyncio
import time
from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

from agentauth.gateway.intent import Intent


class Call:
    """One call from its intent to its outcome. `cut` ends it from outside, once, and says why."""

    __slots__ = ("began", "cut_because", "cut_reasons", "ends_at", "intent", "is_forwarding", "task", "tenant_slug")

    def __init__(self, intent: Intent, tenant_slug: str, ends_at: datetime | None) -> None:
        self.intent = intent
        self.tenant_slug = tenant_slug
        self.ends_at = ends_at
        self.began = time.perf_counter()
        self.cut_because = ""
        self.cut_reasons: tuple[str, ...] = ()
        self.is_forwarding = False
        self.task: asyncio.Task[object] | None = None

    def cut(self, because: str, *reasons: str) -> None:
        """`because` is the outcome on record: revoked, cancelled or timeout."""
        if self.cut_because:
            return
        self.cut_because, self.cut_reasons = because, reasons
        if self.is_forwarding and self.task is not None:
            self.task.cancel()

    def is_about(self, what: str, subject: str) -> bool:
        who = self.intent.principal
        if what == "tenant":
            return True
        if what == "agent":
            return any(str(agent) == subject for agent in who.chain)
        if what == "member":
            return str(who.member_id) == subject
        if what == "grant" and str(who.grant_id) == subject:
            return True
        return (what == "token" and who.jti == subject) or (what, subject) in who.via


class OpenCalls:
    def __init__(self) -> None:
        self._by_tenant: dict[UUID, set[Call]] = {}

    def add(self, call: Call) -> None:
        self._by_tenant.setdefault(call.intent.tenant_id, set()).add(call)

    def remove(self, call: Call) -> None:
        calls = self._by_tenant.get(call.intent.tenant_id)
        if calls is not None:
            calls.discard(call)
            if not calls:
                del self._by_tenant[call.intent.tenant_id]

    def of(self, tenant_id: UUID) -> list[Call]:
        return list(self._by_tenant.get(tenant_id, ()))

    def tenants(self) -> list[UUID]:
        return list(self._by_tenant)

    def __iter__(self) -> Iterator[Call]:
        return iter([call for calls in self._by_tenant.values() for call in calls])
