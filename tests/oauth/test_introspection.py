"""Introspection (RFC 7662) for the issuing client and for the resource's own server, plain or signed (RFC 9701)."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import jwt
import pytest
from django.utils.timezone import now
from jwt.algorithms import ECAlgorithm

from agentauth.agents.models import WrongState
from agentauth.keys.models import SigningKey
from agentauth.keys.signing import public_keys
from agentauth.oauth import lane_request
from agentauth.oauth.client_assertion import ASSERTION_TYPE
from agentauth.oauth.signed_introspection import MEDIA_TYPE, is_wanted
from agentauth.resources.checking import add_server_credential, add_server_key, client_id_of
from agentauth.resources.models import Resource, ServerCredential
from agentauth.resources.publishing import demand_bound_tokens
from tenants.rls import in_tenant
from tests import cast
from tests.cast import House, events_of
from tests.oauth.browser import Flow, basic, register
from tests.oauth.proofs import Holder, new_key
from tests.oauth.test_possession import redeem, shown
from tests.oauth.test_self_registration import NATIVE

INACTIVE = {"active": False}


class Server:
    """The own server of a resource, with one secret."""

    def __init__(self, flow: Flow, resource: Resource) -> None:
        self.flow, self.resource, self.name = flow, resource, client_id_of(resource)
        with in_tenant(resource.tenant_id):
            self.credential, self.secret = add_server_credential(resource, by=flow.house.owner)

    def ask(self, token: str, *, secret: str = "", **headers: str) -> Any:
        proof = {"Authorization": basic(self.name, secret or self.secret)}
        return self.flow.post("introspect", {"token": token}, **(proof | headers))


@pytest.fixture
def office(flow: Flow) -> Server:
    return Server(flow, flow.house.office)


def refusals(house: House) -> list[str]:
    return [event.reasons[0] for event in events_of(house.tenant.id, "client.refused")]


# RFC 7662: the resource's own server


def test_a_resource_learns_about_tokens_for_it(flow: Flow, office: Server) -> None:
    token = flow.tokens()["access_token"]
    said = office.ask(token).json()
    assert said["active"] is True and said["aud"] == flow.resource  # §2.2
    assert said["sub"] == str(flow.house.members["matt"].id) and said["act"] == {"sub": str(flow.agent.id)}
    assert (said["scope"], said["token_type"], said["client_id"]) == (
        "meeting:enter rooms:read", "Bearer", flow.agent.client_id
    )  # fmt: skip
    assert not {"username", "name", "email"} & set(said)  # nothing of the person but `sub`


def test_a_resource_that_takes_bound_tokens_only_hears_of_no_other(flow: Flow, office: Server) -> None:
    holder, unbound = Holder(), flow.tokens()["access_token"]
    with in_tenant(flow.house.tenant.id):
        demand_bound_tokens(flow.house.office, by=flow.house.owner, demanded=True)
    assert office.ask(unbound).json() == INACTIVE  # given before it was demanded
    bound = redeem(flow, flow.code(), shown(flow, holder)).json()["access_token"]
    assert office.ask(bound).json()["cnf"] == {"jkt": holder.jkt}


def test_a_resource_learns_nothing_about_tokens_for_others(flow: Flow, acme: House, globex: House) -> None:
    token = flow.tokens()["access_token"]
    with in_tenant(acme.tenant.id):
        archive = cast.office(acme, slug="archive")
    assert Server(flow, archive).ask(token).json() == INACTIVE  # §4: for its own audience only
    theirs = Server(Flow(globex, flow.agent), globex.office)
    assert theirs.ask(token).json() == INACTIVE
    assert (
        flow.post("introspect", {"token": token, "client_id": theirs.name, "client_secret": theirs.secret}).json()[
            "error"
        ]
        == "invalid_client"
    )  # of another tenant: nobody here


def test_refresh_tokens_and_nonsense_are_inactive_for_a_resource(flow: Flow, office: Server) -> None:
    tokens = flow.tokens()
    for token in (tokens["refresh_token"], "nonsense", "a.b.c"):
        answer = office.ask(token)
        assert (answer.status_code, answer.json()) == (200, INACTIVE)  # §2.2


def test_what_was_revoked_is_inactive_at_once(flow: Flow, office: Server) -> None:
    token = flow.tokens()["access_token"]
    assert office.ask(token).json()["active"] is True
    with in_tenant(flow.house.tenant.id):
        flow.agent.suspend(by=flow.house.owner)
    assert office.ask(token).json() == INACTIVE


def test_a_wrong_secret_a_retired_one_and_a_closed_resource_are_refused(flow: Flow, office: Server) -> None:
    token, house = flow.tokens()["access_token"], flow.house
    answer = office.ask(token, secret="aas_wrong")
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")  # §2.3
    assert answer["WWW-Authenticate"].startswith("Basic ")
    with in_tenant(house.tenant.id):
        office.credential.retire(by=house.owner)
    assert office.ask(token).status_code == 401
    fresh = Server(flow, house.office)
    with in_tenant(house.tenant.id):
        Resource.objects.filter(pk=house.office.pk).update(state="retired")
    assert fresh.ask(token).status_code == 401
    assert refusals(house) == ["wrong_secret", "wrong_secret", "resource_retired"]


def test_without_proof_nobody_learns_anything(flow: Flow, office: Server, public: Flow) -> None:
    token = flow.tokens()["access_token"]
    for form in (
        {},  # §2.1: MUST be authenticated
        {"client_id": office.name},
        public.proof(),  # a public client proves nothing
    ):
        answer = flow.post("introspect", form | {"token": token})
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client"), form


def test_a_resource_proves_itself_in_the_body_too_and_percent_encoded(flow: Flow, office: Server) -> None:
    token = flow.tokens()["access_token"]
    form = {"token": token, "client_id": office.name, "client_secret": office.secret}
    assert flow.post("introspect", form).json()["active"] is True
    encoded = basic(quote(office.name, safe=""), quote(office.secret, safe="").replace("-", "%2D"))
    assert office.ask(token, Authorization=encoded).json()["active"] is True  # RFC 6749 §2.3.1


def signed_by(name: str, flow: Flow, key: Any, **changes: Any) -> dict[str, str]:
    """Proof by a key of its own, as form fields (RFC 7523 §2.2)."""
    at = int(now().timestamp())
    claims = {"iss": name, "sub": name, "aud": flow.issuer, "exp": at + 60, "jti": uuid4().hex} | changes
    token = jwt.encode({n: v for n, v in claims.items() if v is not None}, key, "ES256")
    return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": token}


def test_a_resource_proves_itself_with_a_key_of_its_own(flow: Flow) -> None:
    """The metadata offers private_key_jwt here (RFC 8414 §2): to the audience's own server too."""
    key, token = new_key(), flow.tokens()["access_token"]
    with in_tenant(flow.house.tenant.id):
        jwk = json.loads(ECAlgorithm.to_jwk(key.public_key()))
        credential = add_server_key(flow.house.office, jwk, by=flow.house.owner)
    name = client_id_of(flow.house.office)

    def ask(proof: dict[str, str]) -> Any:
        return flow.post("introspect", {"token": token} | proof)

    once = signed_by(name, flow, key)
    assert ask(once).json()["active"] is True
    assert ask(signed_by(name, flow, key, aud=f"{flow.issuer}/oauth/introspect")).json()["active"] is True
    with in_tenant(flow.house.tenant.id):
        credential.refresh_from_db()
    assert credential.last_used_at is not None
    wrong = {
        "assertion_replayed": once,
        "assertion_signature": signed_by(name, flow, new_key()),
        "assertion_audience": signed_by(name, flow, key, aud="https://elsewhere.example"),
        "assertion_expired": signed_by(name, flow, key, exp=int(now().timestamp()) - 60),
        "assertion_malformed": signed_by(name, flow, key, jti=None),
        "assertion_subject": signed_by(name, flow, key, iss=flow.agent.client_id),
        "wrong_secret": {"client_id": name, "client_secret": "x"},
    }
    for reason, proof in wrong.items():
        answer = ask(proof)
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client"), reason
        assert refusals(flow.house)[-1] == reason
    assert flow.post("revoke", {"token": token} | signed_by(name, flow, key)).status_code == 401  # it gets nothing else
    with in_tenant(flow.house.tenant.id):
        credential.retire(by=flow.house.owner)
    assert ask(signed_by(name, flow, key)).status_code == 401


