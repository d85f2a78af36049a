"""Device codes (RFC 8628 §3.4) and questions that agents ask (OpenID Connect CIBA Core §10.1).

One wins; since others came with the same one, nobody keeps anything.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from uuid import uuid4

from tests.races.agents import RacingAgent, hash_in_json
from tests.races.harness import Artefact, Raced
from tests.races.scene import Scene
from tests.races.tokens import AtTokenEndpoint

_DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
_CIBA = "urn:openid:params:grant-type:ciba"


class _AnsweredElsewhere(AtTokenEndpoint):
    grant_type: str
    parameter: str
    table: str
    column: str

    def __init__(self, agent: RacingAgent) -> None:
        self.agent = agent
        [(self._origin,)] = agent.scene.sql(
            f"SELECT id::text FROM {self.table} WHERE agent_id = %s::uuid AND allowed_at IS NOT NULL", (agent.id,)
        )

    def make(self, count: int) -> list[Artefact]:
        made = [(secrets.token_urlsafe(32), str(uuid4())) for _ in range(count)]
        changes = [{"id": row, self.column: hash_in_json(one), **self.besides()} for one, row in made]
        self.agent.scene.copy(self.table, self._origin, changes)
        return [Artefact(self._request(one), row) for one, row in made]

    def _request(self, one: str) -> bytes:
        return self.agent.request("token", {"grant_type": self.grant_type, self.parameter: one})

    def besides(self) -> dict[str, str]:
        return {}

    def after(self, since: str, races: Sequence[Raced]) -> list[str]:
        return self.families_left(since, races) + self.unheld(since, races) + self.surviving(races)


class DeviceCodes(_AnsweredElsewhere):
    name = "device code"
    grant_type, parameter = _DEVICE, "device_code"
    table, column = "oauth_devicerequest", "device_hash"

    def __init__(self, scene: Scene) -> None:
        document = {
            "client_name": f"Device racer {secrets.token_hex(3)}",
            "grant_types": [_DEVICE, "refresh_token"],
            "token_endpoint_auth_method": "client_secret_basic",
            "response_types": [],
        }
        registered = scene.http.post(f"{scene.issuer}/oauth/register", json=document)
        assert registered.status_code == 201, registered.text
        agent = RacingAgent(scene, registered.json()["client_id"], registered.json()["client_secret"])
        asked = agent.send("device_authorization", {"scope": "rooms:read", "resource": scene.office})
        assert asked.status_code == 200, asked.text
        matt = scene.person("matt")
        matt.open(asked.json()["verification_uri_complete"])
        matt.press("Continue")
        matt.press("Allow")
        super().__init__(agent)

    def besides(self) -> dict[str, str]:
        return {"user_hash": hash_in_json(secrets.token_urlsafe(8))}


class AskedQuestions(_AnsweredElsewhere):
    name = "CIBA auth_req_id"
    grant_type, parameter = _CIBA, "auth_req_id"
    table, column = "oauth_backchannelrequest", "auth_req_hash"

    def __init__(self, scene: Scene) -> None:
        agent = RacingAgent.registered(scene, "Asking racer")
        form = {"scope": "openid rooms:read", "resource": scene.office, "login_hint": "matt@acme.example"}
        asked = agent.send("bc-authorize", form | {"requested_expiry": "7200"})
        assert asked.status_code == 200, asked.text
        [(question,)] = scene.sql(
            "SELECT id::text FROM oauth_backchannelrequest WHERE agent_id = %s::uuid", (agent.id,)
        )
        matt = scene.person("matt")
        matt.open(f"/t/acme/my/inbox/asks/{question}/")
        matt.press("Allow")
        super().__init__(agent)
