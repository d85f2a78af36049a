"""Agents over REST: the same acts, rights and record as in the console."""

from typing import Any

import pytest

from agentauth.agents.models import Agent, Credential
from tenants.models import secret_hash
from tenants.rls import set_tenant
from tests import cast
from tests.api.test_authentication import refused
from tests.api.tokens import helper_of, management_agent, management_grant, robot, token

pytestmark = pytest.mark.django_db
NEW = {
    "name": "Matt's assistant",
    "purpose": "Books rooms",
    "kind": "delegated",
    "redirect_uris": ["https://assistant.example/cb"],
    "ceiling": [{"resource": "office", "scopes": ["rooms:read", "meeting:enter"]}],
}
KEY = {
    "kty": "EC",
    "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}


@pytest.fixture
def acme():
    return cast.acme()


def test_registering_an_agent_shows_its_secret_once(acme):
    api = robot(acme)
    answer = api.post("/agents", NEW | {"owner": str(acme.members["matt"].id)})
    assert answer.status_code == 201, answer.content
    made = answer.json()
    assert made["agent"]["owner"]["name"] == "Matt Okafor"
    assert made["agent"]["ceiling"] == [{"resource": "office", "scopes": ["meeting:enter", "rooms:read"]}]
    set_tenant(acme.tenant.id)
    (credential,) = Credential.objects.filter(agent_id=made["agent"]["id"])
    assert bytes(credential.secret_hash or b"") == secret_hash(made["secret"])
    read = api.client.get(answer["Location"])
    assert read.json() == made["agent"] and made["secret"] not in read.content.decode()
    (event,) = [one for one in acme.events("agent.registered") if one.subject == made["agent"]["id"]]
    assert event.actor == str(acme.owner.id)
    assert made["secret"] not in "".join(one.body for one in acme.events())


def test_an_agent_with_a_key_gets_no_secret(acme):
    answer = robot(acme).post("/agents", NEW | {"auth_method": "private_key_jwt", "public_jwk": KEY})
    assert answer.status_code == 201 and "secret" not in answer.json()
    assert answer.json()["agent"]["credentials"][0]["kind"] == "key"


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no name": ({"name": None}, "name"),
    "a name of spaces": ({"name": "  "}, "name"),
    "a name too long": ({"name": "x" * 81}, "name"),
    "a number as a name": ({"name": 7}, "name"),
    "an unknown kind": ({"kind": "robot"}, "kind"),
    "an unknown field": ({"admin": True}, "admin"),
    "an owner who is nobody": ({"owner": "0192f3a0-0000-7000-8000-000000000000"}, "owner"),
    "an end in the past": ({"valid_until": "2020-01-01T00:00:00Z"}, "valid_until"),
    "a redirect to plain http": ({"redirect_uris": ["http://evil.example/cb"]}, "redirect_uris.0"),
    "a ping to plain http": ({"ping_url": "http://assistant.example/ping"}, "ping_url"),
    "a ping to who asks nobody": ({"kind": "autonomous", "ping_url": "https://assistant.example/ping"}, "ping_url"),
    "an unknown resource": ({"ceiling": [{"resource": "nope", "scopes": ["x"]}]}, "ceiling.0.resource"),
    "an unknown scope": ({"ceiling": [{"resource": "office", "scopes": ["x"]}]}, "ceiling.0.scopes"),
    "a key without a key": ({"auth_method": "private_key_jwt"}, "public_jwk"),
    "a private key": ({"auth_method": "private_key_jwt", "public_jwk": KEY | {"d": "x"}}, "public_jwk"),
    "rubbish as a key": ({"auth_method": "private_key_jwt", "public_jwk": {"kty": "EC"}}, "public_jwk"),
    "nobody to ask and no proof": ({"kind": "autonomous", "auth_method": "none"}, "auth_method"),
}


