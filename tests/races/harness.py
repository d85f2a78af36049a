"""One race and its verdict: many callers with one thing that counts once, several such things at the same moment."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tests.races.callers import PATIENCE, Address, Answer, Caller
from tests.races.scene import Beside, Scene


@dataclass
class Artefact:
    """One thing that counts once: the same request by whoever calls, and what its kind knows of it."""

    request: bytes
    name: str = ""  # how the database knows it


@dataclass
class Raced:
    """What one artefact brought its callers. `again` is the answer to one more who came when all was over."""

    artefact: Artefact
    answers: list[Answer | None]
    again: Answer | None = None
    winners: list[Answer] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Answers that a kill cut off."""
        return sum(answer is None for answer in self.answers)


class Kind(Protocol):
    """Something that counts once."""

    name: str
    door: str  # `web` or `gateway`
    refusals: frozenset[int]  # the statuses of those who come second

    def make(self, count: int) -> list[Artefact]: ...

    def has_won(self, answer: Answer) -> bool: ...

    def after(self, since: str, races: Sequence[Raced]) -> list[str]:
        """What is wrong with what is alive now. `since` is the database's time from before the race."""
        ...


@dataclass
class Verdict:
    """All races of one kind."""

    name: str
    races: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    won: int = 0
    kills: int = 0
    findings: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def is_sound(self) -> bool:
        return not self.findings


def run(
    scene: Scene,
    kind: Kind,
    *,
    races: int,
    callers: int = 12,
    at_once: int = 4,
    kill_every: int = 0,
    doors: Sequence[Address] = (),
    until_caught: bool = False,
    seed: int = 1,
) -> Verdict:
    """`races` artefacts, `at_once` of them in one moment, each with `callers` at `doors` in turn.

    With `kill_every`, in each so-manieth moment one process dies by kill -9 while it answers.
    """
    dice, verdict, begun = random.Random(seed), Verdict(kind.name), time.monotonic()
    racing = scene.racing[kind.door]
    doors = list(doors) or racing.doors
    team = [[Caller(doors[number % len(doors)]) for number in range(callers)] for _ in range(at_once)]
    moment = 0
    try:
        while verdict.races < races and not (until_caught and verdict.findings):
            moment += 1
            kills = bool(kill_every) and moment % kill_every == 0
            artefacts = kind.make(min(at_once, races - verdict.races))
            since = scene.clock()
            teams = list(zip(artefacts, team, strict=False))
            raced = _race(teams, dice, racing if kills else None)
            for one, mine in zip(raced, team, strict=False):
                one.again = _once_more(mine, one.artefact.request)
            _judge(kind, raced, verdict, kills=kills)
            verdict.findings += [f"{kind.name}: {finding}" for finding in kind.after(since, raced)]
            verdict.races += len(raced)
            verdict.kills += kills
    finally:
        for mine in team:
            for caller in mine:
                caller.close()
    verdict.seconds = time.monotonic() - begun
    return verdict


def _race(teams: list[tuple[Artefact, list[Caller]]], dice: random.Random, killed: Beside | None) -> list[Raced]:
    for artefact, callers in teams:
        for caller in callers:
            caller.load(artefact.request)
    everybody = [caller for _, callers in teams for caller in callers]
    dice.shuffle(everybody)
    door = dice.choice(killed.doors) if killed else None
    if killed and door and dice.random() < 0.5:  # to be killed between deed and answer would else be rare luck
        killed.silence(door)
    for caller in everybody:
        caller.fire()
    if killed and door:
        _await_answers(everybody, dice.randrange(len(everybody) // 2))
        time.sleep(dice.uniform(0, 0.02))
        killed.kill(door)
    found = [Raced(artefact, [caller.answer() for caller in callers]) for artefact, callers in teams]
    if killed and door:
        killed.revive(door)
    return found


def _await_answers(callers: Sequence[Caller], count: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while sum(caller.is_answered for caller in callers) < count:
        assert time.monotonic() < deadline, "they do not answer"
        time.sleep(0.001)


def _once_more(callers: Sequence[Caller], request: bytes) -> Answer | None:
    """What a client does whose answer was lost. A worker that is new may not know us yet, so any of them may answer."""
    for caller in callers:
        caller.load(request)
        caller.fire()
        answer = caller.answer()
        if answer is not None:
            return answer
    return None


def _judge(kind: Kind, raced: Sequence[Raced], verdict: Verdict, *, kills: bool) -> None:
    def wrong(words: str) -> None:
        verdict.findings.append(f"{kind.name}: {words}")

    for one in raced:
        answers = [*one.answers, one.again]
        one.winners = [answer for answer in answers if answer is not None and kind.has_won(answer)]
        verdict.won += len(one.winners)
        for answer in answers:
            verdict.statuses[str(answer.status) if answer else "lost"] += 1
            if answer is None or answer in one.winners:
                continue
            if answer.status == 503 and "retry-after" in answer.headers:
                continue
            if answer.status not in kind.refusals:
                said = answer.headers.get("location", "") or repr(answer.body[:200])
                wrong(f"an answer with {answer.status}: {said}")
        if len(one.winners) > 1:
            wrong(f"{len(one.winners)} successes with one")
        if not kills and one.lost:
            wrong(f"{one.lost} connections broke though nobody was killed")
        excused = one.lost or any(answer is not None and answer.status == 503 for answer in answers)
        if not one.winners and not excused:
            wrong("nobody won")
        if one.again is None:
            wrong("the door did not open again")
