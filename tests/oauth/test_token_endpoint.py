"""How clients prove themselves and how requests and answers look (RFC 6749 §2.3, §3.2, §5; RFC 7009; RFC 7662)."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from django.test import Client

from agentauth.keys.addresses import issuer
from agentauth.oauth.client_assertion import ASSERTION_TYPE
from tests import cast
from tests.cast import House, events_of
from tests.oauth.browser import Flow, basic
from tests.oauth.forging import made
from tests.oauth.jwt_doors import keyed_by_secret

DOORS_FOR_CLIENTS = ("token", "introspect", "revoke", "par", "device_authorization", "bc-authorize")
PLAIN = re.compile(r"[\x20-\x21\x23-\x5b\x5d-\x7e]*\Z")  # RFC 6749 §5.2
OAUTH = Path(__file__).parents[2] / "agentauth" / "oauth"


@pytest.fixture
def acme(db: None) -> House:
    return cast.acme()


@pytest.fixture
def robot(acme: House) -> Flow:
    """An agent with a secret that may also act for itself."""
    return keyed_by_secret(acme)


def for_itself(flow: Flow, **changes: Any) -> dict[str, Any]:
    form = {"grant_type": "client_credentials", "resource": flow.resource} | flow.proof() | changes
    return {name: value for name, value in form.items() if value is not None}


def refused(answer: Any, code: str, status: int = 400) -> None:
    assert (answer.status_code, answer.json()["error"]) == (status, code), answer.content


@pytest.mark.parametrize("endpoint", DOORS_FOR_CLIENTS)
def test_two_ways_to_prove_oneself_are_refused(robot: Flow, endpoint: str) -> None:
    """RFC 6749 §2.3: not even where both are right. Beside an assertion it is invalid_client (RFC 7521 §4.2.1)."""
    me, secret = robot.agent.client_id, robot.secret
    header = {"Authorization": basic(me, secret)}
    refused(robot.post(endpoint, for_itself(robot, token="x"), **header), "invalid_request")
    signed = {"client_assertion_type": ASSERTION_TYPE, "client_assertion": "a.b.c"}
    refused(robot.post(endpoint, for_itself(robot, **signed)), "invalid_client", 401)
    refused(robot.post(endpoint, for_itself(robot, client_secret=None, **signed), **header), "invalid_client", 401)
    events = [event for event in robot.house.events() if event.decision == "refuse"]
    assert [event.reasons for event in events] == [["two_authentications"]] * 3


@pytest.mark.parametrize("endpoint", DOORS_FOR_CLIENTS)
def test_a_secret_in_the_address_proves_nothing(robot: Flow, endpoint: str) -> None:
    """RFC 6749 §2.3.1: parameters in the address are not read at all."""
    query = urlencode(for_itself(robot))
    answer = Client().post(f"{robot.path(endpoint)}?{query}", "", content_type="application/x-www-form-urlencoded")
    assert answer.status_code in (400, 401) and "access_token" not in answer.json(), answer.content
    assert robot.secret not in answer.content.decode()


@pytest.mark.parametrize("endpoint", DOORS_FOR_CLIENTS)
def test_a_failed_basic_is_challenged(robot: Flow, endpoint: str) -> None:
    """RFC 6749 §5.2: 401 in the scheme that was used; nobody's existence is told."""
    form = {"grant_type": "client_credentials", "token": "x"}
    answers = [
        robot.post(endpoint, form, Authorization=basic(name, "wrong")) for name in (robot.agent.client_id, "nobody")
    ]
    for answer in answers:
        refused(answer, "invalid_client", 401)
        assert answer["WWW-Authenticate"].startswith("Basic realm=")
        assert answer["Cache-Control"] == "no-store"
    assert len(events_of(robot.house.tenant.id, "client.refused")) == 2


@pytest.mark.parametrize("endpoint", DOORS_FOR_CLIENTS)
def test_only_posts_are_answered(robot: Flow, endpoint: str) -> None:
    """RFC 6749 §3.2, RFC 7009 §2.1, RFC 7662 §2.1, RFC 8628 §3.1, RFC 9126 §2.1."""
    for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE", "TRACE"):
        answer = Client().generic(method, robot.path(endpoint))
        assert answer.status_code == 405 and "POST" in answer["Allow"], (method, answer.status_code)


def test_what_is_empty_counts_as_left_out(robot: Flow) -> None:
    """RFC 6749 §3.2."""
    assert robot.post("token", for_itself(robot, scope="", authorization_details="")).status_code == 200
    refused(robot.post("token", for_itself(robot, grant_type="")), "invalid_request")


def test_what_nobody_knows_is_passed_over(robot: Flow) -> None:
    """RFC 6749 §3.2."""
    assert robot.post("token", for_itself(robot, foo="bar", audience2="x")).status_code == 200


def test_answers_and_refusals_are_json_that_nobody_stores(robot: Flow) -> None:
    """RFC 6749 §5.1, §5.2."""
    good, bad = robot.post("token", for_itself(robot)), robot.post("token", for_itself(robot, scope="no:such"))
    for answer in (good, bad):
        assert answer["Content-Type"] == "application/json" and answer["Cache-Control"] == "no-store"
        assert answer["Pragma"] == "no-cache"
    assert {"access_token", "token_type", "expires_in"} <= set(good.json()) and good.json()["token_type"] == "Bearer"
    refused(bad, "invalid_scope")


