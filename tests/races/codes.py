"""Authorization codes (OAuth 2.1 §4.1.3) and pushed requests (RFC 9126 §4)."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from urllib.parse import urlencode
from uuid import uuid4

from tests.races.agents import CALLBACK, RacingAgent, hash_in_json
from tests.races.callers import Answer, written
from tests.races.harness import Artefact, Raced
from tests.races.scene import Scene
from tests.races.tokens import AtTokenEndpoint

_ALIVE = (
    "SELECT count(*) FROM oauth_refreshtoken r JOIN oauth_authorizationcode c "
    "ON c.tenant_id = r.tenant_id AND c.family = r.family "
    "WHERE c.code_hash = ANY(%s::bytea[]) AND r.spent_at IS NULL AND r.revoked_at IS NULL"
)
_OF_NO_CODE = (
    "SELECT count(*) FROM oauth_refreshtoken r WHERE r.agent_id = %s::uuid AND r.created_at >= %s::timestamptz "
    "AND NOT EXISTS (SELECT FROM oauth_authorizationcode c WHERE c.tenant_id = r.tenant_id AND c.family = r.family)"
)


class Codes(AtTokenEndpoint):
    """One wins; since others came with the same code, nobody keeps anything (OAuth 2.1 §4.1.3)."""

    name = "authorization code"

    def __init__(self, scene: Scene) -> None:
        self.agent = RacingAgent.registered(scene, "Code racer")
        self.agent.code(scene.person("matt"))
        self._id = self.agent.id

    def make(self, count: int) -> list[Artefact]:
        scene = self.agent.scene
        fresh = self.agent.code(scene.person("matt"))  # the grant stands, so nobody is asked
        [(origin,)] = scene.sql(
            "SELECT id::text FROM oauth_authorizationcode WHERE code_hash = %s::bytea", (hash_in_json(fresh),)
        )
        codes = [secrets.token_urlsafe(32) for _ in range(count)]
        scene.copy(
            "oauth_authorizationcode", origin, [{"id": str(uuid4()), "code_hash": hash_in_json(c)} for c in codes]
        )
        return [Artefact(self.agent.request("token", self.agent.code_form(c)), hash_in_json(c)) for c in codes]

    def after(self, since: str, races: Sequence[Raced]) -> list[str]:
        sql, found = self.agent.scene.sql, []
        [(alive,)] = sql(_ALIVE, ([one.artefact.name for one in races],))
        [(orphans,)] = sql(_OF_NO_CODE, (self._id, since))
        found += [f"{alive} refresh tokens of shared codes are alive"] if alive else []
        found += [f"{orphans} refresh tokens belong to no code"] if orphans else []
        return found + self.unheld(since, races) + self.surviving(races)


class PushedRequests:
    """One browser has one answer, however often it comes."""

    name = "pushed request (PAR)"
    door = "web"
    refusals = frozenset({400})

    def __init__(self, scene: Scene) -> None:
        self.agent = RacingAgent.registered(scene, "Pushing racer")
        self.agent.code(scene.person("matt"))  # so that the answer is a code at once
        self._id = self.agent.id

    def make(self, count: int) -> list[Artefact]:
        scene, made = self.agent.scene, []
        for _ in range(count):
            pushed = self.agent.send("par", self.agent.asked())
            assert pushed.status_code == 201, pushed.text
            uri = pushed.json()["request_uri"]
            query = urlencode({"client_id": self.agent.client_id, "request_uri": uri})
            cookie = {"Cookie": cookies_of(scene, "matt")}
            made.append(
                Artefact(written("GET", f"{self.agent.path('authorize')}?{query}", scene.host, headers=cookie), uri)
            )
        return made

    def has_won(self, answer: Answer) -> bool:
        return answer.status == 303 and answer.headers["location"].startswith(f"{CALLBACK}?code=")

    def after(self, since: str, races: Sequence[Raced]) -> list[str]:
        return unheld_codes(self.agent, self._id, since, races)


def cookies_of(scene: Scene, name: str) -> str:
    """Of a person's browser."""
    return "; ".join(f"{one.name}={one.value}" for one in scene.person(name).http.cookies.jar)


def unheld_codes(agent: RacingAgent, agent_id: str, since: str, races: Sequence[Raced]) -> list[str]:
    """Codes that nobody was given, beyond those whose answer was cut off."""
    [(made,)] = agent.scene.sql(
        "SELECT count(*) FROM oauth_authorizationcode WHERE agent_id = %s::uuid AND created_at >= %s::timestamptz",
        (agent_id, since),
    )
    won = sum(len(one.winners) for one in races)
    silent = sum(not one.winners for one in races)
    return [] if won <= made <= won + silent else [f"{made} codes were written and {won} given"]
