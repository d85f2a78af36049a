"""Suggested scopes: plain words, a risk class that names decide, and no way to talk it down."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentauth.resources.drafts import DraftOperation
from agentauth.resources.models import SCOPE_NAME
from agentauth.resources.suggest import risk_of, suggest

RISING = ["read", "change", "dangerous"]


def call(key: str, name: str = "") -> DraftOperation:
    method, path = key.split(" ")
    return DraftOperation(key=key, method=method, path=path, name=name)


def tool(name: str, read_only: bool | None = None, destructive: bool | None = None) -> DraftOperation:
    return DraftOperation(key=name, tool=name, says_read_only=read_only, says_destructive=destructive)


@pytest.mark.parametrize(
    ("operation", "name", "words", "risk"),
    [
        (call("GET /rooms"), "rooms:read", "See rooms", "read"),
        (call("GET /api/v2/rooms/{room}"), "rooms:read", "See rooms", "read"),
        (call("POST /rooms/{room}/book"), "rooms:book", "Book a room", "change"),
        (call("POST /rooms/meeting/enter"), "meeting:enter", "Enter the meeting room", "change"),
        (call("PUT /categories/{id}"), "categories:change", "Change a category", "change"),
        (call("PATCH /users/{id}"), "users:change", "Change a user", "change"),
        (call("POST /repos/{r}/issues"), "issues:add", "Add an issue", "change"),
        (call("DELETE /rooms/{room}"), "rooms:delete", "Delete a room", "dangerous"),
        (call("POST /payments"), "payments:add", "Add a payment", "dangerous"),
        (call("POST /v1/batch"), "batch:add", "Add a batch", "dangerous"),
        (call("GET /payments"), "payments:read", "See payments", "read"),
        (call("GET /secrets/{name}"), "secrets:read", "See secrets", "dangerous"),
        (call("GET /users/{id}/delete"), "users:delete", "Delete a user", "dangerous"),
        (call("GET /rooms/{room}/open"), "rooms:open", "Open a room", "change"),
        (call("POST /rooms/{room}", "deleteRoom"), "rooms:add", "Add a room", "dangerous"),
        (tool("list_rooms"), "rooms:read", "See rooms", "read"),
        (tool("getTinyImage"), "tiny-image:read", "See tiny image", "read"),
        (tool("book_room"), "room:book", "Book a room", "change"),
        (tool("notion-update-page"), "notion-page:update", "Update a notion page", "change"),
        (tool("delete_page"), "page:delete", "Delete a page", "dangerous"),
        (tool("get_and_delete"), "get-and:delete", "Delete a get and", "dangerous"),
        (tool("run_command"), "command:run", "Run a command", "dangerous"),
        (tool("read_env"), "env:read", "See env", "dangerous"),
        (tool("frobnicate"), "frobnicate:use", "Use frobnicate", "change"),
        (tool("frobnicate", read_only=True), "frobnicate:use", "Use frobnicate", "read"),
    ],
)
def test_a_scope_is_suggested_in_plain_words(operation: DraftOperation, name: str, words: str, risk: str):
    (scope,) = suggest([operation])
    assert (scope.name, scope.words, scope.risk, scope.keys) == (name, words, risk, [operation.key])


def test_what_is_alike_shares_a_scope():
    scopes = suggest([call("GET /rooms"), call("GET /rooms/{room}"), call("HEAD /rooms"), call("DELETE /rooms/{room}")])
    assert [(scope.name, len(scope.keys)) for scope in scopes] == [("rooms:read", 3), ("rooms:delete", 1)]


def test_a_dangerous_operation_never_hides_behind_a_harmless_scope():
    scopes = suggest([tool("list_rooms"), tool("see_rooms", destructive=True)])
    assert {scope.name: scope.risk for scope in scopes} == {
        "rooms:read": "read",
        "rooms:read-dangerous": "dangerous",
    }


NAMES = st.sampled_from(
    [
        "list_rooms",
        "get_user",
        "delete_user",
        "pay",
        "sendMail",
        "frobnicate",
        "run",
        "read_secret",
        "admin",
        "x",
        "écho",
    ]
) | st.text(min_size=1, max_size=30)
HINTS = st.none() | st.booleans()


@given(name=NAMES, read_only=HINTS, destructive=HINTS)
def test_hints_raise_a_risk_and_never_lower_it_below_what_the_name_says(
    name: str, read_only: bool | None, destructive: bool | None
):
    by_name, hinted = risk_of(tool(name)), risk_of(tool(name, read_only, destructive))
    says_something = by_name != "change" or risk_of(tool(name, read_only=True)) == "change"
    if says_something:
        assert RISING.index(hinted) >= RISING.index(by_name)
    if destructive:
        assert hinted == "dangerous"
    if by_name == "dangerous":
        assert hinted == "dangerous"


@given(names=st.lists(NAMES, min_size=1, max_size=12, unique=True), destructive=HINTS)
def test_every_operation_is_in_exactly_one_scope_of_its_own_risk(names: list[str], destructive: bool | None):
    operations = [tool(name, destructive=destructive) for name in names]
    operations += [call(f"{method} /things/{{id}}") for method in ("GET", "POST", "DELETE")]
    scopes = suggest(operations)
    assert sorted(key for scope in scopes for key in scope.keys) == sorted(o.key for o in operations)
    risk = {operation.key: risk_of(operation) for operation in operations}
    for scope in scopes:
        assert {risk[key] for key in scope.keys} == {scope.risk}
        SCOPE_NAME(scope.name)
        assert scope.words == scope.words.strip() and 1 <= len(scope.words) <= 120
    assert len({scope.name for scope in scopes}) == len(scopes)