@pytest.mark.parametrize("endpoint", ["token", "revoke", "par", "device_authorization"])
def test_a_resource_gets_no_tokens(flow: Flow, office: Server, endpoint: str) -> None:
    form = {"grant_type": "client_credentials", "token": "x", "client_id": office.name, "client_secret": office.secret}
    answer = flow.post(endpoint, form)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


def test_two_secrets_live_side_by_side_and_their_use_is_noted(flow: Flow, office: Server) -> None:
    token, house = flow.tokens()["access_token"], flow.house
    second = Server(flow, house.office)
    with in_tenant(house.tenant.id), pytest.raises(WrongState):
        add_server_credential(house.office, by=house.owner)
    assert office.ask(token).json() == second.ask(token).json()
    with in_tenant(house.tenant.id):
        assert all(one.last_used_at for one in ServerCredential.objects.filter(resource=house.office))
        office.credential.retire(by=house.owner)
    assert second.ask(token).json()["active"] is True and office.ask(token).status_code == 401
    assert len(events_of(house.tenant.id, "resource.credential_added")) == 2
    (event,) = events_of(house.tenant.id, "resource.credential_retired")
    assert event.resource_id == house.office.id


def test_our_own_api_has_no_server_of_its_own(acme: House) -> None:
    with in_tenant(acme.tenant.id), pytest.raises(WrongState):
        add_server_credential(Resource.objects.get(tenant=acme.tenant, kind="management"), by=acme.owner)


