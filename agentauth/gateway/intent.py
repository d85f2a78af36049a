"""What waits for the record: a call that wants to pass, with what is decided on it, and events that decide nothing."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from agentauth.gateway.answers import status_of
from agentauth.gateway.who import Principal
from agentauth.oauth.dpop import Proof
from agentauth.policy.decision import Decision, Effect
from agentauth.policy.facts import Facts
from audit.actions import Action
from audit.record import Actor, event_row

Row = tuple[Any, ...]


@dataclass(slots=True)
class Verdict:
    decision: Decision
    approval_id: UUID | None = None


@dataclass(slots=True)
class Intent:
    """A call that wants to pass. `judge` decides on `facts`, again inside the transaction if that adds any."""

    tenant_id: UUID
    principal: Principal
    facts: Facts
    judge: Callable[[Facts], Decision]
    call_id: UUID
    resource_id: UUID
    operation: str
    ip: str
    args_hash: str = ""
    arguments: Any = None
    proof: Proof | None = None  # that its key is held, to be used up
    details: dict[str, Any] = field(default_factory=dict)
    answer: "asyncio.Future[Verdict] | None" = None

    def subjects(self) -> list[str]:
        who = self.principal
        found = [str(one) for one in (self.tenant_id, who.grant_id, who.member_id, *who.chain) if one]
        return [*found, who.jti, *(subject for _, subject in who.via)]

    def is_revoked(self, known: dict[tuple[str, str], datetime]) -> bool:
        who = self.principal
        asked = [("tenant", str(self.tenant_id)), ("grant", str(who.grant_id)), ("token", who.jti)]
        asked += [("agent", str(agent)) for agent in who.chain]
        asked += who.via
        if who.member_id is not None:
            asked.append(("member", str(who.member_id)))
        issued = datetime.fromtimestamp(who.issued_at, UTC)  # whole seconds: the same second counts as before
        return any(key in known and issued <= known[key] for key in asked)

    def row(self, verdict: Verdict) -> Row:
        decision = verdict.decision
        actions = {
            Effect.ALLOW: Action.CALL_ALLOWED,
            Effect.ASK: Action.CALL_ASKED,
            Effect.REFUSE: Action.CALL_REFUSED,
        }
        details = dict(self.details)
        if decision.scope:
            details["scope"] = decision.scope
        if verdict.approval_id is not None:
            details["approval"] = str(verdict.approval_id)
        return self.event(
            actions[decision.effect],
            decision=decision.effect.value,
            reasons=[reason.value for reason in decision.reasons],
            status=None if decision.allowed else status_of(decision, str(details.get("protocol", "rest"))),
            details=details,
        )

    def event(self, action: Action, **fields: Any) -> Row:
        who = self.principal
        return event_row(
            action,
            tenant_id=self.tenant_id,
            actor=Actor("agent", str(who.agent_id)),
            agent_id=who.agent_id,
            member_id=who.member_id,
            grant_id=who.grant_id,
            resource_id=self.resource_id,
            operation=self.operation,
            args_hash=self.args_hash,
            call_id=self.call_id,
            ip=self.ip,
            **fields,
        )


@dataclass(slots=True)
class Line:
    """An event that decides nothing: an outcome, or the refusal of somebody whom we do not know."""

    tenant_id: UUID
    row: Row
    answer: "asyncio.Future[None] | None" = None
