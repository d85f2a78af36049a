"""Token exchange (RFC 8693): from a person's consent to a second agent, and what stays on record.

What must be refused is in the delegation kit, `tests/conformance/delegation`.
"""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import jwt
import pytest
from django.db import OperationalError, connection, connections
from django.test import Client
from django.utils.timezone import now

from agentauth.agents.models import Agent
from agentauth.agents.registering import add_secret, register_agent
from agentauth.grants.granting import give, live_grant
from agentauth.grants.models import Grant
from agentauth.keys.signing import sign
from agentauth.oauth.grants import token_exchange
from agentauth.oauth.grants.token_exchange import ACCESS_TOKEN_TYPE, GRANT_TYPE
from agentauth.oauth.parameters import Parameters
from tenants.rls import in_tenant
from tests import cast
from tests.cast import events_of
from tests.oauth.browser import Flow


@pytest.fixture
def booker(flow: Flow) -> Flow:
    """A second agent, to which Matt allowed seeing and booking rooms."""
    house = flow.house
    with in_tenant(house.tenant.id):
        agent = cast.assistant(house, name="The booker")
        _, secret = add_secret(agent, by=house.owner)
        allow(Flow(house, agent), "rooms:read", "rooms:book")
    return Flow(house, agent, secret)


def allow(who: Flow, *scopes: str, **more: Any) -> Grant:
    matt = who.house.members["matt"]
    return give(
        agent=who.agent,
        resource=who.house.office,
        member=matt,
        by=matt,
        permissions={who.house.scope(name): "always" for name in scopes},
        expires_at=now() + timedelta(days=1),
        **more,
    )


def exchange(who: Flow, subject: str, **changes: Any) -> Any:
    form = {"grant_type": GRANT_TYPE, "subject_token": subject, "subject_token_type": ACCESS_TOKEN_TYPE}
    return who.post("token", form | who.proof() | changes)


