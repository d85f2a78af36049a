"""What proves something once: client assertions (RFC 7523 §3), DPoP proofs (RFC 9449 §11.1), an ID-JAG."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from tests.flows.admin import register_agent_with_key
from tests.oauth.proofs import Holder
from tests.races.agents import RacingAgent
from tests.races.callers import Answer, written
from tests.races.harness import Artefact, Raced
from tests.races.scene import Scene
from tests.races.tokens import AtTokenEndpoint

_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"


class _Tokens(AtTokenEndpoint):
    def after(self, since: str, races: Sequence[Raced]) -> list[str]:
        return self.unheld(since, races) + self.broken(races)


class ClientAssertions(_Tokens):
    name = "client assertion jti"
    refusals = frozenset({400, 401})

    def __init__(self, scene: Scene) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        public = ECAlgorithm.to_jwk(self._key.public_key())
        client_id = register_agent_with_key(
            scene.stack, scene.person("ada"), f"Key racer {secrets.token_hex(3)}", scene.office_scopes(), public
        )
        self.agent = _ByKey(scene, client_id, "", self)

    def assertion(self) -> str:
        me, now = self.agent.client_id, int(time.time())
        claims = {"iss": me, "sub": me, "aud": self.agent.scene.issuer, "iat": now, "exp": now + 300}
        return jwt.encode(claims | {"jti": secrets.token_hex(8)}, self._key, algorithm="ES256")

    def proof(self) -> dict[str, str]:
        return {"client_assertion_type": _ASSERTION_TYPE, "client_assertion": self.assertion()}

    def make(self, count: int) -> list[Artefact]:
        form = {"grant_type": "client_credentials", "resource": self.agent.scene.office}
        return [Artefact(self.agent.request("token", form | self.proof())) for _ in range(count)]


class _ByKey(RacingAgent):
    """It proves itself in the form."""

    def __init__(self, scene: Scene, client_id: str, secret: str, keys: ClientAssertions) -> None:
        super().__init__(scene, client_id, secret)
        self._keys = keys

    @property
    def basic(self) -> dict[str, str]:
        return {}

    def is_active(self, access_token: str) -> bool:
        answer = self.send("introspect", {"token": access_token} | self._keys.proof())
        assert answer.status_code == 200, answer.text
        return bool(answer.json()["active"])


class ProofsForTokens(_Tokens):
    name = "DPoP jti, token endpoint"

    def __init__(self, scene: Scene) -> None:
        self.agent = RacingAgent.registered(scene, "Proving racer", by_itself=True)
        self._url = f"{scene.issuer}/oauth/token"
        self._form = {"grant_type": "client_credentials", "resource": scene.office}

    def make(self, count: int) -> list[Artefact]:
        nonce = self._nonce()
        proofs = [Holder().proof("POST", self._url, nonce=nonce) for _ in range(count)]
        return [Artefact(self.agent.request("token", self._form, DPoP=proof)) for proof in proofs]

    def _nonce(self) -> str:
        told = self.agent.send("token", self._form, DPoP=Holder().proof("POST", self._url, nonce=None))
        assert told.json()["error"] == "use_dpop_nonce", told.text
        return str(told.headers["DPoP-Nonce"])


class ProofsForCalls:
    """One proof is good for one call, at whichever of the gateway's workers it arrives."""

    name = "DPoP jti, gateway"
    door = "gateway"
    refusals = frozenset({401})

    def __init__(self, scene: Scene) -> None:
        self._scene, self._holder = scene, Holder()
        self._url = f"{scene.office}/rooms"
        self._tokens = ProofsForTokens(scene)
        self.agent = self._tokens.agent
        self._token, self._until = "", 0.0

    def make(self, count: int) -> list[Artefact]:
        if time.monotonic() > self._until:
            self._fetch()
        nonce = self._nonce()
        return [Artefact(written("GET", "/acme/office/rooms", self._scene.gateway_host, headers=self._with(nonce)))
                for _ in range(count)]  # fmt: skip

    def _fetch(self) -> None:
        proof = self._holder.proof("POST", f"{self._scene.issuer}/oauth/token", nonce=self._tokens._nonce())
        form = {"grant_type": "client_credentials", "resource": self._scene.office}
        answer = self.agent.send("token", form, DPoP=proof)
        assert answer.status_code == 200, answer.text
        self._token, self._until = answer.json()["access_token"], time.monotonic() + answer.json()["expires_in"] / 3

    def _with(self, nonce: str | None) -> dict[str, str]:
        proof = self._holder.proof("GET", self._url, token=self._token, nonce=nonce)
        return {"Authorization": f"DPoP {self._token}", "DPoP": proof}

    def _nonce(self) -> str:
        told = self._scene.http.get(self._url, headers=self._with(None))
        assert told.status_code == 401, told.text
        return str(told.headers["DPoP-Nonce"])

    def has_won(self, answer: Answer) -> bool:
        return answer.status == 200

    def after(self, since: str, races: Sequence[Raced]) -> list[str]:
        return unheld_calls(self._scene, self.agent.client_id, since, races)


def unheld_calls(scene: Scene, client_id: str, since: str, races: Sequence[Raced]) -> list[str]:
    """Calls that were let through beyond those that were answered; what a kill cut off may have gone through."""
    [(allowed,)] = scene.sql(
        "SELECT count(*) FROM audit_event e JOIN agents_agent a ON a.id = e.agent_id "
        "WHERE a.client_id = %s AND e.action = 'call.allowed' AND e.at >= %s::timestamptz",
        (client_id, since),
    )
    won = sum(len(one.winners) for one in races)
    silent = sum(not one.winners for one in races)
    return [] if won <= allowed <= won + silent else [f"{allowed} calls were let through and {won} answered"]


class IdJags(_Tokens):
    """An identity provider's letter for one agent counts once."""

    name = "ID-JAG jti"

    def __init__(self, scene: Scene) -> None:
        self._issuer = f"https://idp-{secrets.token_hex(3)}.example"
        self._key = ec.generate_private_key(ec.SECP256R1())
        jwk: dict[str, Any] = dict(ECAlgorithm.to_jwk(self._key.public_key(), as_dict=True))
        ada = scene.person("ada")
        ada.open("/t/acme/settings/trusted/new/")
        ada.press(
            "Look at it and trust it",
            kind="enterprise",
            name="Racing sign-in",
            issuer=self._issuer,
            keys_from="pasted",
            jwks=json.dumps({"keys": [jwk | {"kid": "one", "use": "sig"}]}),
            email_domains="acme.example",
        )
        assert ada.page.status_code == 200, ada.words
        self.agent = RacingAgent.registered(scene, "Vouched racer")
        first = self.agent.send("token", self._form())  # the link to Matt and the grant
        assert first.status_code == 200, first.text

    def make(self, count: int) -> list[Artefact]:
        return [Artefact(self.agent.request("token", self._form())) for _ in range(count)]

    def _form(self) -> dict[str, str]:
        now = int(time.time())
        claims = {
            "iss": self._issuer,
            "sub": "00u-matt",
            "aud": self.agent.scene.issuer,
            "client_id": self.agent.client_id,
            "resource": self.agent.scene.office,
            "scope": "rooms:read",
            "email": "matt@acme.example",
            "email_verified": True,
            "jti": secrets.token_hex(8),
            "iat": now,
            "exp": now + 240,
        }
        header = {"kid": "one", "typ": "oauth-id-jag+jwt"}
        return {
            "grant_type": _JWT_BEARER,
            "assertion": jwt.encode(claims, self._key, algorithm="ES256", headers=header),
        }
