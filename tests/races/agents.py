"""The agents that race: each kind has one of its own, so that none feels what another kind does to grants."""

from __future__ import annotations

import hashlib
import secrets
from base64 import b64encode, urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2

from tests.flows.admin import register_agent
from tests.flows.person import Person
from tests.races.callers import Answer, written
from tests.races.scene import Scene

CALLBACK = "http://127.0.0.1:43117/callback"


@dataclass
class RacingAgent:
    """A client with a secret, and Matt as its person where it has one."""

    scene: Scene
    client_id: str
    secret: str
    scope: str = "rooms:read"
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))

    @classmethod
    def registered(cls, scene: Scene, name: str, *, by_itself: bool = False) -> RacingAgent:
        redirect = "" if by_itself else CALLBACK
        name = f"{name} {secrets.token_hex(3)}"
        return cls(
            scene,
            *register_agent(scene.stack, scene.person("ada"), name, scene.office_scopes(), redirect=redirect),
        )

    @property
    def basic(self) -> dict[str, str]:
        return {"Authorization": "Basic " + b64encode(f"{self.client_id}:{self.secret}".encode()).decode()}

    @property
    def id(self) -> str:
        [(found,)] = self.scene.sql("SELECT id::text FROM agents_agent WHERE client_id = %s", (self.client_id,))
        return str(found)

    def asked(self, **changes: str) -> dict[str, str]:
        """An authorization request."""
        challenge = urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()
        return {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": CALLBACK,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "scope": self.scope,
            "resource": self.scene.office,
        } | changes

    def path(self, endpoint: str) -> str:
        return f"/t/acme/oauth/{endpoint}"

    def code(self, person: Person, **ticks: Any) -> str:
        """A code in the ordinary way; the person is asked if they have not answered before."""
        address = person.answer(f"{self.scene.issuer}/oauth/authorize?{urlencode(self.asked())}", **ticks)
        return parse_qs(urlsplit(address).query)["code"][0]

    def code_form(self, code: str) -> dict[str, str]:
        return {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": CALLBACK,
            "code_verifier": self.verifier,
        }

    def request(self, endpoint: str, form: dict[str, Any], **headers: str) -> bytes:
        return written("POST", self.path(endpoint), self.scene.host, headers=self.basic | headers, form=form)

    def send(self, endpoint: str, form: dict[str, Any], **headers: str) -> httpx2.Response:
        return self.scene.http.post(f"{self.scene.issuer}/oauth/{endpoint}", data=form, headers=self.basic | headers)

    def is_active(self, access_token: str) -> bool:
        answer = self.send("introspect", {"token": access_token})
        assert answer.status_code == 200, answer.text
        return bool(answer.json()["active"])


def hash_in_json(secret: str) -> str:
    """What is stored of a secret, as JSON gives it to PostgreSQL."""
    return "\\x" + hashlib.sha256(secret.encode()).hexdigest()


def jti_of(answer: Answer) -> str:
    import jwt

    claims = jwt.decode(answer.json()["access_token"], options={"verify_signature": False})
    return str(claims["jti"])
