"""A person's yes to one concrete call: it goes through once, at whichever of the gateway's workers it arrives."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from tests.races.agents import RacingAgent
from tests.races.callers import Answer, written
from tests.races.harness import Artefact, Raced
from tests.races.proofs import unheld_calls
from tests.races.scene import Scene

_SAY_YES = (
    "UPDATE grants_approval a SET state = 'given', answered_at = now(), answered_by_id = g.member_id "
    "FROM grants_grant g WHERE g.tenant_id = a.tenant_id AND g.id = a.grant_id AND g.agent_id = %s::uuid "
    "AND a.state = 'pending' AND a.asked_at >= %s::timestamptz RETURNING a.args_hash"
)
_OPEN = (
    "SELECT a.args_hash, count(*) FILTER (WHERE a.state = 'given'), count(*) FILTER (WHERE a.state = 'pending') "
    "FROM grants_approval a JOIN grants_grant g ON g.tenant_id = a.tenant_id AND g.id = a.grant_id "
    "WHERE g.agent_id = %s::uuid AND (a.asked_at >= %s::timestamptz OR a.state = 'given') GROUP BY a.args_hash"
)


class OneCalls:
    name = "approval of one call"
    door = "gateway"
    refusals = frozenset({403})

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.agent = RacingAgent.registered(scene, "Careful racer")
        self.agent.scope = "rooms:read rooms:book"
        self._id, self._made = self.agent.id, 0
        self._fetch(**{"change-how": "ask"})

    def _fetch(self, **ticks: str) -> None:
        code = self.agent.code(self._scene.person("matt"), **ticks)
        answer = self.agent.send("token", self.agent.code_form(code))
        assert answer.status_code == 200, answer.text
        self._token, self._until = answer.json()["access_token"], time.monotonic() + answer.json()["expires_in"] / 3

    def make(self, count: int) -> list[Artefact]:
        requests, since = [], self._scene.clock()
        if time.monotonic() > self._until:
            self._fetch()
        for _ in range(count):
            self._made += 1
            start = datetime(2030, 1, 1, tzinfo=UTC) + timedelta(minutes=10 * self._made)
            wish = {"start": start.isoformat(), "minutes": 5}
            headers = {"Authorization": f"Bearer {self._token}"}
            path = "/acme/office/rooms/library/book"
            requests.append(written("POST", path, self._scene.gateway_host, headers=headers, document=wish))
            asked = self._scene.http.post(f"{self._scene.office}/rooms/library/book", json=wish, headers=headers)
            assert asked.status_code == 403, asked.text
        given = self._scene.sql(_SAY_YES, (self._id, since))
        assert len(given) == count, "the gateway has asked about each"
        return [Artefact(request) for request in requests]

    def has_won(self, answer: Answer) -> bool:
        return answer.status == 201

    def after(self, since: str, races: Sequence[Raced]) -> list[str]:
        found = unheld_calls(self._scene, self.agent.client_id, since, races)
        for _, given, pending in self._scene.sql(_OPEN, (self._id, since)):
            if given:
                found.append(f"{given} approvals are still good")
            if pending > 1:
                found.append(f"{pending} questions wait about one call")
        return found