@pytest.mark.parametrize("why", WRONG)
def test_a_wrong_field_is_named_and_nothing_is_made(acme, why):
    change, field = WRONG[why]
    api = robot(acme)
    before = Agent.objects.count()
    problem = refused(api.post("/agents", NEW | change), "invalid", 422)
    assert [one["field"] for one in problem["errors"]] == [field], problem
    set_tenant(acme.tenant.id)
    assert Agent.objects.count() == before
    assert acme.events("call.refused")[-1].reasons == ["invalid"]


@pytest.mark.parametrize(
    "sent", ["",
             "{", "[]", '"x"', '{"name":"a","name":"b"}', '{"name":NaN}', '{"name":"\\u0000"}', '{"name":"\\ud800"}',
             "[" * 100_000, '{"a":' * 60 + "1" + "}" * 60]
)  # fmt: skip
def test_a_body_that_is_not_one_clean_json_object_is_refused(acme, sent):
    api = robot(acme)
    answer = api.client.post(f"{api.root}/agents", sent, content_type="application/json")
    assert answer.status_code == (422 if sent == "" else 400), answer.content


def test_other_media_types_and_oversized_bodies_are_refused(acme, settings):
    api = robot(acme)
    refused(api.client.post(f"{api.root}/agents", {"name": "x"}), "media-type", 415)
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    refused(api.post("/agents", NEW | {"purpose": "x" * 2000}), "too-large", 413)


def test_where_an_agent_is_pinged_is_set_and_taken_away(acme):
    api = robot(acme)
    made = api.post("/agents", NEW | {"ping_url": "https://assistant.example/ping"}).json()["agent"]
    assert made["ping_url"] == "https://assistant.example/ping"
    assert "urn:openid:params:grant-type:ciba" in made["grant_types"]
    assert api.patch(f"/agents/{made['id']}", {"purpose": "Tea"}).json()["ping_url"] == made["ping_url"]
    assert api.patch(f"/agents/{made['id']}", {"ping_url": ""}).json()["ping_url"] == ""


def test_changing_an_agent_changes_what_is_named_only(acme):
    agent = cast.assistant(acme)
    answer = robot(acme).patch(f"/agents/{agent.id}", {"purpose": "Tea", "ceiling": []})
    assert answer.status_code == 200, answer.content
    changed = answer.json()
    assert (changed["purpose"], changed["name"], changed["ceiling"]) == ("Tea", "Matt's assistant", [])
    assert {"purpose": "Tea"} in [event.details.get("after") for event in acme.events("agent.changed")]


def test_stopping_says_what_ended_and_letting_back_undoes_it(acme):
    agent, api = cast.assistant(acme), robot(acme)
    stopped = api.post(f"/agents/{agent.id}/suspend", {"reason": "Looks odd"})
    assert stopped.status_code == 200
    assert stopped.json()["agent"]["state"] == "suspended" and stopped.json()["ended"]["tokens"] == 0
    (event,) = acme.events("agent.suspended")
    assert (event.actor_kind, event.details["reason"]) == ("agent", "Looks odd")
    refused(api.post(f"/agents/{agent.id}/suspend"), "conflict", 409)
    assert api.post(f"/agents/{agent.id}/let-back").json()["state"] == "active"
    assert api.post(f"/agents/{agent.id}/retire").json()["agent"]["state"] == "retired"
    refused(api.post(f"/agents/{agent.id}/let-back"), "conflict", 409)
    refused(api.patch(f"/agents/{agent.id}", {"purpose": "Ghost"}), "conflict", 409)
    refused(api.post(f"/agents/{agent.id}/credentials", {"kind": "secret"}), "conflict", 409)


