"""A few races of each kind on the live stack, one with a kill -9 at each door; and every mutant is caught.

The full measure is `python -m tests.races --races 500 --kill 5`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.races.harness import Kind, run
from tests.races.kinds import KINDS
from tests.races.mutants import MUTANTS
from tests.races.scene import Scene
from tests.stack import Stack

pytestmark = [pytest.mark.flow, pytest.mark.timeout(300)]

_CATCH_WITHIN = 60  # races


@pytest.fixture(scope="module")
def scene(stack: Stack) -> Iterator[Scene]:
    with Scene(stack) as made:
        yield made


@pytest.fixture(scope="module")
def kinds(scene: Scene) -> dict[str, Kind]:
    """Each with the agent that it registers once."""
    return {}


def _kind(name: str, scene: Scene, kinds: dict[str, Kind]) -> Kind:
    if name not in kinds:
        kinds[name] = KINDS[name](scene)
    return kinds[name]


@pytest.mark.parametrize("name", KINDS)
def test_of_many_at_once_one_succeeds_and_nothing_is_left_over(name: str, scene: Scene, kinds: dict[str, Kind]) -> None:
    verdict = run(scene, _kind(name, scene, kinds), races=3, at_once=3)
    assert verdict.findings == []
    assert verdict.won == 3


@pytest.mark.parametrize("name", ["code", "gateway-proof"])
def test_a_process_that_is_killed_in_the_middle_gives_nobody_a_second_success(
    name: str, scene: Scene, kinds: dict[str, Kind]
) -> None:
    verdict = run(scene, _kind(name, scene, kinds), races=3, at_once=3, kill_every=1)
    assert verdict.findings == []
    assert verdict.kills == 1


def test_no_process_has_failed_by_mistake(scene: Scene) -> None:
    """Comes before the mutants, whose failures are not counted."""
    assert scene.tracebacks() == []


@pytest.mark.parametrize("name", [name for name in MUTANTS if name])
def test_a_missing_lock_or_check_is_caught(name: str, scene: Scene, kinds: dict[str, Kind]) -> None:
    kind = _kind(name, scene, kinds)
    racing = scene.racing[kind.door]
    racing.become(name)
    # One writer for each worker of the gateway: only two workers can come in between one another
    doors = racing.doors if kind.door == "gateway" else racing.doors[1:]
    try:
        verdict = run(scene, kind, races=_CATCH_WITHIN, at_once=2, doors=doors, until_caught=True)
    finally:
        racing.become("")
    assert not verdict.is_sound, "nobody noticed"