def test_the_example_for_owners_of_an_api_is_what_works(
    flow: Flow, office: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "api-owner.md").read_text()
    (code,) = (one for one in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "def check" in one)
    monkeypatch.setenv("RESOURCE_CLIENT_ID", office.name)
    monkeypatch.setenv("RESOURCE_SECRET", office.secret)
    room: dict[str, Any] = {}
    exec(compile(code, "api-owner.md", "exec"), room)

    def post(url: str, *, auth: tuple[str, str], data: dict[str, str], timeout: float) -> Any:
        assert url == f"{room['ISSUER']}/oauth/introspect" and timeout
        answer = flow.post("introspect", data, Authorization=basic(*auth))
        answer.raise_for_status = lambda: None
        return answer

    monkeypatch.setattr("requests.post", post)
    assert room["check"](flow.tokens()["access_token"])["active"] is True
    assert room["check"]("nonsense") == INACTIVE


# RFC 9701


def verified(answer: Any, house: House, audience: str) -> dict[str, Any]:
    assert answer.status_code == 200 and answer["Content-Type"] == MEDIA_TYPE  # §5
    token = answer.content.decode()
    header = jwt.get_unverified_header(token)
    assert (header["typ"], header["alg"]) == ("token-introspection+jwt", "ES256")
    with in_tenant(house.tenant.id):
        key = jwt.PyJWK(public_keys(house.tenant.id)[header["kid"]])
    claims: dict[str, Any] = jwt.decode(token, key, algorithms=["ES256"], audience=audience)
    assert claims["iss"] == "http://localhost:8000/t/acme" and isinstance(claims["iat"], int)
    assert not {"sub", "exp"} & set(claims)  # §8.1: it cannot pass for an access token
    found: dict[str, Any] = claims["token_introspection"]
    return found