def test_credentials_come_and_go(acme):
    agent, api = cast.assistant(acme), robot(acme)
    first = api.post(f"/agents/{agent.id}/credentials", {"kind": "secret"})
    assert first.status_code == 201 and first.json()["secret"].startswith("aas_")
    assert api.post(f"/agents/{agent.id}/credentials", {"kind": "key", "public_jwk": KEY}).status_code == 201
    refused(api.post(f"/agents/{agent.id}/credentials", {"kind": "secret"}), "conflict", 409)
    one = first.json()["credential"]["id"]
    assert api.post(f"/agents/{agent.id}/credentials/{one}/retire").json()["retired_at"]
    assert len(acme.events("credential.retired")) == 1
    refused(api.post(f"/agents/{agent.id}/credentials/{agent.id}/retire"), "not-found", 404)


def test_an_agent_cannot_touch_its_own_badge_but_may_stop_itself(acme):
    agent = management_agent(acme)
    scopes = ("agents:read", "agents:write")
    grant = management_grant(acme, agent, None, dict.fromkeys(scopes, "always"))
    from tests.api.tokens import Api

    api = Api(acme, token(acme, grant, *scopes))
    for path in (f"/agents/{agent.id}/credentials", f"/agents/{agent.id}/let-back"):
        refused(api.post(path, {"kind": "secret"} if path.endswith("s") else None), "conflict", 409)
    refused(api.patch(f"/agents/{agent.id}", {"valid_until": None}), "conflict", 409)
    assert api.post(f"/agents/{agent.id}/suspend").status_code == 200
    refused(api.get("/agents"), "invalid-token", 401)


def test_pages_show_every_agent_once_newest_first(acme):
    api = robot(acme)
    for number in range(7):
        api.post("/agents", NEW | {"name": f"Agent {number}"})
    seen, answer = [], api.get("/agents", limit=3)
    while True:
        page = answer.json()
        seen += [one["name"] for one in page["items"]]
        if page["next"] is None:
            break
        assert answer["Link"] == f'<{page["next"]}>; rel="next"'
        answer = api.client.get(page["next"].removeprefix("http://localhost:8000"))
    assert seen == [f"Agent {number}" for number in range(6, -1, -1)] + ["Console robot"]


@pytest.mark.parametrize(
    ("query", "field"),
    [({"limit": 0}, "limit"), ({"limit": 101}, "limit"), ({"cursor": "?"}, "cursor"), ({"state": "x"}, "state"),
     ({"colour": "red"}, "colour"), ({"limit": ["1", "2"]}, "limit"), ({"owner": "me"}, "owner")],
)  # fmt: skip
def test_a_wrong_query_is_named(acme, query, field):
    assert refused(robot(acme).get("/agents", **query), "invalid", 422)["errors"][0]["field"] == field


def test_an_agent_of_globex_is_not_there_for_acme(acme):
    globex = cast.globex()
    theirs = management_agent(globex)
    set_tenant(acme.tenant.id)
    api = robot(acme)
    unknown = api.get("/agents/0192f3a0-0000-7000-8000-000000000000")
    for answer in (
        api.get(f"/agents/{theirs.id}"),
        api.patch(f"/agents/{theirs.id}", {"name": "Mine"}),
        api.post(f"/agents/{theirs.id}/suspend"),
        api.post(f"/agents/{theirs.id}/credentials", {"kind": "secret"}),
    ):
        assert answer.status_code == 404 and answer.json() == unknown.json()
    wrong_owner = api.post("/agents", NEW | {"owner": str(globex.owner.id)})
    assert refused(wrong_owner, "invalid", 422)["errors"][0]["field"] == "owner"


def test_an_auditor_reads_and_never_writes(acme):
    agent = cast.assistant(acme)
    api = helper_of(acme, acme.members["cora"], agents__read="always")
    assert api.get(f"/agents/{agent.id}").status_code == 200
    refused(api.post(f"/agents/{agent.id}/suspend"), "insufficient-scope", 403)


def test_markup_in_a_name_is_text(acme):
    name = "<script>alert(1)</script>"
    assert robot(acme).post("/agents", NEW | {"name": name}).json()["agent"]["name"] == name