def read(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def resigned(flow: Flow, token: str, **changes: Any) -> str:
    claims = read(token) | changes
    with in_tenant(flow.house.tenant.id):
        return sign(flow.house.tenant.id, {n: v for n, v in claims.items() if v is not None}, "at+jwt")


def refused(who: Flow, answer: Any, code: str, reason: str) -> None:
    assert (answer.status_code, answer.json()["error"]) == (400, code), answer.content
    last = events_of(who.house.tenant.id, "token.refused")[-1]
    assert last.reasons == [reason] and last.agent_id == who.agent.id and last.details["grant_type"] == GRANT_TYPE


def test_what_a_person_consented_to_one_agent_another_goes_on_with_under_its_own_grant(
    flow: Flow, booker: Flow
) -> None:
    subject = flow.tokens(scope="rooms:read meeting:enter")["access_token"]
    answer = exchange(booker, subject)
    assert answer.status_code == 200 and answer["Cache-Control"] == "no-store"
    assert set(answer.json()) == {"access_token", "issued_token_type", "token_type", "expires_in", "scope"}
    claims = read(answer.json()["access_token"])
    matt = flow.house.members["matt"]
    assert claims["sub"] == str(matt.id) and claims["client_id"] == booker.agent.client_id
    assert claims["act"] == {"sub": str(booker.agent.id), "act": {"sub": str(flow.agent.id)}}  # §4.1
    assert claims["scope"] == answer.json()["scope"] == "rooms:read"
    assert claims["auth_time"] == read(subject)["auth_time"] and claims["exp"] <= read(subject)["exp"]
    with in_tenant(flow.house.tenant.id):
        grant = live_grant(booker.agent, flow.house.office, matt)
    assert grant is not None and claims["grant_id"] == str(grant.id)
    event = events_of(flow.house.tenant.id, "token.issued")[-1]
    assert (event.agent_id, event.member_id, event.grant_id) == (booker.agent.id, matt.id, grant.id)
    assert event.details["grant_type"] == GRANT_TYPE
    assert event.details["chain"] == [str(booker.agent.id), str(flow.agent.id)]
    assert [one["jti"] for one in event.details["via"]] == [read(subject)["jti"]]


def test_refusals_are_on_record_with_the_person_and_without_the_token(flow: Flow, booker: Flow) -> None:
    subject = flow.tokens(scope="rooms:read")["access_token"]
    refused(booker, exchange(booker, subject[:-4] + "AAAA"), "invalid_request", "subject_token_void")
    refused(booker, exchange(booker, subject, scope="rooms:book"), "invalid_scope", "scope_grows")
    with in_tenant(flow.house.tenant.id):
        Grant.objects.get(agent=booker.agent).revoke(by=flow.house.members["matt"])
    refused(booker, exchange(booker, subject), "invalid_target", "no_grant_of_actor")
    events = events_of(flow.house.tenant.id, "token.refused")
    assert events[-1].member_id == flow.house.members["matt"].id
    assert all(subject not in event.body for event in events)


def test_a_grant_with_fewer_limits_does_not_take_over(flow: Flow, booker: Flow) -> None:
    subject = flow.tokens(scope="rooms:read")["access_token"]
    with in_tenant(flow.house.tenant.id):
        limited = live_grant(flow.agent, flow.house.office, flow.house.members["matt"])
        assert limited is not None
        Grant.objects.filter(pk=limited.pk).update(constraints={"calls_per_day": 5})
    refused(booker, exchange(booker, subject), "invalid_target", "constraints_grow")
    with in_tenant(flow.house.tenant.id):
        allow(booker, "rooms:read", constraints={"calls_per_day": 5})
    assert exchange(booker, subject).status_code == 200


def allow_for_itself(who: Flow) -> Grant:
    return give(
        agent=who.agent,
        resource=who.house.office,
        member=None,
        by=who.house.owner,
        permissions={who.house.scope("rooms:read"): "always"},
        expires_at=now() + timedelta(days=1),
    )


def test_what_an_agent_began_for_itself_another_goes_on_with_where_an_admin_granted_it(
    flow: Flow, booker: Flow
) -> None:
    with in_tenant(flow.house.tenant.id):
        robot = cast.assistant(flow.house, name="The nightly run", kind="autonomous", redirect_uris=[])
        nightly = Flow(flow.house, robot, add_secret(robot, by=flow.house.owner)[1])
        allow_for_itself(nightly)
    form = {"grant_type": "client_credentials", "resource": nightly.resource}
    subject = nightly.post("token", form | nightly.proof()).json()["access_token"]
    # What Matt allowed the booker is for Matt
    refused(booker, exchange(booker, subject), "invalid_target", "no_grant_of_actor")
    with in_tenant(flow.house.tenant.id):
        grant = allow_for_itself(booker)
    token = exchange(booker, subject).json()["access_token"]
    claims = read(token)
    assert claims["sub"] == str(robot.id) and claims["sub_profile"] == "ai_agent"
    assert claims["act"] == {"sub": str(booker.agent.id)} and claims["grant_id"] == str(grant.id)
    event = events_of(flow.house.tenant.id, "token.issued")[-1]
    assert event.member_id is None and event.details["chain"] == [str(booker.agent.id), str(robot.id)]
    refused(nightly, exchange_as(nightly, token), "invalid_request", "actor_in_chain")
    with in_tenant(flow.house.tenant.id):
        robot.suspend(by=flow.house.owner)
    said = booker.post("introspect", booker.proof() | {"token": token}).json()
    assert said == {"active": False}


def exchange_as(who: Flow, subject: str) -> Any:
    """Though it was not registered for it."""
    with in_tenant(who.house.tenant.id):
        Agent.objects.filter(pk=who.agent.pk).update(grant_types=[GRANT_TYPE])
    return exchange(who, subject)


def test_a_token_that_is_bound_to_a_key_is_not_handed_on(flow: Flow, booker: Flow) -> None:
    subject = resigned(flow, flow.tokens(scope="rooms:read")["access_token"], cnf={"jkt": "x"})
    refused(booker, exchange(booker, subject), "invalid_request", "subject_token_bound")


def test_a_person_who_has_left_is_nobodys_subject(flow: Flow, booker: Flow) -> None:
    subject = flow.tokens(scope="rooms:read")["access_token"]
    matt = flow.house.members["matt"]
    with in_tenant(flow.house.tenant.id):
        type(matt).objects.filter(pk=matt.pk).update(deactivated_at=now())
    refused(booker, exchange(booker, subject), "invalid_request", "member_inactive")


def test_an_agent_that_is_not_registered_for_it_gets_nothing(flow: Flow, booker: Flow) -> None:
    subject = flow.tokens(scope="rooms:read")["access_token"]
    with in_tenant(flow.house.tenant.id):
        Agent.objects.filter(pk=booker.agent.pk).update(grant_types=["authorization_code"])
    refused(booker, exchange(booker, subject), "unauthorized_client", "grant_not_registered")


def test_agents_that_act_for_people_and_prove_themselves_are_registered_for_it(acme: cast.House) -> None:
    kinds = [("delegated", "client_secret_basic"), ("delegated", "none"), ("mcp", "private_key_jwt")]
    with in_tenant(acme.tenant.id):
        made = [
            register_agent(
                acme.tenant,
                by=acme.owner,
                name=f"{kind} {method}",
                purpose="x",
                owner=acme.owner,
                kind=kind,
                auth_method=method,
            )
            for kind, method in kinds
        ]
    assert [GRANT_TYPE in agent.grant_types for agent in made] == [True, False, False]


def test_it_is_advertised(acme: cast.House) -> None:
    said = Client().get("/.well-known/oauth-authorization-server/t/acme").json()
    assert GRANT_TYPE in said["grant_types_supported"]


def test_whoever_ends_a_grant_waits_for_an_exchange_under_it(flow: Flow, booker: Flow) -> None:
    """So the revocation's time is never before the token's, which would let the token live on."""
    subject = flow.tokens(scope="rooms:read")["access_token"]
    tenant_id = flow.house.tenant.id
    seen: list[str] = []

    def end(agent: Agent) -> None:
        try:
            with in_tenant(tenant_id):
                with connection.cursor() as cursor:
                    cursor.execute("SET LOCAL lock_timeout = '200ms'")
                Grant.objects.get(agent=agent, ended_at=None).revoke(by=flow.house.members["matt"])
            seen.append("ended")
        except OperationalError as waited:
            seen.append(type(waited.__cause__).__name__)
        finally:
            connections.close_all()

    asked = Parameters([("subject_token", subject), ("subject_token_type", ACCESS_TOKEN_TYPE)])
    with in_tenant(tenant_id):
        token_exchange.prove(asked, booker.agent)
        for agent in (flow.agent, booker.agent):
            thread = threading.Thread(target=end, args=(agent,))
            thread.start()
            thread.join()
    assert seen == ["LockNotAvailable", "LockNotAvailable"]
