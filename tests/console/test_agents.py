"""Agents in the console: the list, stopping and letting back in, approving, ending a grant."""

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.utils.timezone import now

from agentauth.agents.models import Agent, actor_of
from agentauth.grants.granting import give
from agentauth.resources.models import Operation
from audit.actions import Action
from audit.record import record
from tenants.models import Revocation
from tests import cast

pytestmark = pytest.mark.django_db


def names(page):
    return re.findall(r'<a class="cell-main" href="[^"]*">([^<]*)</a>', page.content.decode())


def test_the_list_pages_through_all_without_losing_or_repeating_one():
    """Also where many carry the same name."""
    acme = cast.acme()
    for number in range(57):
        cast.assistant(acme, name=f"Agent {number % 3}")
    browser, path, trail = cast.signed_in(acme.owner), "/t/acme/agents/", []
    while path:
        page = browser.get(path).content.decode()
        trail.append(re.findall(r'class="cell-main" href="([^"]*)"', page))
        found = re.search(r'rel="next" href="([^"]*)"', page)
        path = f"/t/acme/agents/{found[1].replace('&amp;', '&')}" if found else ""
    seen = [one for shown in trail for one in shown]
    assert len(seen) == len(set(seen)) == 57 and [len(one) for one in trail] == [25, 25, 7]
    (back,) = re.findall(r'rel="prev" href="([^"]*)"', page)
    page = browser.get(f"/t/acme/agents/{back}").content.decode()
    assert re.findall(r'class="cell-main" href="([^"]*)"', page) == trail[1]


def test_those_that_somebody_wants_are_found_among_many_that_came_by_themselves():
    acme = cast.acme()
    browser, matt = cast.signed_in(acme.owner), acme.members["matt"]
    cast.assistant(acme)
    assert "Nobody waits to be approved" in browser.get("/t/acme/agents/?view=new").content.decode()
    _, let_in, told_to_wait = [
        Agent.objects.create(tenant=acme.tenant, name=name, kind="mcp", registration="dynamic", client_id=name)
        for name in ("Editor", "Planner", "Writer")
    ]
    assert "view=wanted" not in browser.get("/t/acme/agents/").content.decode()
    soon = now() + timedelta(days=1)
    reads = {acme.scope("rooms:read"): "always"}
    give(agent=let_in, resource=acme.office, member=matt, by=matt, permissions=reads, expires_at=soon)
    said = {"decision": "refuse", "reasons": ["approval_first"], "agent_id": told_to_wait.id, "member_id": matt.id}
    record(Action.AUTHORIZATION_REFUSED, tenant_id=acme.tenant.id, actor=actor_of(matt), **said)
    assert names(browser.get("/t/acme/agents/?view=new")) == ["Editor", "Planner", "Writer"]
    page = browser.get("/t/acme/agents/?view=wanted")
    assert names(page) == ["Planner", "Writer"] and "wanted by Matt Okafor" in page.content.decode()


def test_search_finds_by_name_owner_and_purpose():
    acme = cast.acme()
    cast.assistant(acme)
    cast.assistant(acme, name="Invoice clerk", purpose="Matches orders")
    browser = cast.signed_in(acme.owner)
    assert names(browser.get("/t/acme/agents/?q=invoice")) == ["Invoice clerk"]
    assert names(browser.get("/t/acme/agents/?q=orders okafor")) == ["Invoice clerk"]
    assert names(browser.get("/t/acme/agents/?q=<script>")) == []
    assert "&lt;script&gt;" in browser.get("/t/acme/agents/?q=<script>").content.decode()
    assert names(browser.get(f"/t/acme/agents/?owner={acme.owner.id}")) == []
    assert browser.get("/t/acme/agents/?owner=x&after=y&view=z").status_code == 200


def test_stopping_says_what_ends_then_ends_it_and_letting_back_undoes_it():
    acme = cast.acme()
    agent = cast.assistant(acme)
    browser = cast.signed_in(acme.owner)
    question = browser.get(f"/t/acme/agents/{agent.id}/stop/")
    assert question.status_code == 200
    agent.refresh_from_db()
    assert agent.state == "active"
    answer = browser.post(f"/t/acme/agents/{agent.id}/suspend/", {"reason": "Asked at night"}, follow=True)
    assert answer.redirect_chain == [(f"/t/acme/agents/{agent.id}/", 303)]
    assert b"is stopped" in answer.content and b"Asked at night" in answer.content
    agent.refresh_from_db()
    assert agent.state == "suspended"
    assert Revocation.objects.filter(tenant=acme.tenant, kind="agent", subject=str(agent.id), lifted_at=None).exists()
    (event,) = acme.events("agent.suspended")
    assert event.actor == str(acme.owner.id) and event.details["reason"] == "Asked at night"
    browser.post(f"/t/acme/agents/{agent.id}/let-back/")
    agent.refresh_from_db()
    assert agent.state == "active" and len(acme.events("agent.let_back")) == 1


def test_acts_are_forms_and_links_do_nothing():
    acme = cast.acme()
    agent = cast.assistant(acme)
    browser = cast.signed_in(acme.owner)
    for act in ("suspend", "let-back", "retire", "approve"):
        assert browser.get(f"/t/acme/agents/{agent.id}/{act}/").status_code == 405


def test_a_form_from_elsewhere_does_nothing():
    acme = cast.acme()
    agent = cast.assistant(acme)
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(acme.owner.user, backend="django.contrib.auth.backends.ModelBackend")
    assert browser.post(f"/t/acme/agents/{agent.id}/suspend/").status_code == 403
    agent.refresh_from_db()
    assert agent.state == "active"


