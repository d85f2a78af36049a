"""The office itself: rooms, who is in them, who booked them, and a journal. Kept in memory, a house per tenant."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from agentauth.embedded.office.door import Caller

_MOST_BOOKINGS = 500
_ROOMS = {
    "meeting": ("Meeting room", 8),
    "library": ("Library", 4),
    "studio": ("Studio", 3),
    "finance": ("Finance department", 6),
}


class NotPossible(Exception):
    """The office says no, with a status and a sentence."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


@dataclass(slots=True)
class House:
    """One tenant's office."""

    bookings: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {room: [] for room in _ROOMS})
    journal: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=500))

    def rooms(self) -> list[dict[str, Any]]:
        return [self.room(room) for room in _ROOMS]

    def room(self, room: str) -> dict[str, Any]:
        if room not in _ROOMS:
            raise NotPossible(404, "There is no such room.")
        name, seats = _ROOMS[room]
        return {"room": room, "name": name, "seats": seats, "bookings": self.bookings[room]}

    def enter(self, room: str, caller: Caller) -> dict[str, Any]:
        name = self.room(room)["name"]
        noted = self._note(f"entered the {name[0].lower()}{name[1:]}", caller)
        return {"entered": name, "for": caller.person, "by": caller.agent, "at": noted["at"]}

    def book(self, room: str, wish: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
        """A booking from `start` (RFC 3339, default now) for `minutes` (5 to 480, default 30)."""
        name = self.room(room)["name"]
        start, minutes, title = _start(wish.get("start")), wish.get("minutes", 30), wish.get("title", "Meeting")
        if not isinstance(minutes, int) or isinstance(minutes, bool) or not 5 <= minutes <= 480:
            raise NotPossible(422, "“minutes” must be a whole number from 5 to 480.")
        if not isinstance(title, str) or not 1 <= len(title) <= 80:
            raise NotPossible(422, "“title” must be a text of 80 characters at most.")
        end = start + timedelta(minutes=minutes)
        for other in self.bookings[room]:
            if start < datetime.fromisoformat(other["end"]) and datetime.fromisoformat(other["start"]) < end:
                raise NotPossible(409, f"The {name.lower()} is taken from {other['start']} to {other['end']}.")
        if len(self.bookings[room]) >= _MOST_BOOKINGS:
            self.bookings[room].pop(0)
        booking = {"title": title, "start": start.isoformat(), "end": end.isoformat(), "for": caller.person}
        self.bookings[room].append(booking)
        self._note(f"booked the {name.lower()} for {minutes} minutes", caller)
        return {"booked": name} | booking

    def _note(self, did: str, caller: Caller) -> dict[str, Any]:
        """Our own log names the person and the agent, as the assertion did."""
        entry = {
            "at": datetime.now(UTC).isoformat(),
            "did": did,
            "for": caller.person,
            "by": caller.agent,
            "grant": caller.grant,
            "call": caller.call,
            "operation": caller.operation,
        }
        self.journal.appendleft(entry)
        return entry


def _start(given: Any) -> datetime:
    if given is None:
        return datetime.now(UTC).replace(second=0, microsecond=0)
    try:
        start = datetime.fromisoformat(given)
    except (TypeError, ValueError):
        raise NotPossible(422, "“start” must be a time such as 2026-11-24T10:00:00Z.") from None
    return start if start.tzinfo else start.replace(tzinfo=UTC)