def test_a_public_client_gets_nothing_for_itself(acme: House) -> None:
    """RFC 6749 §4.4."""
    flow = Flow(acme, cast.assistant(acme, auth_method="none"))
    flow.agent.grant_types = [*flow.agent.grant_types, "client_credentials"]  # even if somebody had written it there
    flow.agent.save(update_fields=["grant_types"])
    answer = flow.post("token", for_itself(flow))
    assert answer.status_code == 400 and answer.json()["error"] in ("unauthorized_client", "invalid_grant")
    assert events_of(acme.tenant.id, "token.refused")


def test_an_assertion_of_another_client_is_refused(acme: House) -> None:
    """RFC 7521 §4.2: client_id beside an assertion is its subject."""
    from tests.oauth.jwt_doors import DOORS

    (door,) = (one for one in DOORS if one.name == "client_assertion at token")
    visit, other = door.opened(acme), cast.assistant(acme, name="Another")
    form = {"grant_type": "refresh_token", "refresh_token": "x", "client_id": other.client_id}
    form |= {"client_assertion_type": ASSERTION_TYPE, "client_assertion": made(visit.good(), {})}
    refused(Flow(acme, other).post("token", form), "invalid_client", 401)
    assert events_of(acme.tenant.id, "client.refused")[-1].reasons == ["two_clients"]


def test_a_type_of_assertion_without_one_proves_nothing(robot: Flow) -> None:
    """RFC 7521 §4.2: both are REQUIRED."""
    alone = for_itself(robot, client_secret=None, client_assertion_type=ASSERTION_TYPE)
    refused(robot.post("token", alone), "invalid_request")
    assert events_of(robot.house.tenant.id, "token.refused")[-1].reasons == ["missing_parameter"]
    refused(robot.post("token", for_itself(robot, client_secret=None, client_assertion="a.b.c")), "invalid_client", 401)
    assert events_of(robot.house.tenant.id, "client.refused")[-1].reasons == ["assertion_type"]


def test_an_assertion_sent_ahead_names_the_issuer_or_either_endpoint(acme: House) -> None:
    """RFC 9126 §2: each of the three MUST be accepted there, and nothing else is."""
    from tests.oauth.jwt_doors import DOORS

    (door,) = (one for one in DOORS if one.name == "client_assertion at par")
    visit, here = door.opened(acme), issuer(acme.tenant)
    for audience in (here, f"{here}/oauth/token", f"{here}/oauth/par"):
        assert visit.send(made(visit.good(), {"claims": {"aud": audience}})) == "201", audience
    for audience in (f"{here}/oauth/authorize", f"{here}/oauth", "http://localhost:8000/t/globex/oauth/par"):
        assert visit.send(made(visit.good(), {"claims": {"aud": audience}})) == "401 invalid_client", audience
    refusals = events_of(acme.tenant.id, "client.refused")
    assert [event.reasons for event in refusals] == [["assertion_audience"]] * 3


def test_revocation_says_200_to_what_is_unknown_and_wants_a_token(robot: Flow) -> None:
    """RFC 7009 §2.1, §2.2."""
    assert robot.post("revoke", robot.proof() | {"token": "nobody's"}).status_code == 200
    refused(robot.post("revoke", robot.proof()), "invalid_request")
    assert not events_of(robot.house.tenant.id, "token.revoked")


@pytest.mark.parametrize("hint", ["refresh_token", "access_token", "something"])
def test_a_wrong_hint_hides_no_token(robot: Flow, hint: str) -> None:
    """RFC 7009 §2.1, RFC 7662 §2.1: where the hint leads nowhere, everything is searched."""
    token = robot.post("token", for_itself(robot)).json()["access_token"]
    form = robot.proof() | {"token": token, "token_type_hint": hint}
    assert robot.post("introspect", form).json()["active"] is True
    assert robot.post("revoke", form).status_code == 200
    assert robot.post("introspect", form).json() == {"active": False}
    assert len(events_of(robot.house.tenant.id, "token.revoked")) == 1


def test_introspection_wants_a_token_in_a_form(robot: Flow) -> None:
    """RFC 7662 §2.1."""
    refused(robot.post("introspect", robot.proof()), "invalid_request")
    body = Client().post(robot.path("introspect"), {"token": "x"} | robot.proof(), content_type="application/json")
    assert body.status_code == 400 and body.json()["error"] == "invalid_request"


def _is_told(raised: ast.Call) -> bool:
    return isinstance(raised.func, ast.Name) and raised.func.id not in ("ValueError", "Unreadable", "NotThere")


def test_descriptions_keep_to_plain_characters() -> None:
    """RFC 6749 §5.2: no quotes, no backslash, nothing but ASCII, in any refusal that the code can raise."""
    said = []
    for path in OAUTH.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args and _is_told(node.exc):
                first = node.exc.args[0]
                parts = first.values if isinstance(first, ast.JoinedStr) else [first]
                said += [(path.name, one.value) for one in parts if isinstance(one, ast.Constant)]
    texts = [(name, text) for name, text in said if isinstance(text, str)]
    assert len(texts) > 100
    assert [(name, text) for name, text in texts if not PLAIN.match(text)] == []