def test_the_chosen_or_all_are_stopped_together():
    acme = cast.acme()
    first, second, third = (cast.assistant(acme, name=name) for name in ("One", "Two", "Three"))
    browser = cast.signed_in(acme.owner)
    assert b"Stop these 2 agents" in browser.get(f"/t/acme/agents/stop/?chosen={first.id}&chosen={second.id}").content
    browser.post("/t/acme/agents/stop/", {"chosen": [str(first.id), str(second.id)]})
    states = dict(Agent.objects.filter(tenant=acme.tenant).values_list("name", "state"))
    assert states == {"One": "suspended", "Two": "suspended", "Three": "active"}
    browser.post("/t/acme/agents/stop/", {"all": "1"})
    third.refresh_from_db()
    assert third.state == "suspended" and len(acme.events("agent.suspended")) == 3


def test_retiring_needs_the_name():
    acme = cast.acme()
    agent = cast.assistant(acme)
    browser = cast.signed_in(acme.owner)
    browser.post(f"/t/acme/agents/{agent.id}/retire/", {"name": "matt"})
    agent.refresh_from_db()
    assert agent.state == "active"
    browser.post(f"/t/acme/agents/{agent.id}/retire/", {"name": "Matt's assistant"})
    agent.refresh_from_db()
    assert agent.state == "retired" and len(acme.events("agent.retired")) == 1


def test_somebody_answers_for_a_client_that_introduced_itself():
    acme = cast.acme()
    claude = Agent.objects.create(
        tenant=acme.tenant, name="Claude", kind="mcp", registration="document", client_id="https://claude.example/meta"
    )
    browser = cast.signed_in(acme.owner)
    page = browser.get(f"/t/acme/agents/{claude.id}/").content
    assert b"Will you answer for it?" in page and b"claude.example" in page
    browser.post(f"/t/acme/agents/{claude.id}/approve/", {"owner": "", "ceiling_risk": "read"})
    claude.refresh_from_db()
    assert claude.approved_at is None
    browser.post(f"/t/acme/agents/{claude.id}/approve/", {"owner": str(acme.owner.id), "ceiling_risk": "change"})
    claude.refresh_from_db()
    assert (claude.owner_id, claude.ceiling_risk) == (acme.owner.id, "change") and claude.approved_at
    assert len(acme.events("agent.approved")) == 1


def test_a_row_of_on_behalf_of_ends_alone():
    acme = cast.acme()
    agent = cast.assistant(acme)
    grant = cast.matts_grant(acme, agent)
    browser = cast.signed_in(acme.owner)
    page = browser.get(f"/t/acme/agents/{agent.id}/").content.decode()
    assert "Enter the meeting room" in page and "Matt Okafor" in page
    browser.post(f"/t/acme/agents/{agent.id}/grants/{grant.id}/end/")
    grant.refresh_from_db()
    agent.refresh_from_db()
    assert grant.ended_at is not None and agent.state == "active"
    (event,) = acme.events("grant.revoked")
    assert event.grant_id == grant.id


def test_another_tenants_agent_is_not_there():
    acme = cast.acme()
    agent = cast.assistant(acme)
    globex = cast.globex()
    browser = cast.signed_in(globex.owner)
    for tenant in ("acme", "globex"):
        for act in ("", "stop/", "edit/", "rule/", "secret/", "credentials/new/"):
            assert browser.get(f"/t/{tenant}/agents/{agent.id}/{act}").status_code == 404
        assert browser.post(f"/t/{tenant}/agents/{agent.id}/suspend/").status_code == 404


def test_a_hostile_name_stays_text():
    acme = cast.acme()
    agent = cast.assistant(acme, name="<img src=x onerror=alert(1)>", purpose="</style><script>x</script>")
    browser = cast.signed_in(acme.owner)
    for path in ("/t/acme/", "/t/acme/agents/", f"/t/acme/agents/{agent.id}/", f"/t/acme/agents/{agent.id}/stop/"):
        page = browser.get(path).content.decode()
        assert "<img src=x" not in page and "<script>x" not in page and "&lt;img src=x" in page


def test_the_rules_answer_without_anything_being_called():
    acme = cast.acme()
    agent = cast.assistant(acme)
    browser, matt = cast.signed_in(acme.owner), acme.members["matt"]

    def answer(key):
        operation = Operation.objects.get(tenant=acme.tenant, key=key)
        before = len(acme.events())
        page = browser.get(f"/t/acme/agents/{agent.id}/?person={matt.id}&operation={operation.id}").content.decode()
        assert len(acme.events()) == before
        return page[page.index('class="answer"') :]

    assert "Nobody has granted this." in answer("GET /rooms")
    cast.matts_grant(acme, agent)
    assert "It may." in answer("GET /rooms")
    assert "each time Matt Okafor says yes" in answer("POST /rooms/{room}/book")
    assert "said never" in answer("POST /rooms/finance/enter")
    agent.suspend(by=acme.owner)
    assert "suspended" in answer("GET /rooms") and "not reached" in answer("GET /rooms")


def test_a_part_that_is_polled_sends_the_signed_out_to_the_front_door():
    acme = cast.acme()
    agent = cast.assistant(acme)
    for path in ("/t/acme/door/", f"/t/acme/agents/{agent.id}/ended/"):
        answer = Client().get(path, headers={"HX-Request": "true"})
        assert (answer.status_code, answer.headers["HX-Refresh"]) == (204, "true")
        assert Client().get(path).status_code == 302
