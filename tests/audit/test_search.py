"""The search language: what each key finds, what is refused and how, and that nobody sees past their own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.utils.timezone import now

from audit import search
from audit.actions import Action
from audit.query import QueryError
from audit.record import Actor, record
from tenants.rls import new_id, set_tenant
from tests import cast

pytestmark = pytest.mark.django_db
CALL, GRANT = new_id(), new_id()


@pytest.fixture
def office() -> cast.House:
    """Three calls by Matt's assistant, one by Cora's crawler, a suspension by Ada."""
    house = cast.acme()
    matts, coras = cast.assistant(house), cast.assistant(house, name="Crawler")
    assert house.office is not None
    calls = [
        (matts, "matt", "GET /rooms", "allow", "ok", [], "rooms:read", "192.0.2.7"),
        (matts, "matt", "POST /rooms/{room}/book", "ask", "", ["needs_approval"], "rooms:book", "192.0.2.8"),
        (
            matts,
            "matt",
            "POST /rooms/finance/enter",
            "refuse",
            "",
            ["scope_not_granted"],
            "finance:enter",
            "198.51.100.1",
        ),
        (coras, "cora", "GET /rooms", "allow", "timeout", [], "rooms:read", "192.0.2.7"),
    ]
    for agent, person, operation, decision, outcome, reasons, scope, ip in calls:
        record(
            {"allow": Action.CALL_ALLOWED, "ask": Action.CALL_ASKED, "refuse": Action.CALL_REFUSED}[decision],
            tenant_id=house.tenant.id,
            actor=Actor("agent", str(agent.id)),
            agent_id=agent.id,
            member_id=house.members[person].id,
            resource_id=house.office.id,
            operation=operation,
            decision=decision,
            outcome=outcome,
            reasons=reasons,
            ip=ip,
            details={"scope": scope},
            call_id=CALL if decision == "ask" else None,
            grant_id=GRANT if decision == "refuse" else None,
        )
    return house


def found(house: cast.House, query: str, only: str | None = None) -> list[str]:
    """Operations of the matching calls, in a fixed order."""
    only_member = house.members[only].id if only else None
    page = search.search(house.tenant, f"action:call {query}", only_member=only_member)
    return sorted(event.operation for event in page.events)


BOOK, FINANCE, ROOMS = "POST /rooms/{room}/book", "POST /rooms/finance/enter", "GET /rooms"


@pytest.mark.parametrize(
    ("query", "operations"),
    [
        ("", [ROOMS, ROOMS, BOOK, FINANCE]),
        ('agent:"Matt\'s assistant"', [ROOMS, BOOK, FINANCE]),
        ("agent:crawl", [ROOMS]),
        ("person:matt@acme.example", [ROOMS, BOOK, FINANCE]),
        ('member:"cora berg"', [ROOMS]),
        ("resource:office", [ROOMS, ROOMS, BOOK, FINANCE]),
        ('operation:"GET /rooms"', [ROOMS, ROOMS]),
        ('tool:"get /ROOMS"', [ROOMS, ROOMS]),
        ('operation:"POST *"', [BOOK, FINANCE]),
        ("scope:rooms:book", [BOOK]),
        ("decision:refuse", [FINANCE]),
        ("decision:refuse,ask", [BOOK, FINANCE]),
        ("-decision:allow", [BOOK, FINANCE]),
        ("action:call.refused", [FINANCE]),
        ("outcome:timeout", [ROOMS]),
        ("reason:scope_not_granted", [FINANCE]),
        ("-reason:scope_not_granted", [ROOMS, ROOMS, BOOK]),
        (f"grant:{GRANT}", [FINANCE]),
        (f"call:{CALL}", [BOOK]),
        (f"-call:{CALL}", [ROOMS, ROOMS, FINANCE]),
        ("ip:192.0.2.7", [ROOMS, ROOMS]),
        ("ip:192.0.2.*", [ROOMS, ROOMS, BOOK]),
        ("finance", [FINANCE]),
        ("-finance", [ROOMS, ROOMS, BOOK]),
        ('"needs_approval"', [BOOK]),
        ("crawler", [ROOMS]),
        ("100%", []),
        ("since:1h", [ROOMS, ROOMS, BOOK, FINANCE]),
        ("until:1h", []),
        ("created:today", [ROOMS, ROOMS, BOOK, FINANCE]),
        ("created:2020-01-01..2020-12-31", []),
        ("agent:crawl decision:allow ip:192.0.2.7 since:today", [ROOMS]),
    ],
)
def test_a_query_finds_what_it_says(office: cast.House, query: str, operations: list[str]) -> None:
    assert found(office, query) == sorted(operations)
    assert search.count(office.tenant, f"action:call {query}") == len(operations)
    buckets = search.histogram(office.tenant, f"action:call {query}", 10)
    if not any(key in query for key in ("until", "created")):
        assert sum(bucket.total for bucket in buckets) == len(operations)


@pytest.mark.parametrize(
    ("query", "position", "right"),
    [
        ("decision:maybe", 0, "decision:allow"),
        ("room decison:allow", 5, "decision:"),
        ("rooms:read", 0, "quotes"),
        ("agent:", 6, "agent:"),
        ("agent:nobody", 0, "agent:"),
        ('"open', 0, 'Add a "'),
        ("action:call.refuse", 0, "call.refused"),
        ("action:zzz", 0, "action:"),
        ("outcome:fine", 0, "timeout"),
        ("grant:7", 0, "id"),
        ("since:later", 0, "7d"),
        ("since:99999d..", 0, "7d"),
        ("created:..", 0, "created:"),
        ("since:1d,2d", 0, "since:"),
        ("x" * 501, 500, ""),
        ("a\0b", 1, ""),
    ],
)
def test_a_wrong_query_says_where_and_what_would_be_right(
    office: cast.House, query: str, position: int, right: str
) -> None:
    with pytest.raises(QueryError) as refused:
        search.search(office.tenant, query)
    assert refused.value.position == position
    assert right in refused.value.right


def test_a_member_sees_only_their_own(office: cast.House) -> None:
    assert found(office, "", only="matt") == [ROOMS, FINANCE, BOOK]
    assert found(office, "agent:crawl", only="matt") == []
    assert found(office, "agent:nobody", only="matt") == [], "an unknown name and a hidden one look the same"
    everything = search.search(office.tenant, limit=500, only_member=office.members["matt"].id).events
    mine = office.members["matt"].id
    assert everything
    assert all(event.member_id == mine or event.actor == str(mine) for event in everything)


def test_another_tenants_events_are_never_found(office: cast.House) -> None:
    theirs = cast.globex()
    set_tenant(theirs.tenant.id)
    assert found(theirs, "") == []
    assert search.search(office.tenant, "").events == [], "nor with the wrong tenant's name in hand"
    with pytest.raises(QueryError):
        search.search(theirs.tenant, "agent:crawler")
    for query in (f"call:{CALL}", f"grant:{GRANT}", "finance"):
        assert search.search(theirs.tenant, query).events == []


def test_pages_follow_each_other_without_gap_or_repetition(office: cast.House) -> None:
    at = now()
    for _ in range(7):  # one moment: only the id tells them apart
        record(Action.AGENT_CHANGED, tenant_id=office.tenant.id, actor=cast.CAST, at=at)
    seen: list[UUID] = []
    cursor: str | None = None
    while True:
        page = search.search(office.tenant, "", before=cursor, limit=3)
        seen += [event.id for event in page.events]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == search.count(office.tenant)
    assert search.count(office.tenant, at_most=4) == 4
    with pytest.raises(QueryError):
        search.search(office.tenant, before="nonsense")


def test_a_histogram_counts_each_decision_in_its_step(office: cast.House) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for hours, decision in ((0, "allow"), (1, "allow"), (1, "refuse"), (23, "ask"), (24, "ask")):
        at = start + timedelta(hours=hours)
        record(Action.CALL_ALLOWED, tenant_id=office.tenant.id, actor=cast.CAST, decision=decision, at=at)
    buckets = search.histogram(office.tenant, "created:2026-01-01", 24)
    assert (buckets[0].start, buckets[-1].end) == (start, start + timedelta(days=1))
    assert [(i, b.allow, b.refuse, b.ask) for i, b in enumerate(buckets) if b.total] == [
        (0, 1, 0, 0),
        (1, 1, 1, 0),
        (23, 0, 0, 1),
    ]


def test_words_are_searched_for_as_they_are(office: cast.House) -> None:
    """Neither a wildcard nor SQL: what a person types is text."""
    for hostile in ("'; DROP TABLE audit_event; --", "%", "_", "\\", "%s", "{0}", "e.id"):
        search.search(office.tenant, f'"{hostile}" operation:"{hostile}*" ip:"{hostile}*"')
    for wildcard in ("roo_s", "%", "GET%rooms"):
        assert found(office, f'"{wildcard}"') == []


def test_what_says_nothing_about_an_agent_is_not_excluded_with_one(office: cast.House) -> None:
    everything = search.count(office.tenant)
    crawlers = search.count(office.tenant, "agent:crawl")
    assert 0 < crawlers < everything
    assert search.count(office.tenant, "-agent:crawl") == everything - crawlers
