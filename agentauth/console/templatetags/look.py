"""How things look and read on every page: faces, times in words, risk and state as the stylesheet names them."""

from datetime import datetime, timedelta
from typing import Any

from django import template
from django.contrib.messages.storage.base import Message
from django.utils.safestring import SafeString, mark_safe
from django.utils.timezone import now

from agentauth.agents import face as faces
from agentauth.agents.claim_rules import sentence
from agentauth.agents.models import Agent

register = template.Library()

TONES = {"success": "done", "info": "note", "warning": "care", "error": "stop", "debug": "note"}
TONE_ICONS = {"done": "allow", "care": "clock", "stop": "warn", "note": "host"}
VERDICTS = {"allow": "allow", "ok": "allow", "ask": "ask", "refuse": "deny"}
VERDICT_WORDS = {
    "allow": "allowed", "ok": "allowed", "ask": "asked", "refuse": "refused", "upstream_error": "failed there",
    "timeout": "no answer", "revoked": "cut off", "cancelled": "hung up", "lost": "outcome unknown",
}  # fmt: skip
STANDINGS = {
    "active": "Active",
    "suspended": "Suspended",
    "draft": "Not approved",
    "expired": "Expired",
    "revoked": "Void",
}
STANDING_ICONS = {"active": "allow", "suspended": "halt", "draft": "clock", "expired": "clock", "revoked": "never"}


@register.simple_tag(takes_context=True)
def face(context: template.Context, who: Any) -> SafeString:
    """The portrait of an agent or a badge; a plain name draws that name's face."""
    tenant = getattr(context.get("request"), "tenant", None)
    name = who if isinstance(who, str) else who.name
    return mark_safe(faces.face(name, tenant.slug if tenant else ""))  # noqa: S308  # made of our own shapes only


@register.simple_tag
def clips() -> SafeString:
    """The head outlines that faces refer to, once a page."""
    return mark_safe(faces.clips())  # noqa: S308  # constants


@register.filter
def standing(agent: Agent | None) -> str:
    """active, suspended, draft, expired or revoked: the words of the stylesheet."""
    if agent is None or agent.state == Agent.State.RETIRED:
        return "revoked"
    if agent.state == Agent.State.DRAFT or (not agent.is_approved and agent.state == Agent.State.ACTIVE):
        return "draft"
    if agent.valid_until is not None and agent.valid_until <= now():
        return "expired"
    return str(agent.state)


@register.filter
def standing_words(agent: Agent | None) -> str:
    return STANDINGS[standing(agent)]


@register.filter
def standing_icon(name: str) -> str:
    return STANDING_ICONS.get(name, "clock")


@register.filter
def verdict_look(verdict: str) -> str:
    """allow, ask or deny: which of the three signals a decision or an outcome carries."""
    return VERDICTS.get(verdict, "deny")


@register.filter
def verdict_words(verdict: str) -> str:
    return VERDICT_WORDS.get(verdict, verdict)


@register.filter
def tone(message: Message) -> str:
    return TONES.get(message.level_tag, "note")


@register.filter
def tone_icon(name: str) -> str:
    return TONE_ICONS.get(name, "host")


@register.filter
def count(number: int | None) -> str:
    """9,418,207"""
    return f"{number or 0:,}"


@register.filter
def first_word(name: str) -> str:
    return (name.split() or [""])[0]


@register.filter
def plural(number: int | None, words: str) -> str:
    """`{{ n|plural:"call,calls" }}` → "1 call", "1,204 calls"."""
    one, many = words.split(",")
    return f"{number or 0:,} {one if number == 1 else many}"


@register.filter
def day(when: datetime | None) -> str:
    """22 Nov 2026"""
    return f"{when.day} {when:%b %Y}" if when else ""


@register.filter
def clock(when: datetime | None) -> str:
    """14:07:31, with the day if that is not today."""
    if when is None:
        return ""
    return f"{when:%H:%M:%S}" if when.date() == now().date() else f"{when.day} {when:%b %H:%M}"


@register.filter
def ago(when: datetime | None) -> str:
    """In words: "14 s ago", "today, 05:58", "in 3 days", "22 Nov 2026"."""
    if when is None:
        return "never"
    gap = now() - when
    if gap < timedelta(0):
        return _ahead(-gap, when)
    seconds = gap.total_seconds()
    if seconds < 1:
        return "just now"
    if seconds < 60:
        return f"{int(seconds)} s ago"
    if seconds < 3600:
        return f"{int(seconds // 60)} min ago"
    if seconds < 6 * 3600:
        return f"{int(seconds // 3600)} h ago"
    if when.date() == now().date():
        return f"today, {when:%H:%M}"
    if when.date() == (now() - timedelta(days=1)).date():
        return f"yesterday, {when:%H:%M}"
    return day(when)


def _ahead(gap: timedelta, when: datetime) -> str:
    minutes = gap.total_seconds() / 60
    if minutes < 60:
        return f"in {max(1, round(minutes))} min"
    if minutes < 48 * 60:
        return f"in {round(minutes / 60)} h"
    return f"in {gap.days} days" if gap.days < 14 else day(when)


@register.filter
def took(microseconds: int | None) -> str:
    """0.4 ms, 18 ms, 4.1 s; number and unit stay on one line."""
    if microseconds is None:
        return ""
    ms = microseconds / 1000
    return f"{ms:.1f}\xa0ms" if ms < 10 else f"{ms:.0f}\xa0ms" if ms < 10_000 else f"{ms / 1000:.1f}\xa0s"


@register.simple_tag
def spark(day: Any) -> SafeString:
    """Today's calls by hour as small stacked bars. Classes and attributes only, as the policy wants it."""
    highest = max((sum(hour.values()) for hour in day.hours.values()), default=0)
    bars = []
    for hour, kinds in sorted(day.hours.items()):
        top = 26.0
        for kind in ("allow", "ask", "deny"):
            height = 25 * kinds.get(kind, 0) / highest
            if height:
                height = max(height, 1.5)
                top -= height
                bars.append(
                    f'<rect class="{kind}" x="{hour * 5}" y="{max(top, 0):.1f}" width="3.5" height="{height:.1f}"/>'
                )
    svg = f'<svg class="bars spark" viewBox="0 0 120 26" aria-hidden="true">{"".join(bars)}</svg>'
    return mark_safe(svg)  # noqa: S308  # numbers only


@register.filter
def rules(said: dict[str, str]) -> str:
    """What lets a workload in, in words."""
    return sentence(said)
