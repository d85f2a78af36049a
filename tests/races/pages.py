"""What a person presses once: the answer to a question, an invitation, a sign-in link."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from urllib.parse import urlencode
from uuid import uuid4

from tests.races.agents import RacingAgent, hash_in_json
from tests.races.callers import Answer, written
from tests.races.codes import cookies_of, unheld_codes
from tests.races.harness import Artefact, Raced
from tests.races.scene import Scene


class ConsentForms:
    """A question has one answer; of many at once there is still one grant."""

    name = "consent form"
    door = "web"
    refusals = frozenset({400})

    def __init__(self, scene: Scene) -> None:
        self.agent = RacingAgent.registered(scene, "Questioning racer")
        self._id = self.agent.id

    def make(self, count: int) -> list[Artefact]:
        scene, made = self.agent.scene, []
        matt = scene.person("matt")
        for _ in range(count):
            matt.open(f"{scene.issuer}/oauth/authorize?{urlencode(self.agent.asked(prompt='consent'))}")
            form, button = matt.form("Allow")
            fields = form.filled({}, button)
            filled = {name: [value for one, value in fields if one == name] for name, _ in fields}
            headers = {"Cookie": cookies_of(scene, "matt"), "Origin": scene.stack.base_url}
            made.append(Artefact(written("POST", self.agent.path("consent"), scene.host, headers=headers, form=filled)))
        return made

    def has_won(self, answer: Answer) -> bool:
        return answer.status == 303 and "code=" in answer.headers["location"]

    def after(self, since: str, races: Sequence[Raced]) -> list[str]:
        [(live,)] = self.agent.scene.sql(
            "SELECT count(*) FROM grants_grant WHERE agent_id = %s::uuid AND ended_at IS NULL AND expires_at > now()",
            (self._id,),
        )
        found = [] if live == 1 else [f"{live} grants are alive"]
        return found + unheld_codes(self.agent, self._id, since, races)


class _Links:
    door = "web"

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def _pressed(self, path: str, **fields: str) -> bytes:
        """The form behind a link, as a browser that nobody knows sends it."""
        same = secrets.token_hex(16)
        headers = {"Cookie": f"agentauth-csrf={same}", "Origin": self._scene.stack.base_url}
        form = {"csrfmiddlewaretoken": same, **fields}
        return written("POST", path, self._scene.host, headers=headers, form=form)


class Invitations(_Links):
    """One place, one account, one membership."""

    name = "invitation"
    refusals = frozenset({404})

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        ada, email = scene.person("ada"), f"{secrets.token_hex(6)}@example.org"
        ada.open("/t/acme/members/invite/")
        ada.press("Invite", email=email)
        [(self._origin,)] = scene.sql("SELECT id::text FROM tenants_invitation WHERE email = %s", (email,))

    def make(self, count: int) -> list[Artefact]:
        made = [(secrets.token_urlsafe(32), f"{secrets.token_hex(6)}@example.org") for _ in range(count)]
        changes = [{"id": str(uuid4()), "token_hash": hash_in_json(token), "email": email} for token, email in made]
        self._scene.copy("tenants_invitation", self._origin, changes)
        password = secrets.token_urlsafe(12)
        return [
            Artefact(self._pressed(f"/t/acme/join/{token}/", name="Ina Vited", password=password), email)
            for token, email in made
        ]

    def has_won(self, answer: Answer) -> bool:
        return answer.status == 303

    def after(self, since: str, races: Sequence[Raced]) -> list[str]:
        found = []
        rows = self._scene.sql(
            "SELECT u.email, count(DISTINCT u.id), count(m.id) FROM tenants_user u "
            "LEFT JOIN tenants_member m ON m.user_id = u.id WHERE u.email = ANY(%s) GROUP BY u.email",
            ([one.artefact.name for one in races],),
        )
        for email, users, members in rows:
            if (users, members) != (1, 1):
                found.append(f"{email} has {users} accounts and {members} places")
        missing = {one.artefact.name for one in races if one.winners} - {email for email, _, _ in rows}
        return found + [f"{email} got in and has no account" for email in missing]


class SignInLinks(_Links):
    """One session each."""

    name = "sign-in link"
    refusals = frozenset({410})

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        [(self._origin,)] = scene.sql(
            "SELECT l.token_hash FROM tenants_signinlink l JOIN tenants_user u ON u.id = l.user_id "
            "WHERE u.email = 'cora@acme.example' AND l.used_at IS NULL ORDER BY l.created_at DESC LIMIT 1"
        )

    def make(self, count: int) -> list[Artefact]:
        tokens = [secrets.token_urlsafe(32) for _ in range(count)]
        changes = [{"token_hash": hash_in_json(token)} for token in tokens]
        self._scene.copy("tenants_signinlink", self._origin, changes, key="token_hash")
        return [Artefact(self._pressed(f"/sign-in/{token}")) for token in tokens]

    def has_won(self, answer: Answer) -> bool:
        return answer.status in (302, 303)

    def after(self, since: str, races: Sequence[Raced]) -> list[str]:
        [(entered,)] = self._scene.sql(
            "SELECT count(*) FROM audit_event WHERE action = 'member.signed_in' AND at >= %s::timestamptz", (since,)
        )
        won = sum(len(one.winners) for one in races)
        silent = sum(not one.winners for one in races)
        return [] if won <= entered <= won + silent else [f"{entered} sign-ins are on record for {won} that worked"]
