"""Every demand of a specification has a test that exists, or a reason why it does not bind us.

Each list names the text that it was drawn from, sentence by sentence. Where this server does otherwise than it is told,
the list says that too, and why: a deviation is no demand on somebody else.
"""

from __future__ import annotations

import ast
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[2]
LISTS = sorted(HERE.glob("*.json"))
# SAID: what a text describes without one of these words, and we hold ourselves to all the same
LEVELS = {"MUST", "MUST NOT", "REQUIRED", "SHALL", "SHALL NOT", "SAID"}
ANSWERS = ("test", "not_ours", "otherwise")


@cache
def names_of_tests(path: str) -> frozenset[str]:
    """The names of the tests in a file of this checkout."""
    found = CHECKOUT / path
    if not found.is_file():
        return frozenset()
    tree = ast.parse(found.read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds) and node.name.startswith("test_"))


def demands(path: Path) -> list[dict[str, Any]]:
    found = json.loads(path.read_text())
    assert set(found) == {"specification", "text", "demands"} and found["specification"] and found["text"], path.name
    return list(found["demands"])


def wrong_with(demand: dict[str, Any]) -> str:
    """Empty if it can stand."""
    known = {"section", "level", "about", *ANSWERS}
    if not set(demand) <= known or not demand.get("section") or demand.get("level") not in LEVELS:
        return "it has section, level and about, and no other names"
    if not 5 <= len(demand.get("about", "")) <= 160:
        return "say in one line of our own words what is demanded"
    answers = [demand[name] for name in ANSWERS if name in demand]
    if len(answers) != 1:
        return "it has a test, or a reason why it is not ours, or why we do otherwise"
    if "test" not in demand:
        return "" if len(answers[0]) >= 10 else "say why"
    path, _, name = demand["test"].partition("::")
    return "" if name in names_of_tests(path) else f"there is no test {demand['test']}"


@pytest.mark.parametrize("path", LISTS, ids=[path.stem for path in LISTS])
def test_every_demand_has_a_test_or_a_reason(path: Path) -> None:
    listed = demands(path)
    found = [f"{one.get('section')}: {said}" for one in listed if (said := wrong_with(one))]
    assert listed and not found, "\n".join(found)
    told = [(one["section"], one["about"]) for one in listed]
    assert len(set(told)) == len(told), "the same demand stands twice"


def test_the_check_notices_what_is_missing() -> None:
    good = {"section": "§1", "level": "MUST", "about": "the check itself is checked"}
    mine = f"{Path(__file__).relative_to(CHECKOUT)}::test_the_check_notices_what_is_missing"
    assert wrong_with(good | {"test": mine}) == ""
    assert wrong_with(good | {"not_ours": "it binds the client alone"}) == ""
    assert wrong_with(good | {"otherwise": "the other way is the safer one"}) == ""
    for bad in (
        {},
        {"test": mine + "x"},
        {"test": "tests/none.py::test_x"},
        {"test": mine, "not_ours": "both at once"},
        {"not_ours": "both at once", "otherwise": "both at once"},
        {"otherwise": "no"},
    ):
        assert wrong_with(good | bad)
    assert wrong_with(good | {"test": mine, "level": "SHOULD"}) and wrong_with(good | {"test": mine, "more": 1})
