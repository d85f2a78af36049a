"""Grants over REST: members see their own, admins give and end, nobody gives a grant to themselves."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils.timezone import now

from agentauth.grants.models import Grant
from tenants.rls import set_tenant
from tests import cast
from tests.api.test_authentication import refused
from tests.api.tokens import Api, helper_of, management_agent, management_grant, robot, token

pytestmark = pytest.mark.django_db


@pytest.fixture
def acme():
    return cast.acme()


def wish(agent, /, **changes):
    return {
        "agent": str(agent.id),
        "resource": "office",
        "for_itself": True,
        "permissions": [{"scope": "rooms:read", "mode": "always"}, {"scope": "finance:enter", "mode": "never"}],
        "expires_at": (now() + timedelta(days=3)).isoformat(),
    } | changes


def test_an_admins_robot_gives_and_ends_a_grant(acme):
    agent, api = cast.assistant(acme), robot(acme)
    answer = api.post("/grants", wish(agent))
    assert answer.status_code == 201, answer.content
    grant = answer.json()
    assert grant["member"] is None and grant["given_by"]["name"] == "Ada Lindqvist" and grant["is_live"]
    assert {one["scope"]: one["mode"] for one in grant["permissions"]}["finance:enter"] == "never"
    assert api.client.get(answer["Location"]).json() == grant
    ended = api.post(f"/grants/{grant['id']}/revoke").json()
    assert ended["ended"]["grants"] == 1 and ended["grant"]["end_reason"] == "revoked"
    (event,) = acme.events("grant.revoked")
    assert str(event.grant_id) == grant["id"]
    refused(api.post(f"/grants/{grant['id']}/revoke"), "conflict", 409)


def test_a_helper_gives_in_its_persons_name_after_a_yes(acme):
    agent = cast.assistant(acme)
    api = helper_of(acme, acme.owner, grants__write="ask")
    wanted = wish(agent, for_itself=False)
    problem = refused(api.post("/grants", wanted), "needs-approval", 403)
    from agentauth.grants.models import Approval

    set_tenant(acme.tenant.id)
    Approval.objects.get(id=problem["approval"]).give(by=acme.owner)
    assert api.post("/grants", wanted).json()["member"]["name"] == "Ada Lindqvist"


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown agent": ({"agent": "0192f3a0-0000-7000-8000-000000000000"}, "agent"),
    "an unknown resource": ({"resource": "nope"}, "resource"),
    "an unknown scope": ({"permissions": [{"scope": "x", "mode": "always"}]}, "permissions.0.scope"),
    "a scope named twice": ({"permissions": [{"scope": "rooms:read", "mode": "ask"}] * 2}, "permissions.1.scope"),
    "an unknown mode": ({"permissions": [{"scope": "rooms:read", "mode": "sure"}]}, "permissions.0.mode"),
    "nothing": ({"permissions": []}, "permissions"),
    "only never": ({"permissions": [{"scope": "rooms:read", "mode": "never"}]}, "permissions"),
    "an end in the past": ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
    "a person that the token has not": ({"for_itself": False}, "for_itself"),
    "a field of the console": ({"member": "me"}, "member"),
}


@pytest.mark.parametrize("why", WRONG)
def test_a_wrong_field_is_named_and_nothing_is_given(acme, why):
    change, field = WRONG[why]
    agent, api = cast.assistant(acme), robot(acme)
    problem = refused(api.post("/grants", wish(agent, **change)), "invalid", 422)
    assert problem["errors"][0]["field"] == field, problem
    set_tenant(acme.tenant.id)
    assert not Grant.objects.filter(agent=agent).exists()


def test_an_agent_cannot_give_a_grant_to_itself(acme):
    agent = management_agent(acme)
    api = Api(acme, token(acme, management_grant(acme, agent, None, {"grants:write": "always"}), "grants:write"))
    refused(api.post("/grants", wish(agent)), "conflict", 409)


def test_a_member_sees_their_own_grants_and_ends_none_over_the_api(acme):
    agent = cast.assistant(acme)
    own = cast.matts_grant(acme, agent)
    others = robot(acme).post("/grants", wish(agent)).json()["id"]
    set_tenant(acme.tenant.id)
    api = helper_of(acme, acme.members["matt"], grants__read="always")
    mine = {one["id"] for one in api.get("/grants").json()["items"]}
    assert str(own.id) in mine and others not in mine
    refused(api.get(f"/grants/{others}"), "not-found", 404)
    refused(api.post(f"/grants/{own.id}/revoke"), "insufficient-scope", 403)


def test_grants_can_be_narrowed_down(acme):
    agent, api = cast.assistant(acme), robot(acme)
    own = cast.matts_grant(acme, agent)
    own.revoke(by=acme.members["matt"])
    assert [one["id"] for one in api.get("/grants", agent=str(agent.id), live="false").json()["items"]] == [str(own.id)]
    assert api.get("/grants", agent=str(agent.id), live="true").json()["items"] == []
    assert api.get("/grants", resource="nope").json() == {"items": [], "next": None}


def test_a_grant_of_globex_is_not_there(acme):
    globex = cast.globex()
    theirs = management_grant(globex, management_agent(globex), None, {"agents:read": "always"})
    set_tenant(acme.tenant.id)
    api = robot(acme)
    refused(api.get(f"/grants/{theirs.id}"), "not-found", 404)
    refused(api.post(f"/grants/{theirs.id}/revoke"), "not-found", 404)


def test_a_grant_can_be_narrowed_and_never_widened(acme):
    agent, api = cast.assistant(acme), robot(acme)
    path = f"/grants/{api.post('/grants', wish(agent)).json()['id']}/narrow"
    sooner = (now() + timedelta(days=1)).isoformat()
    narrowed = api.post(path, {"permissions": [{"scope": "rooms:read", "mode": "ask"}], "expires_at": sooner})
    assert narrowed.status_code == 200, narrowed.content
    assert {one["scope"]: one["mode"] for one in narrowed.json()["permissions"]}["rooms:read"] == "ask"
    (event,) = acme.events("grant.narrowed")
    assert event.details["changed"]["rooms:read"] == "ask"
    refused(api.post(path, {"permissions": [{"scope": "rooms:read", "mode": "always"}]}), "conflict", 409)
    refused(api.post(path, {"expires_at": (now() + timedelta(days=9)).isoformat()}), "conflict", 409)
    wrong = refused(api.post(path, {"permissions": [{"scope": "x", "mode": "ask"}]}), "invalid", 422)
    assert wrong["errors"][0]["field"] == "permissions.0.scope"


def test_of_this_api_an_agent_hands_on_no_more_than_it_has(acme):
    second = management_agent(acme, "Second robot")
    api = robot(acme, "grants:write", "agents:read")

    def handed(*scopes):
        permissions = [{"scope": scope, "mode": "always"} for scope in scopes]
        soon = (now() + timedelta(hours=1)).isoformat()  # within what the robot has itself
        return api.post("/grants", wish(second, resource="agentauth", permissions=permissions, expires_at=soon))

    problem = refused(handed("agents:read", "exports:write"), "invalid", 422)
    assert "exports:write" in problem["errors"][0]["detail"]
    assert handed("agents:read").status_code == 201
