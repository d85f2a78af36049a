"""A token that went from agent to agent (RFC 8693), at the gateway: it names all of them, and ends with any of them."""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

import jwt
import pytest

from agentauth.agents.models import Agent
from agentauth.agents.registering import add_secret
from agentauth.grants.granting import give
from agentauth.oauth.families import revoke_token
from agentauth.oauth.grants.token_exchange import ACCESS_TOKEN_TYPE, GRANT_TYPE
from tenants.rls import in_tenant
from tests import cast
from tests.gateway.conftest import Stage
from tests.gateway.test_revocation import drip
from tests.oauth.browser import Flow


@pytest.fixture
def second(stage: Stage) -> Flow:
    """Another agent that Matt allowed the same."""
    with in_tenant(stage.id):
        agent = cast.assistant(stage.house, name="The second one")
        _, secret = add_secret(agent, by=stage.house.owner)
        cast.matts_grant(stage.house, agent)
    return Flow(stage.house, agent, secret)


def handed_on(stage: Stage, second: Flow, subject: str) -> str:
    form = {"grant_type": GRANT_TYPE, "subject_token": subject, "subject_token_type": ACCESS_TOKEN_TYPE}
    answer = second.post("token", form | second.proof())
    assert answer.status_code == 200, answer.content
    return str(answer.json()["access_token"])


def test_the_upstream_and_the_record_learn_who_calls_for_whom_through_whom(stage: Stage, second: Flow) -> None:
    token = handed_on(stage, second, stage.token())
    assert stage.call("GET", "/rooms", token=token).status == 200
    (seen,) = stage.upstream.seen
    said = next(value for name, value in seen.headers if name.lower() == "agentauth-assertion")
    claims = jwt.decode(said, options={"verify_signature": False})
    assert claims["sub"] == str(stage.house.members["matt"].id)
    assert claims["act"] == {"sub": str(second.agent.id), "act": {"sub": str(stage.agent.id)}}
    (event,) = stage.events("call.allowed")
    assert event.agent_id == second.agent.id and event.grant_id != stage.grant.id


def test_actors_of_another_issuer_are_told_upstream_and_asked_for_nothing_here(stage: Stage) -> None:
    there = {"sub": "their-bot", "iss": "https://idp.example", "act": {"sub": "first", "iss": "https://a.example"}}
    act = {"sub": str(stage.agent.id), "act": there}
    assert stage.call("GET", "/rooms", token=stage.token(act=act)).status == 200
    (seen,) = stage.upstream.seen
    said = next(value for name, value in seen.headers if name.lower() == "agentauth-assertion")
    assert jwt.decode(said, options={"verify_signature": False})["act"] == act
    # They came before all of ours: one of ours inside them is no chain that we made, and the whole is five at most
    inside = {"sub": str(stage.agent.id), "act": there | {"act": {"sub": str(stage.agent.id)}}}
    assert "token_malformed" in stage.call("GET", "/rooms", token=stage.token(act=inside)).codes
    deep: dict[str, Any] = {"sub": "a", "iss": "https://a.example"}
    for name in "bcde":
        deep = {"sub": name, "iss": "https://a.example", "act": deep}
    deep = {"sub": str(stage.agent.id), "act": deep}
    assert "token_malformed" in stage.call("GET", "/rooms", token=stage.token(act=deep)).codes


def test_what_an_agent_began_for_itself_is_for_no_person(stage: Stage, second: Flow) -> None:
    with in_tenant(stage.id):
        own, others = (
            give(
                agent=agent,
                resource=stage.house.office,
                member=None,
                by=stage.house.owner,
                permissions={stage.house.scope("rooms:read"): "always"},
                expires_at=stage.grant.expires_at,
            )
            for agent in (stage.agent, second.agent)
        )
    subject = stage.token(sub=str(stage.agent.id), act=None, grant_id=str(own.id))
    token = handed_on(stage, second, subject)
    assert stage.call("GET", "/rooms", token=token).status == 200
    (seen,) = stage.upstream.seen
    said = next(value for name, value in seen.headers if name.lower() == "agentauth-assertion")
    claims = jwt.decode(said, options={"verify_signature": False})
    assert (claims["sub"], claims["act"]) == (str(stage.agent.id), {"sub": str(second.agent.id)})
    (event,) = stage.events("call.allowed")
    assert (event.agent_id, event.member_id, event.grant_id) == (second.agent.id, None, others.id)
    # Nor does it open what a person granted
    mine = stage.token(sub=str(second.agent.id), sub_profile="ai_agent")
    assert "grant_missing" in stage.call("GET", "/rooms", token=mine).codes
    with in_tenant(stage.id):
        stage.agent.suspend(by=stage.house.owner)
    assert "token_revoked" in stage.call("GET", "/rooms", token=token).codes


def end_first_grant(stage: Stage, subject: str) -> None:
    stage.grant.revoke(by=stage.house.members["matt"])


def revoke_first_token(stage: Stage, subject: str) -> None:
    revoke_token(stage.id, jwt.decode(subject, options={"verify_signature": False})["jti"])


def suspend_first_agent(stage: Stage, subject: str) -> None:
    Agent.objects.get(pk=stage.agent.pk).suspend(by=stage.house.owner)


ENDS = {"grant": end_first_grant, "token": revoke_first_token, "agent": suspend_first_agent}


@pytest.mark.parametrize("cause", ENDS)
def test_what_ends_the_first_ends_what_came_of_it(stage: Stage, second: Flow, cause: str) -> None:
    subject = stage.token()
    token = handed_on(stage, second, subject)
    assert stage.call("GET", "/rooms", token=token).status == 200
    with in_tenant(stage.id):
        ENDS[cause](stage, subject)
    answer = stage.call("GET", "/rooms", token=token)
    assert answer.status == 401 and "token_revoked" in answer.codes
    assert "token_revoked" in stage.events("call.refused")[-1].reasons


@pytest.mark.parametrize("cause", ENDS)
def test_an_open_stream_ends_with_any_of_them(stage: Stage, second: Flow, cause: str) -> None:
    subject = stage.token()
    token = handed_on(stage, second, subject)
    stage.upstream.reply = drip
    bearer = [("Authorization", f"Bearer {token}")]
    connection, response = stage.door.open("GET", stage.path("/rooms"), bearer)
    assert response.status == 200 and response.read(20)
    with in_tenant(stage.id):
        ENDS[cause](stage, subject)
    began = time.monotonic()
    while response.read(64):
        assert time.monotonic() < began + 5
    assert time.monotonic() < began + 1
    connection.close()
    assert stage.finished()[-1].outcome == "revoked"


BAD_VIA: dict[str, Any] = {
    "no list": {"grant_id": str(uuid4()), "jti": "x"},
    "too long": [{"grant_id": str(uuid4()), "jti": "x"}] * 5,
    "no grant": [{"grant_id": "x", "jti": "x"}],
    "no jti": [{"grant_id": str(uuid4())}],
    "no object": ["x"],
}


@pytest.mark.parametrize("case", BAD_VIA)
def test_what_does_not_say_where_it_comes_from_is_refused(stage: Stage, case: str) -> None:
    answer = stage.call("GET", "/rooms", via=BAD_VIA[case])
    assert answer.status == 401 and "token_malformed" in answer.codes
