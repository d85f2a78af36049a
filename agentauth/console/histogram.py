"""Counts over time as bars of an SVG: classes and numbers only, so it follows the theme and needs no inline style."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

WIDTH, HEIGHT = 1320, 64
_HEADROOM = 6


class Counted(Protocol):
    @property
    def start(self) -> datetime: ...
    @property
    def end(self) -> datetime: ...
    @property
    def allow(self) -> int: ...
    @property
    def refuse(self) -> int: ...
    @property
    def ask(self) -> int: ...
    @property
    def other(self) -> int: ...
    @property
    def total(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Bar:
    """One part of a column, with what it says when pointed at."""

    kind: str  # deny, ask, allow, other: classes of the stylesheet
    x: str
    y: str
    width: str
    height: str
    words: str


@dataclass(frozen=True, slots=True)
class Bars:
    bars: list[Bar]
    days: list[str]
    axis: list[str]
    words: str


def bars(buckets: Sequence[Counted]) -> Bars:
    """Columns of allowed, asked and refused, the refused on top, a line per day, the busiest column in words."""
    if not buckets:
        return Bars([], [], [], "Nothing in this period")
    most = max(1, *(bucket.total for bucket in buckets))
    step = WIDTH / len(buckets)
    drawn: list[Bar] = []
    for at, bucket in enumerate(buckets):
        floor = float(HEIGHT)
        words = f"{_when(bucket)}: {_said(bucket)}"
        for kind, number in (
            ("other", bucket.other),
            ("allow", bucket.allow),
            ("ask", bucket.ask),
            ("deny", bucket.refuse),
        ):
            if number:
                tall = max(number / most * (HEIGHT - _HEADROOM), 1.5)
                floor -= tall
                drawn.append(
                    Bar(kind, f"{at * step + 1:.1f}", f"{floor:.1f}", f"{max(step - 3, 2):.1f}", f"{tall:.1f}", words)
                )
    start, end = buckets[0].start, buckets[-1].end
    return Bars(drawn, _midnights(start, end), _axis(start, end), _summary(buckets))


def _midnights(start: datetime, end: datetime) -> list[str]:
    day = start.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    found: list[str] = []
    while day < end and len(found) < 100:
        found.append(f"{(day - start) / (end - start) * WIDTH:.1f}")
        day += timedelta(days=1)
    return found


def _axis(start: datetime, end: datetime) -> list[str]:
    short = end - start <= timedelta(days=2)
    return [f"{start + (end - start) * part:{'%H:%M' if short else '%-d %b'}}" for part in (0, 0.25, 0.5, 0.75, 1)]


def _summary(buckets: Sequence[Counted]) -> str:
    total, refused = sum(bucket.total for bucket in buckets), sum(bucket.refuse for bucket in buckets)
    busiest = max(buckets, key=lambda bucket: bucket.total)
    if not total:
        return "Nothing in this period"
    return f"{total:,} lines, {refused:,} refused. Most at {_when(busiest)}: {busiest.total:,}"


def _when(bucket: Counted) -> str:
    return f"{bucket.start:%-d %b, %H:%M}"


def _said(bucket: Counted) -> str:
    parts = ((bucket.refuse, "refused"), (bucket.ask, "asked"), (bucket.allow, "allowed"), (bucket.other, "other"))
    return ", ".join(f"{number:,} {word}" for number, word in parts if number)
