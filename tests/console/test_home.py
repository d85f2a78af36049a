"""The home page: its numbers are the lengths of the lists behind them, and it shows nobody else's."""

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.utils.timezone import now

from agentauth.agents.models import Agent
from agentauth.agents.registering import add_secret
from agentauth.console import answers
from audit.actions import Action
from audit.record import INSERT, Actor, event_row
from tenants.rls import new_id, set_tenant
from tests import cast

pytestmark = pytest.mark.django_db


def a_call(house, agent, grant, *, decision="allow", reasons=(), scope="meeting:enter", at=None):
    action = {"allow": Action.CALL_ALLOWED, "refuse": Action.CALL_REFUSED, "ask": Action.CALL_ASKED}[decision]
    row = event_row(
        action,
        tenant_id=house.tenant.id,
        actor=Actor("agent", str(agent.id)),
        agent_id=agent.id,
        member_id=grant.member_id,
        grant_id=grant.id,
        resource_id=grant.resource_id,
        operation="POST /rooms/meeting/enter",
        decision=decision,
        reasons=reasons,
        call_id=new_id(),
        details={"scope": scope},
        at=at,
    )
    set_tenant(house.tenant.id)
    with connection.cursor() as cursor:
        cursor.execute(INSERT, row)
    return row[0]


def test_a_crowd_of_clients_that_introduced_themselves_is_counted_whole():
    acme = cast.acme()
    cast.assistant(acme)
    agents = [
        Agent(tenant=acme.tenant, name=f"Editor {n}", kind="mcp", registration="dynamic", client_id=f"editor-{n}")
        for n in range(60)
    ]
    Agent.objects.bulk_create(agents[:5])
    browser = cast.signed_in(acme.owner)
    few = browser.get("/t/acme/").content.decode()
    assert "5 clients introduced themselves" in few and "Not shown" not in few
    Agent.objects.bulk_create(agents[5:])
    many = browser.get("/t/acme/").content.decode()
    assert "60 clients introduced themselves" in many
    assert "Not shown: 53." in many, "of these most need somebody"


def test_those_that_need_nobody_are_left_out_and_counted():
    acme = cast.acme()
    for number in range(answers.SHOWN + 2):
        cast.assistant(acme, name=f"Quiet {number}")
    assert "Not shown: 2 that need nobody." in cast.signed_in(acme.owner).get("/t/acme/").content.decode()


def test_numbers_equal_the_lists_behind_them():
    acme = cast.acme()
    agent = cast.assistant(acme)
    grant = cast.matts_grant(acme, agent)
    cast.assistant(acme, name="Sleeper").suspend(by=acme.owner, reason="test")
    Agent.objects.create(
        tenant=acme.tenant, name="Claude", kind="mcp", registration="document", client_id="https://c.example/x"
    )
    for decision in ("allow", "allow", "refuse"):
        a_call(acme, agent, grant, decision=decision)
    six = answers.six(acme.tenant, answers.today(acme.tenant))
    browser = cast.signed_in(acme.owner)
    for view, number in (("active", six.agents["active"]), ("suspended", 1), ("new", 1), ("void", 0), ("", 3)):
        page = browser.get(f"/t/acme/agents/?view={view}").content.decode()
        assert len(re.findall(r"<tr role=\"row\"><td", page)) == number, view
    assert (six.agents["active"], six.grants, six.permissions, six.dangerous) == (1, 1, 3, 0)
    assert (six.calls, six.refused, six.asked) == (3, 1, 0)


@pytest.mark.parametrize("minutes", [5, 45, 200])
def test_yesterdays_calls_are_not_todays(monkeypatch, minutes):
    """Also just after midnight, and in hours that are kept counted."""
    acme = cast.acme()
    agent = cast.assistant(acme)
    grant = cast.matts_grant(acme, agent)
    midnight = now().replace(hour=0, minute=0, second=0, microsecond=0)
    monkeypatch.setattr(answers, "now", lambda: midnight + timedelta(minutes=minutes))
    a_call(acme, agent, grant, at=midnight - timedelta(minutes=2))
    a_call(acme, agent, grant, at=midnight + timedelta(minutes=1))
    assert answers.today(acme.tenant)[agent.id].total() == 1
    a_call(acme, agent, grant, at=midnight + timedelta(minutes=minutes - 1))
    assert answers.today(acme.tenant)[agent.id].total() == 2
    assert answers.today(acme.tenant, [agent])[agent.id].total() == 2


def test_those_who_need_someone_come_first():
    acme = cast.acme()
    for name in ("Aaron", "Beth", "Zed"):
        cast.assistant(acme, name=name)
    zed = Agent.objects.get(tenant=acme.tenant, name="Zed")
    add_secret(zed, by=acme.owner, expires_at=now() + timedelta(days=3))
    rows = answers.rows(acme.tenant, {})
    assert rows[0].agent == zed and rows[0].need and "ends in" in rows[0].need.words
    assert rows[1].need is None
    page = cast.signed_in(acme.owner).get("/t/acme/").content.decode()
    assert "Zed’s secret ends on" in page


def test_a_member_is_sent_to_their_own_agents_and_another_tenant_sees_nothing():
    acme, globex = cast.acme(), cast.globex()
    assert cast.signed_in(acme.members["matt"]).get("/t/acme/").headers["Location"] == "/t/acme/my/agents/"
    assert cast.signed_in(globex.owner).get("/t/acme/").status_code == 404
    assert cast.signed_in(globex.owner).get("/t/nowhere/").status_code == 404


def test_an_auditor_reads_and_has_no_buttons():
    acme = cast.acme()
    agent = cast.assistant(acme)
    browser = cast.signed_in(acme.members["cora"])
    page = browser.get("/t/acme/").content.decode()
    assert "Matt&#x27;s assistant" in page and "Stop all" not in page and "Register" not in page
    assert browser.get(f"/t/acme/agents/{agent.id}/").status_code == 200
    assert browser.post(f"/t/acme/agents/{agent.id}/suspend/").status_code == 403
    agent.refresh_from_db()
    assert agent.state == "active"


def test_the_log_moves_only_when_something_is_new():
    acme = cast.acme()
    agent = cast.assistant(acme)
    grant = cast.matts_grant(acme, agent)
    browser = cast.signed_in(acme.owner)
    first = a_call(acme, agent, grant)
    assert browser.get(f"/t/acme/door/?after={first}").status_code == 204
    second = a_call(acme, agent, grant, decision="refuse", reasons=["grant_says_never"], scope="finance:enter")
    page = browser.get(f"/t/acme/door/?after={first}").content.decode()
    assert f"after={second}" in page and page.count('class="new"') == 1
    assert "tried to enter <b>the finance department</b> for Matt" in page and "Matt’s grant says never" in page


def test_an_empty_organisation_is_told_where_to_begin():
    acme = cast.acme()
    assert b"No one has a badge yet" in cast.signed_in(acme.owner).get("/t/acme/").content
