"""What every race at the token endpoint promises: of one thing comes one token, which is on record and works."""

from __future__ import annotations

from collections.abc import Sequence

from tests.races.agents import RacingAgent, jti_of
from tests.races.callers import Answer
from tests.races.harness import Raced


class AtTokenEndpoint:
    """For kinds whose success is a token response."""

    door = "web"
    refusals = frozenset({400})
    agent: RacingAgent

    def has_won(self, answer: Answer) -> bool:
        return answer.status == 200

    def unheld(self, since: str, races: Sequence[Raced]) -> list[str]:
        """Tokens on record that nobody was given, beyond those whose answer was cut off."""
        issued = self.agent.scene.issued(self.agent.client_id, since)
        given = {jti_of(answer) for one in races for answer in one.winners}
        silent = sum(not one.winners for one in races)
        found = [f"a token was given and is not on record: {jti}" for jti in given - set(issued)]
        if len(set(issued) - given) > silent:
            found.append(f"{len(set(issued) - given)} tokens were issued that nobody was given")
        return found

    def broken(self, races: Sequence[Raced]) -> list[str]:
        """Tokens that were given and do not count."""
        given = [answer for one in races for answer in one.winners]
        return [f"a token that was given is void: {jti_of(a)}" for a in given if not self.agent.is_active(_access(a))]

    def surviving(self, races: Sequence[Raced]) -> list[str]:
        """Tokens that count although others came with the same thing."""
        given = [answer for one in races for answer in one.winners]
        return [f"the winner of a shared one keeps {jti_of(a)}" for a in given if self.agent.is_active(_access(a))]


def _access(answer: Answer) -> str:
    return str(answer.json()["access_token"])