def test_a_signed_answer_says_the_same_to_the_one_who_asked(flow: Flow, office: Server) -> None:
    token = flow.tokens()["access_token"]
    plain = office.ask(token).json()
    assert verified(office.ask(token, Accept=MEDIA_TYPE), flow.house, flow.resource) == plain
    mine = flow.post("introspect", flow.proof() | {"token": token}, Accept=f"{MEDIA_TYPE}, application/json;q=0.5")
    assert verified(mine, flow.house, flow.agent.client_id) == plain
    nothing = office.ask("nonsense", Accept=MEDIA_TYPE)
    assert verified(nothing, flow.house, flow.resource) == INACTIVE


def test_a_signed_answer_is_no_access_token(flow: Flow, office: Server) -> None:
    signed = office.ask(flow.tokens()["access_token"], Accept=MEDIA_TYPE).content.decode()
    assert office.ask(signed).json() == INACTIVE
    assert flow.post("introspect", flow.proof() | {"token": signed}).json() == INACTIVE


def test_errors_stay_json_and_without_a_key_nothing_is_signed(flow: Flow, office: Server) -> None:
    token = flow.tokens()["access_token"]
    assert office.ask(token, secret="aas_wrong", Accept=MEDIA_TYPE).json()["error"] == "invalid_client"
    with in_tenant(flow.house.tenant.id):
        SigningKey.objects.filter(tenant=flow.house.tenant).update(signs_from=now() + timedelta(days=1))
        from agentauth.keys import signing

        signing._signers.clear()
    answer = office.ask(token, Accept=MEDIA_TYPE)
    assert answer.status_code == 503 and "Retry-After" in answer
    assert office.ask(token).json()["active"] is True  # who asks for JSON is answered all the same


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (MEDIA_TYPE, True),
        (MEDIA_TYPE.upper(), True),
        (f"{MEDIA_TYPE};q=0.9, application/json;q=0.1", True),
        (f"application/json, {MEDIA_TYPE};q=0.5", False),
        (f"{MEDIA_TYPE};q=0", False),
        (f"{MEDIA_TYPE};q=high", False),
        ("*/*", False),
        ("application/json", False),
        ("", False),
    ],
)
def test_what_accept_asks_for(accept: str, wanted: bool) -> None:
    assert is_wanted(accept) is wanted


def test_a_client_that_registered_for_signed_answers_gets_no_others(acme: House) -> None:
    document = NATIVE | {
        "token_endpoint_auth_method": "client_secret_post",
        "introspection_signed_response_alg": "ES256",
    }
    said = register(acme, document).json()
    assert said["introspection_signed_response_alg"] == "ES256"  # §6, echoed
    form = {"client_id": said["client_id"], "client_secret": said["client_secret"], "token": "x"}
    answer = Flow(acme, None).post("introspect", form)  # type: ignore[arg-type]  # the house is all it needs
    assert verified(answer, acme, said["client_id"]) == INACTIVE


@pytest.mark.parametrize(
    "wrong",
    [
        {"introspection_signed_response_alg": "RS256"},
        {"introspection_signed_response_alg": "none"},
        {"introspection_signed_response_alg": ["ES256"]},
        {"introspection_signed_response_alg": "ES256", "token_endpoint_auth_method": "none"},
        {"introspection_encrypted_response_alg": "RSA-OAEP-256"},
        {"introspection_encrypted_response_enc": "A256GCM"},
    ],
    ids=str,
)
def test_what_we_cannot_sign_or_encrypt_is_refused_at_registration(acme: House, wrong: dict[str, Any]) -> None:
    answer = register(acme, NATIVE | {"token_endpoint_auth_method": "client_secret_post"} | wrong)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_client_metadata")


def test_the_short_lane_leaves_signed_answers_to_the_ordinary_way() -> None:
    def read(accept: str) -> Any:
        headers = {"host": "localhost:8000", "content-type": lane_request.FORM, "content-length": "7", "accept": accept}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        return lane_request.read(b"/t/acme/oauth/introspect", raw, b"token=x", "192.0.2.7", "localhost:8000")

    plain, other = read("*/*"), read("application/json")
    assert plain is not None and other is not None and plain.key != other.key
    assert read(MEDIA_TYPE) is None and read(f"*/*, {MEDIA_TYPE.upper()};q=0.1") is None
