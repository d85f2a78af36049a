"""Grants as badges: what a card on the rack shows, read with two queries however many there are."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Count, Max
from django.utils.timezone import now

from agentauth.agents.badge import verification_line
from agentauth.agents.models import Agent
from agentauth.console.allowing import RISK_ORDER
from agentauth.console.badges import Chip
from agentauth.grants.models import Grant, Permission
from audit.actions import Action
from audit.models import Event

DID = (Action.CALL_ALLOWED, Action.CALL_REFUSED, Action.CALL_ASKED)  # a finished call is told with its beginning


@dataclass(frozen=True, slots=True)
class Card:
    """One grant as its badge shows it."""

    grant: Grant
    state: str
    stamp: str
    chips: list[Chip]
    calls: int
    last_used_at: datetime | None
    days_total: int
    days_left: int
    line: tuple[str, str]

    @property
    def id(self) -> UUID:
        return self.grant.id

    @property
    def agent(self) -> Agent:
        agent: Agent = self.grant.agent
        return agent

    @property
    def is_live(self) -> bool:
        return self.grant.is_live

    @property
    def ended_at(self) -> datetime:
        """When it ended, by somebody's hand or by itself."""
        ended: datetime = self.grant.ended_at or self.grant.expires_at
        return min(ended, self.grant.expires_at)

    @property
    def ended_words(self) -> str:
        by = self.grant.ended_by
        words: dict[str, str] = {
            Grant.EndReason.REPLACED: "A newer badge took its place",
            Grant.EndReason.MEMBER_LEFT: "Ended when you left",
            Grant.EndReason.AGENT_RETIRED: "The agent was retired",
        }
        if self.grant.end_reason == Grant.EndReason.REVOKED and by is not None:
            return "Revoked by you" if by.id == self.grant.member_id else f"Revoked by {by.name}"
        return words.get(self.grant.end_reason, "Ran out by itself")

    @property
    def stopped_agent(self) -> bool:
        """The grant stands, but its agent is not let through."""
        return self.is_live and not self.agent.is_active


def cards(grants: Sequence[Grant]) -> list[Card]:
    """Badges for these grants, with two queries however many there are."""
    ids = [grant.id for grant in grants]
    rooms: dict[UUID, list[Permission]] = {}
    for permission in Permission.objects.filter(grant_id__in=ids).select_related("scope").order_by("scope__name"):
        rooms.setdefault(permission.grant_id, []).append(permission)
    calls = Event.objects.filter(tenant_id__in={grant.tenant_id for grant in grants}, grant_id__in=ids, action__in=DID)
    counted: dict[Any, dict[str, Any]] = {
        row["grant_id"]: dict(row)
        for row in calls.filter(at__gt=now() - timedelta(days=30))
        .values("grant_id")
        .annotate(calls=Count("id"), last=Max("at"))
    }
    return [_card(grant, rooms.get(grant.id, []), counted.get(grant.id, {})) for grant in grants]


def _card(grant: Grant, rooms: list[Permission], used: dict[str, Any]) -> Card:
    state, stamp = _standing(grant)
    total = max(round((grant.expires_at - grant.given_at) / timedelta(days=1)), 1)
    order = sorted(rooms, key=lambda room: (room.mode == "never", RISK_ORDER.index(room.scope.risk), room.scope.name))
    return Card(
        grant=grant,
        state=state,
        stamp=stamp,
        chips=[_chip(room) for room in order],
        calls=used.get("calls", 0),
        last_used_at=used.get("last") or grant.last_used_at,
        days_total=total,
        days_left=min(max(round((grant.expires_at - now()) / timedelta(days=1)), 0), total),
        line=verification_line(grant.agent),
    )


def _chip(room: Permission) -> Chip:
    if room.mode == Permission.Mode.NEVER:
        return Chip(room.scope.words, "never", "never")
    return Chip(room.scope.words, room.scope.risk, "ask me" if room.mode == Permission.Mode.ASK else "")


def _standing(grant: Grant) -> tuple[str, str]:
    if grant.ended_at is not None and grant.end_reason != Grant.EndReason.EXPIRED:
        return "revoked", "Void"
    if not grant.is_live:
        return "expired", "Expired"
    if not grant.agent.is_active:
        return "suspended", "Stopped"
    return "active", "Active"
