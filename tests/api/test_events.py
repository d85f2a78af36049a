"""The record over REST: searched in the console's language; members see only their own."""

import pytest

from tenants.rls import set_tenant
from tests import cast
from tests.api.test_authentication import refused
from tests.api.tokens import helper_of, robot

pytestmark = pytest.mark.django_db


@pytest.fixture
def acme():
    return cast.acme()


def test_a_search_finds_what_it_names_and_is_itself_on_record(acme):
    agent = cast.assistant(acme)
    cast.matts_grant(acme, agent)
    answer = robot(acme, "events:read").get("/events", q='action:grant.given agent:"Matt\'s assistant"')
    assert answer.status_code == 200, answer.content
    (event,) = answer.json()["items"]
    assert event["agent"] == str(agent.id) and event["member"] == str(acme.members["matt"].id)
    assert acme.events("record.searched")[0].details["query"].startswith("action:grant.given")


def test_pages_of_the_record_neither_skip_nor_repeat(acme):
    api = robot(acme, "events:read")
    seen, path = [], f"{api.root}/events?limit=5&q=until:1h"
    path = f"{api.root}/events?limit=5&q=action:member"
    while path:
        page = api.client.get(path).json()
        seen += [one["id"] for one in page["items"]]
        path = (page["next"] or "").removeprefix("http://localhost:8000")
    assert len(seen) == len(set(seen)) == len(acme.events("member.joined"))


def test_a_query_that_makes_no_sense_says_where_and_what_would(acme):
    problem = refused(robot(acme, "events:read").get("/events", q="agnet:x"), "invalid", 422)
    assert problem["errors"][0]["field"] == "q" and "agent:" in problem["errors"][0]["detail"]
    assert problem["errors"][0]["position"] == 0


def test_a_member_sees_what_was_done_by_and_for_them_only(acme):
    agent = cast.assistant(acme)
    cast.matts_grant(acme, agent)
    everything = robot(acme, "events:read").get("/events", limit=100).json()["items"]
    set_tenant(acme.tenant.id)
    api = helper_of(acme, acme.members["matt"], events__read="always")
    matt = str(acme.members["matt"].id)
    own = api.get("/events", limit=100).json()["items"]
    assert own and all(one["member"] == matt or one["actor"]["id"] == matt for one in own)
    foreign = next(one for one in everything if one["action"] == "agent.registered")
    refused(api.get(f"/events/{foreign['id']}"), "not-found", 404)
    assert api.get(f"/events/{own[0]['id']}").json()["id"] == own[0]["id"]


def test_globex_events_are_not_there(acme):
    globex = cast.globex()
    theirs = globex.events()[0].id
    set_tenant(acme.tenant.id)
    api = robot(acme, "events:read")
    refused(api.get(f"/events/{theirs}"), "not-found", 404)
    everything = api.get("/events", limit=100).json()["items"]
    assert str(theirs) not in {one["id"] for one in everything}
