"""What the runner must know of an issuer. Subclass `Adapter` in a file of your own; standard library only."""

import json
from abc import ABC, abstractmethod
from base64 import b64encode, urlsafe_b64decode
from dataclasses import dataclass, field
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote_plus, urlencode
from urllib.request import Request, urlopen

Form = list[tuple[str, str]]


@dataclass(frozen=True)
class Answer:
    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)  # names in lower case


class NotThere(Exception):
    """This issuer does not do that at all: the case is passed over, and the runner says so."""


class Adapter(ABC):
    """One issuer in the state that `world` in cases.json describes, set up anew for each case.

    Names in the cases ("ann", "a1", "one", "read") are ours; `person`, `actor`, `resource` and `scope` translate them.
    """

    endpoints: dict[str, str]
    """Addresses of `token`, `introspect` and `revoke`."""

    @abstractmethod
    def person(self, name: str) -> str:
        """Its `sub`."""

    @abstractmethod
    def actor(self, name: str) -> str:
        """What stands in `act.sub` for this agent."""

    @abstractmethod
    def client(self, name: str) -> tuple[str, str]:
        """Its client_id and client_secret; an empty secret for a public client."""

    @abstractmethod
    def resource(self, name: str) -> str:
        """Its URL, as in `resource` and `aud`."""

    @abstractmethod
    def scope(self, name: str) -> str:
        """Its name at the issuer."""

    @abstractmethod
    def issue(self, agent: str, person: str, resource: str, scope: list[str]) -> str:
        """An access token of this agent for this person, got in the ordinary way (a code, a device)."""

    @abstractmethod
    def foreign(self) -> str:
        """A good access token of another issuer or tenant that looks like ours."""

    @abstractmethod
    def expired(self, token: str) -> str:
        """The same token past its end: wait, or have an equal one made."""

    @abstractmethod
    def disable(self, agent: str) -> None:
        """Suspend an agent."""

    @abstractmethod
    def end_grant(self, agent: str, person: str, resource: str) -> None:
        """The person takes back what they allowed."""

    def federated(self, person: str, order: str, claims: dict[str, Any]) -> str:
        """A token about this person by another issuer that this one trusts, with these claims besides its usual ones.

        `order` says how that issuer nests `act`: standard (RFC 8693) or reversed. Override it where there is one.
        """
        raise NotThere("no other issuer is trusted")

    def claims(self, token: str) -> dict[str, Any]:
        """What a token says. Override for opaque ones (introspection)."""
        payload = token.split(".")[1]
        found: dict[str, Any] = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return found

    def post(self, endpoint: str, form: Form, *, client: tuple[str, str] | None) -> Answer:
        """Send a form, authenticated with client_secret_basic; as a public client without a secret; None: as nobody."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if client is not None and client[1]:
            pair = ":".join(map(quote_plus, client))  # RFC 6749 §2.3.1
            headers["Authorization"] = "Basic " + b64encode(pair.encode()).decode()
        elif client is not None:
            form = [*form, ("client_id", client[0])]
        return self.send(self.endpoints[endpoint], urlencode(form).encode(), headers)

    def send(self, url: str, body: bytes, headers: dict[str, str]) -> Answer:
        request = Request(url, body, headers)  # the address is the one you gave
        try:
            with urlopen(request, timeout=20) as answer:
                return _read(answer.status, answer.read(), dict(answer.headers))
        except HTTPError as refused:
            return _read(refused.code, refused.read(), dict(refused.headers))


def _read(status: int, body: bytes, headers: dict[str, str]) -> Answer:
    try:
        said = json.loads(body) if body else None
    except ValueError:
        said = None
    return Answer(status, said, {name.lower(): value for name, value in headers.items()})
