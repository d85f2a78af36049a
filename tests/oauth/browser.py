"""A client and a person's browser against the authorization server, over Django's test client."""

from __future__ import annotations

import json
import re
import secrets
from base64 import b64encode
from dataclasses import dataclass, field
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from django.test import Client

from agentauth.agents.models import Agent
from agentauth.keys.addresses import issuer, resource_url
from agentauth.oauth.pkce import challenge_of
from tests.cast import House, signed_in

CALLBACK = "https://assistant.example/cb"


def form_of(page: Any) -> dict[str, Any]:
    """The fields of the page's form as a browser would send them without a click on anything."""
    html = page.content.decode()
    data: dict[str, Any] = {}
    for tag in re.findall(r"<input[^>]*>", html):
        found = {name: unescape(value) for name, value in re.findall(r'([a-z-]+)="([^"]*)"', tag)}
        if found.get("type") in ("checkbox", "radio") and " checked" not in tag:
            continue
        if found.get("type") == "checkbox":
            data.setdefault(found["name"], []).append(found.get("value", "on"))
        elif "name" in found:
            data[found["name"]] = found.get("value", "")
    return data


def answer_in(response: Any) -> dict[str, str]:
    """The parameters in the redirect; each may stand there once."""
    found = parse_qs(urlsplit(response["Location"]).query, keep_blank_values=True, strict_parsing=True)
    assert all(len(values) == 1 for values in found.values()), found
    return {name: values[0] for name, values in found.items()}


@dataclass
class Flow:
    """One client asking one person of one tenant."""

    house: House
    agent: Agent
    secret: str = ""
    browser: Client = field(default_factory=Client)
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))

    @property
    def issuer(self) -> str:
        return issuer(self.house.tenant)

    @property
    def resource(self) -> str:
        return resource_url(self.house.tenant.slug, "office")

    def path(self, endpoint: str) -> str:
        return f"/t/{self.house.tenant.slug}/oauth/{endpoint}"

    def request(self, **changes: Any) -> dict[str, Any]:
        asked = {
            "response_type": "code",
            "client_id": self.agent.client_id,
            "redirect_uri": CALLBACK,
            "state": "s t&=é",
            "scope": "rooms:read meeting:enter",
            "resource": self.resource,
            "code_challenge": challenge_of(self.verifier),
            "code_challenge_method": "S256",
        } | changes
        return {name: value for name, value in asked.items() if value is not None}

    def authorize(self, **changes: Any) -> Any:
        return self.browser.get(f"{self.path('authorize')}?{urlencode(self.request(**changes), doseq=True)}")

    def sign_in(self, who: str = "matt") -> Flow:
        self.browser = signed_in(self.house.members[who])
        return self

    def answer(self, page: Any, answer: str = "allow", **changes: Any) -> Any:
        assert page.status_code == 200, (page.status_code, page.content[:500])
        return self.browser.post(self.path("consent"), form_of(page) | {"answer": answer} | changes)

    def code(self, **changes: Any) -> str:
        """A code for what the page offers as it stands, or straight away where nobody is asked."""
        page = self.authorize(**changes)
        return answer_in(page if page.status_code == 303 else self.answer(page))["code"]

    def post(self, endpoint: str, form: Any, **headers: str) -> Any:
        body = form if isinstance(form, str) else urlencode(form, doseq=True)
        return Client().post(
            self.path(endpoint), body, content_type="application/x-www-form-urlencoded", headers=headers
        )

    def proof(self) -> dict[str, str]:
        """Of the client, as form fields."""
        return {"client_id": self.agent.client_id} | ({"client_secret": self.secret} if self.secret else {})

    def redeem(self, code: str, **changes: Any) -> Any:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": CALLBACK,
            "code_verifier": self.verifier,
        }
        form |= self.proof() | changes
        return self.post("token", {name: value for name, value in form.items() if value is not None})

    def refresh(self, token: str, **changes: Any) -> Any:
        form = {"grant_type": "refresh_token", "refresh_token": token} | self.proof() | changes
        return self.post("token", form)

    def tokens(self, **changes: Any) -> dict[str, Any]:
        answer = self.redeem(self.code(**changes))
        assert answer.status_code == 200, answer.content
        found: dict[str, Any] = answer.json()
        return found


def basic(name: str, secret: str) -> str:
    return "Basic " + b64encode(f"{name}:{secret}".encode()).decode()


def register(house: House, document: Any, **headers: str) -> Any:
    body = document if isinstance(document, str | bytes) else json.dumps(document)
    return Client().post(
        f"/t/{house.tenant.slug}/oauth/register", body, content_type="application/json", headers=headers
    )
