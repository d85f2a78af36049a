"""What every race at the token endpoint promises: of one thing comes one token, which is on record and works."""

from __future__ import annotations

from collections.abc import Sequence

from tests.races.agents import RacingAgent, jti_of
from tests.races.callers import Answer
from tests.races.harness import Raced

_ALIVE = (
    "SELECT count(*) FROM oauth_refreshtoken WHERE family = ANY(%s::uuid[]) AND spent_at IS NULL AND revoked_at IS NULL"
)
_IN_NO_FAMILY = (
    "SELECT count(*) FROM oauth_refreshtoken r JOIN agents_agent a ON a.id = r.agent_id "
    "WHERE a.client_id = %s AND r.created_at >= %s::timestamptz AND r.family <> ALL(%s::uuid[])"
)


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

    def families_left(self, since: str, races: Sequence[Raced]) -> list[str]:
        """Refresh tokens that are alive although others came with the same thing. Its name is that of its family."""
        families, sql, found = [one.artefact.name for one in races], self.agent.scene.sql, []
        [(alive,)] = sql(_ALIVE, (families,))
        [(orphans,)] = sql(_IN_NO_FAMILY, (self.agent.client_id, since, families))
        found += [f"{alive} refresh tokens of shared families are alive"] if alive else []
        found += [f"{orphans} refresh tokens belong to no family of these"] if orphans else []
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
