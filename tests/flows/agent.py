"""An agent's program, written with nothing but an HTTP client and the issuer's address."""

from __future__ import annotations

import hashlib
import secrets
from base64 import urlsafe_b64encode
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2

from tests.flows.person import Person

CALLBACK = "http://127.0.0.1:43117/callback"


class AgentProgram:
    """Knows its credentials and finds the rest from the resource's own 401."""

    def __init__(self, client_id: str, secret: str, resource: str) -> None:
        self.client_id, self.secret, self.resource = client_id, secret, resource
        self.http = httpx2.Client(timeout=30)
        self.tokens: dict[str, Any] = {}
        refused = self.http.get(resource)
        assert refused.status_code == 401, refused.text
        challenge = refused.headers["www-authenticate"]
        metadata_url = challenge.partition('resource_metadata="')[2].partition('"')[0]
        self.metadata = self.http.get(metadata_url).raise_for_status().json()
        assert self.metadata["resource"] == resource
        issuer = urlsplit(self.metadata["authorization_servers"][0])
        well_known = f"{issuer.scheme}://{issuer.netloc}/.well-known/oauth-authorization-server{issuer.path}"
        self.server = self.http.get(well_known).raise_for_status().json()

    def ask(self, person: Person, *, scope: str = "", press: str = "Allow", **ticks: Any) -> dict[str, str]:
        """Send the person to the consent page; what came back in the redirect."""
        verifier = secrets.token_urlsafe(48)
        challenge = urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": CALLBACK,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "resource": self.resource,
            "state": secrets.token_urlsafe(8),
        } | ({"scope": scope} if scope else {})
        person.open(f"{self.server['authorization_endpoint']}?{urlencode(asked)}")
        if not person.page.is_redirect:
            person.press(press, **ticks)
        assert person.page.is_redirect, person.words
        answer = {name: values[0] for name, values in parse_qs(urlsplit(person.page.headers["location"]).query).items()}
        assert answer["state"] == asked["state"]
        assert answer["iss"] == self.server["issuer"]
        if "code" in answer:
            self._fetch(grant_type="authorization_code", code=answer["code"], code_verifier=verifier)
        return answer

    def by_itself(self) -> None:
        self._fetch(grant_type="client_credentials", resource=self.resource)

    def refresh(self) -> httpx2.Response:
        asked = {"grant_type": "refresh_token", "refresh_token": self.tokens["refresh_token"]}
        return self.http.post(self.server["token_endpoint"], data=asked, auth=(self.client_id, self.secret))

    def _fetch(self, **asked: str) -> None:
        if asked["grant_type"] == "authorization_code":
            asked["redirect_uri"] = CALLBACK
        answer = self.http.post(self.server["token_endpoint"], data=asked, auth=(self.client_id, self.secret))
        assert answer.status_code == 200, answer.text
        self.tokens = answer.json()

    def call(self, method: str, path: str = "", **kwargs: Any) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {self.tokens['access_token']}"}
        return self.http.request(method, f"{self.resource}{path}", headers=headers, **kwargs)
