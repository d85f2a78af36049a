"""Refresh tokens (OAuth 2.1 §4.3.1): one rotation; since others came with the same one, the family ends."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from itertools import cycle
from uuid import uuid4

from tests.races.agents import RacingAgent, hash_in_json
from tests.races.callers import Caller
from tests.races.harness import Artefact, Raced
from tests.races.scene import Scene
from tests.races.tokens import AtTokenEndpoint


class RefreshTokens(AtTokenEndpoint):
    """As a client brings them the first time, when the ordinary way answers."""

    name = "refresh token"

    def __init__(self, scene: Scene) -> None:
        self.agent = RacingAgent.registered(scene, "Refreshing racer")
        self._id = self.agent.id
        code = self.agent.code(scene.person("matt"))
        assert self.agent.send("token", self.agent.code_form(code)).status_code == 200
        [(self._origin,)] = scene.sql("SELECT id::text FROM oauth_refreshtoken WHERE agent_id = %s::uuid", (self._id,))

    def make(self, count: int) -> list[Artefact]:
        tokens = [(secrets.token_urlsafe(32), str(uuid4())) for _ in range(count)]
        changes = [
            {"id": str(uuid4()), "token_hash": hash_in_json(token), "family": family, "access_jti": None}
            for token, family in tokens
        ]
        self.agent.scene.copy("oauth_refreshtoken", self._origin, changes)
        return [Artefact(self._request(token), family) for token, family in tokens]

    def _request(self, token: str) -> bytes:
        return self.agent.request("token", {"grant_type": "refresh_token", "refresh_token": token})

    def after(self, since: str, races: Sequence[Raced]) -> list[str]:
        return self.families_left(since, races) + self.unheld(since, races) + self.surviving(races)


class RotatedOnce(RefreshTokens):
    """As a client brings them from then on, when the short lane answers in the process that rotated them."""

    name = "refresh token, short lane"

    def make(self, count: int) -> list[Artefact]:
        made = []
        for artefact, door in zip(super().make(count), cycle(self.agent.scene.racing["web"].doors), strict=False):
            client = Caller(door)
            client.load(artefact.request)
            client.fire()
            rotated = client.answer()
            client.close()
            assert rotated is not None and rotated.status == 200, rotated
            made.append(Artefact(self._request(rotated.json()["refresh_token"]), artefact.name))
        return made
