"""Each kind of constraint: what is within it, what is not, and what it cannot read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from agentauth.policy.conditions import unmet
from agentauth.policy.conditions.sign_in import strictest
from agentauth.policy.decision import Reason
from agentauth.policy.facts import CallFacts

FRIDAY_NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def at(text: str) -> CallFacts:
    return CallFacts(datetime.fromisoformat(text).replace(tzinfo=UTC))


OFFICE_HOURS = {"days": ["mon", "tue", "wed", "thu", "fri"], "from": "08:00", "to": "18:00", "zone": "Europe/Berlin"}
NIGHT = {"days": ["fri"], "from": "22:00", "to": "06:00"}
TIMES: list[tuple[dict[str, Any], str, bool]] = [
    (OFFICE_HOURS, "2026-11-20T07:00", True),  # eight in Berlin
    (OFFICE_HOURS, "2026-11-20T06:59", False),
    (OFFICE_HOURS, "2026-11-20T16:59", True),
    (OFFICE_HOURS, "2026-11-20T17:00", False),
    (OFFICE_HOURS, "2026-11-21T12:00", False),  # Saturday
    (OFFICE_HOURS, "2026-07-17T06:00", True),  # summer time
    (NIGHT, "2026-11-20T22:00", True),
    (NIGHT, "2026-11-21T05:59", True),  # Saturday morning belongs to Friday's night
    (NIGHT, "2026-11-21T06:00", False),
    (NIGHT, "2026-11-20T05:00", False),
    (NIGHT, "2026-11-21T22:30", False),
    ({"days": ["fri"]}, "2026-11-20T00:00", True),
    ({"days": ["fri"]}, "2026-11-20T23:59", True),
    ({"from": "08:00", "to": "09:00"}, "2026-11-22T08:30", True),
]


@pytest.mark.parametrize(("rule", "when", "within"), TIMES)
def test_time_window(rule: dict[str, Any], when: str, within: bool) -> None:
    assert unmet({"time_window": rule}, at(when)) == (() if within else (Reason.CONSTRAINT_TIME_WINDOW,))


ADDRESSES = [
    ("192.0.2.7", True),
    ("::ffff:192.0.2.7", True),
    ("2001:db8::1", True),
    ("198.51.100.1", False),
    ("2001:db9::1", False),
    ("", False),
    ("unknown", False),
]


@pytest.mark.parametrize(("address", "within"), ADDRESSES)
def test_ip(address: str, within: bool) -> None:
    call = CallFacts(FRIDAY_NOON, ip=address)
    assert unmet({"ip": ["192.0.2.0/24", "2001:db8::/32"]}, call) == (() if within else (Reason.CONSTRAINT_IP,))


@pytest.mark.parametrize(("today", "within"), [(0, True), (99, True), (100, False), (None, True)])
def test_calls_per_day(today: int | None, within: bool) -> None:
    call = CallFacts(FRIDAY_NOON, calls_today=today)
    assert unmet({"calls_per_day": 100}, call) == (() if within else (Reason.CONSTRAINT_CALL_BUDGET,))


ARGUMENTS: list[tuple[dict[str, Any], Any, bool]] = [
    ({"at": "/amount", "max": 100}, {"amount": 100}, True),
    ({"at": "/amount", "max": 100}, {"amount": 100.5}, False),
    ({"at": "/amount", "max": 100, "min": 1}, {"amount": 0}, False),
    ({"at": "/amount", "max": 100}, {"amount": "1"}, False),
    ({"at": "/amount", "max": 100}, {"amount": True}, False),
    ({"at": "/amount", "max": 100}, {}, False),
    ({"at": "/amount", "max": 100}, None, False),
    ({"at": "/room", "in": ["blue", "green"]}, {"room": "blue"}, True),
    ({"at": "/room", "in": ["blue", "green"]}, {"room": ["blue"]}, False),
    ({"at": "/n", "in": [1]}, {"n": True}, False),
    ({"at": "/a/0/b~1c", "is": "x"}, {"a": [{"b/c": "x"}]}, True),
    ({"at": "/a/1", "is": "x"}, {"a": ["x"]}, False),
    ({"at": "/a/-1", "is": "x"}, {"a": ["x"]}, False),
    ({"at": "", "is": {}}, {}, True),
]


@pytest.mark.parametrize(("rule", "arguments", "within"), ARGUMENTS)
def test_arguments(rule: dict[str, Any], arguments: Any, within: bool) -> None:
    call = CallFacts(FRIDAY_NOON, arguments=arguments)
    assert unmet({"arguments": [rule]}, call) == (() if within else (Reason.CONSTRAINT_ARGUMENT,))


UNREADABLE: list[dict[str, Any]] = [
    {"time_window": "always"},
    {"time_window": {"days": []}},
    {"time_window": {"days": ["Friday"]}},
    {"time_window": {"from": "8 o'clock"}},
    {"time_window": {"zone": "Middle/Earth"}},
    {"time_window": {"zone": "../../etc/passwd"}},
    {"time_window": {"until": "18:00"}},
    {"ip": []},
    {"ip": ["everywhere"]},
    {"ip": "192.0.2.0/24"},
    {"calls_per_day": -1},
    {"calls_per_day": True},
    {"calls_per_day": "100"},
    {"arguments": {"at": "/a", "is": 1}},
    {"arguments": [{"at": "a", "is": 1}]},
    {"arguments": [{"at": "/a"}]},
    {"arguments": [{"at": "/a", "like": "x"}]},
    {"arguments": [{"at": "/a", "max": "1"}]},
    {"sign_in": {}},
    {"sign_in": "2fa"},
    {"sign_in": {"acr": "gold"}},
    {"sign_in": {"max_age": -1}},
    {"sign_in": {"max_age": True}},
    {"sign_in": {"amr": "otp"}},
    {"unheard_of": 1},
]


@pytest.mark.parametrize("constraints", UNREADABLE)
def test_what_cannot_be_read_refuses(constraints: dict[str, Any]) -> None:
    call = CallFacts(FRIDAY_NOON, ip="192.0.2.7", arguments={"a": 1}, calls_today=0)
    assert unmet(constraints, call) == (Reason.CONSTRAINT_UNKNOWN,)


def test_all_constraints_that_are_not_met_are_named() -> None:
    found = unmet({"ip": ["192.0.2.0/24"], "calls_per_day": 0}, CallFacts(FRIDAY_NOON, ip="::1", calls_today=0))
    assert set(found) == {Reason.CONSTRAINT_IP, Reason.CONSTRAINT_CALL_BUDGET}


@pytest.mark.parametrize(
    ("rule", "acr", "age", "within"),
    [
        ({"acr": "2fa"}, "2fa", None, True),
        ({"acr": "2fa"}, "phr", None, True),
        ({"acr": "2fa"}, "1fa", None, False),
        ({"acr": "2fa"}, "", None, False),
        ({"acr": "2fa"}, "unheard-of", None, False),
        ({"max_age": 60}, "", 60, True),
        ({"max_age": 60}, "phr", 61, False),
        ({"max_age": 0}, "", 0, True),
        ({"max_age": 60}, "", None, False),
        ({"acr": "1fa", "max_age": 60}, "1fa", 30, True),
    ],
)
def test_sign_in(rule: dict[str, Any], acr: str, age: int | None, within: bool) -> None:
    at = None if age is None else int(FRIDAY_NOON.timestamp()) - age
    call = CallFacts(FRIDAY_NOON, acr=acr, auth_time=at)
    assert unmet({"sign_in": rule}, call) == (() if within else (Reason.CONSTRAINT_SIGN_IN,))
    assert unmet({"sign_in": rule}, CallFacts(FRIDAY_NOON), spends=False) == ()  # nothing is done, nothing is needed


@pytest.mark.parametrize(
    ("rules", "both"),
    [
        (({"acr": "1fa"}, {"acr": "phr", "max_age": 90}), {"acr": "phr", "max_age": 90}),
        (({"max_age": 60}, {"max_age": 90}), {"max_age": 60}),
        ((None, {"acr": "2fa"}), {"acr": "2fa"}),
        ((None, {}), {}),
    ],
)
def test_the_stricter_of_two_demands_counts_in_each_part(rules: tuple[Any, ...], both: dict[str, Any]) -> None:
    assert strictest(*rules) == both
