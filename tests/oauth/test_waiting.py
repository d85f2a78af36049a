"""Where an admin answers for each agent first: nothing is asked, nothing is a dead end, and the admins are told."""

from __future__ import annotations

from typing import Any

import pytest
from django.core import mail

from agentauth.agents.introducing import set_introductions
from agentauth.agents.models import Agent
from agentauth.grants.granting import NotGrantable
from agentauth.oauth.pkce import challenge_of
from tenants.models import Tenant
from tenants.rls import in_tenant
from tests import cast
from tests.cast import House, events_of, signed_in
from tests.oauth.browser import Flow, answer_in, register
from tests.oauth.test_self_registration import NATIVE, agent_of

ASKED = {"redirect_uri": "http://127.0.0.1/cb", "scope": "rooms:read"}


def choose(house: House, **changes: Any) -> None:
    with in_tenant(house.tenant.id):
        chosen: dict[str, Any] = {
            "open_registration": True,
            "approval_first": False,
            "unapproved_ceiling": "read",
        } | changes
        set_introductions(Tenant.objects.get(pk=house.tenant.pk), by=house.owner, **chosen)


@pytest.fixture
def newcomer(acme: House) -> Flow:
    choose(acme, approval_first=True)
    said = register(acme, NATIVE).json()
    return Flow(acme, agent_of(acme, said["client_id"])).sign_in()


def test_the_person_is_told_to_wait_and_may_go_back(acme: House, newcomer: Flow) -> None:
    page = newcomer.authorize(**ASKED)
    html = page.content.decode()
    assert page.status_code == 403 and "An admin has to approve" in html and "Ada Lindqvist has been told" in html
    back = page.content.decode().split('class="btn main" href="')[1].split('"')[0].replace("&amp;", "&")
    assert "error=access_denied" in back and "iss=" in back  # RFC 9207 §2
    (event,) = events_of(acme.tenant.id, "authorization.refused")
    assert event.reasons == ["approval_first"] and event.agent_id == newcomer.agent.id
    assert event.member_id == acme.members["matt"].id


def test_the_admins_are_told_once_and_find_it_in_their_list(acme: House, newcomer: Flow) -> None:
    newcomer.authorize(**ASKED)
    newcomer.authorize(**ASKED)
    (told,) = mail.outbox
    assert told.to == ["ada@acme.example"] and f"/agents/{newcomer.agent.id}/" in told.body
    browser = signed_in(acme.owner)
    html = browser.get("/t/acme/agents/?view=new").content.decode()
    assert "Some MCP client" in html and "wanted by Matt Okafor" in html
    page = browser.get(f"/t/acme/agents/{newcomer.agent.id}/").content.decode()
    assert "Will you answer for it?" in page and "Matt Okafor" in page and "First seen" in page


def test_an_admin_who_wants_it_is_led_to_where_it_is_approved(newcomer: Flow) -> None:
    html = newcomer.sign_in("ada").authorize(**ASKED).content.decode()
    assert f"/t/acme/agents/{newcomer.agent.id}/" in html


def test_after_the_approval_it_works_within_what_was_said(acme: House, newcomer: Flow) -> None:
    with in_tenant(acme.tenant.id):
        newcomer.agent.approve(by=acme.owner, owner=acme.owner, ceiling_risk="change")
    code = answer_in(newcomer.answer(newcomer.authorize(**ASKED | {"scope": "rooms:read rooms:book finance:enter"})))
    tokens = newcomer.redeem(code["code"], redirect_uri=ASKED["redirect_uri"]).json()
    assert tokens["scope"].split() == ["rooms:book", "rooms:read"]


def test_what_it_had_before_the_switch_gets_it_no_more_tokens(acme: House) -> None:
    said = register(acme, NATIVE).json()
    flow = Flow(acme, agent_of(acme, said["client_id"])).sign_in()
    code = answer_in(flow.answer(flow.authorize(**ASKED)))["code"]
    tokens = flow.redeem(code, redirect_uri=ASKED["redirect_uri"]).json()
    choose(acme, approval_first=True)
    assert flow.refresh(tokens["refresh_token"]).json()["error"] == "invalid_grant"
    choose(acme, approval_first=False)
    assert flow.refresh(tokens["refresh_token"]).status_code == 200


def test_no_other_way_leads_around_it(acme: House, newcomer: Flow) -> None:
    silent = newcomer.authorize(**ASKED, prompt="none")
    assert answer_in(silent)["error"] == "access_denied"
    with in_tenant(acme.tenant.id), pytest.raises(NotGrantable):
        cast.matts_grant(acme, newcomer.agent, rooms__book="never", meeting__enter="never")
    pushed = newcomer.post(
        "par",
        newcomer.request(**ASKED, code_challenge=challenge_of(newcomer.verifier)),
    )
    assert pushed.status_code in (201, 400)
    if pushed.status_code == 201:
        page = newcomer.authorize(**dict.fromkeys(newcomer.request(), None) | {
            "client_id": newcomer.agent.client_id, "request_uri": pushed.json()["request_uri"],
        })  # fmt: skip
        assert page.status_code == 403 and "has to approve" in page.content.decode()


def test_a_device_is_told_so_too(acme: House) -> None:
    choose(acme, approval_first=True)
    device = "urn:ietf:params:oauth:grant-type:device_code"
    said = register(acme, {"client_name": "TV", "grant_types": [device], "token_endpoint_auth_method": "none"}).json()
    flow = Flow(acme, agent_of(acme, said["client_id"])).sign_in()
    begun = flow.post("device_authorization", {"client_id": said["client_id"], "scope": "rooms:read",
                                               "resource": flow.resource})  # fmt: skip
    assert begun.status_code == 200, begun.content
    page = flow.browser.post("/t/acme/device/", {"user_code": begun.json()["user_code"]}, follow=True)
    html = page.content.decode()
    assert page.status_code == 403 and "An admin has to approve TV first" in html and "Back to" not in html
    polled = flow.post(
        "token", {"grant_type": device, "device_code": begun.json()["device_code"], "client_id": said["client_id"]}
    )
    assert polled.json()["error"] == "access_denied"  # RFC 8628 §3.5: it need not ask any longer
    assert [one.reasons for one in events_of(acme.tenant.id, "authorization.refused")] == [["approval_first"]]
    assert [one.to for one in mail.outbox] == [["ada@acme.example"]]


def test_agents_that_an_admin_registered_need_no_second_approval(acme: House, flow: Flow) -> None:
    choose(acme, approval_first=True)
    assert flow.authorize().status_code == 200


# The settings


def test_a_lower_ceiling_counts_for_those_who_are_here(acme: House) -> None:
    agents = [agent_of(acme, register(acme, NATIVE | {"client_name": f"N{n}"}).json()["client_id"]) for n in range(3)]
    with in_tenant(acme.tenant.id):
        agents[1].approve(by=acme.owner, owner=acme.owner, ceiling_risk="read")
    choose(acme, unapproved_ceiling="change")
    with in_tenant(acme.tenant.id):
        found = [Agent.objects.get(pk=one.pk).ceiling_risk for one in agents]
    assert found == ["change", "read", "change"]
    (event,) = events_of(acme.tenant.id, "tenant.changed")
    assert event.details["after"] == {"unapproved_ceiling": "change"} and event.actor == str(acme.owner.id)
    choose(acme, unapproved_ceiling="change")
    assert len(events_of(acme.tenant.id, "tenant.changed")) == 1  # nothing changed, nothing to record


@pytest.mark.parametrize(
    ("chosen", "registers", "first"), [("closed", 403, False), ("approval", 201, True), ("open", 201, False)]
)
def test_an_admin_chooses_in_the_settings(acme: House, chosen: str, registers: int, first: bool) -> None:
    browser = signed_in(acme.owner)
    assert browser.get("/t/acme/settings/").status_code == 200
    answer = browser.post("/t/acme/settings/", {"introductions": chosen, "unapproved_ceiling": "change"})
    assert (answer.status_code, answer["Location"]) == (303, "/t/acme/settings/")
    assert register(acme, NATIVE).status_code == registers
    tenant = Tenant.objects.get(pk=acme.tenant.pk)
    assert (tenant.approval_first, tenant.unapproved_ceiling) == (first, "change")


def test_what_cannot_be_chosen_is_said_and_others_may_not(acme: House) -> None:
    wrong = {"introductions": "maybe", "unapproved_ceiling": "all"}
    page = signed_in(acme.owner).post("/t/acme/settings/", wrong)
    assert page.status_code == 422 and "2 fields need" in page.content.decode()
    for who in ("matt", "cora"):
        assert signed_in(acme.members[who]).get("/t/acme/settings/").status_code == 403
    assert events_of(acme.tenant.id, "tenant.changed") == []


def test_the_console_of_a_tenant_is_found_without_the_slash() -> None:
    from django.test import Client

    answer = Client().get("/t/acme")
    assert (answer.status_code, answer["Location"]) == (301, "/t/acme/")


def test_an_admin_limits_one_without_answering_for_it(acme: House) -> None:
    agent = agent_of(acme, register(acme, NATIVE).json()["client_id"])
    with in_tenant(acme.tenant.id):
        reads = acme.scope("rooms:read")
    browser, path = signed_in(acme.owner), f"/t/acme/agents/{agent.id}/edit/"
    assert '<option value="" selected>Nobody yet</option>' in browser.get(path).content.decode()
    form = {"name": agent.name, "owner": "", "scopes": [str(reads.id)], "redirect_uris": "http://127.0.0.1/cb"}
    assert browser.post(path, form).status_code == 303
    with in_tenant(acme.tenant.id):
        agent = Agent.objects.get(pk=agent.pk)
        assert agent.owner_id is None and not agent.is_approved
        assert [row.scope_id for row in agent.ceiling.all()] == [reads.id]


def test_one_that_an_admin_blocked_stays_blocked(acme: House) -> None:
    agent = agent_of(acme, register(acme, NATIVE).json()["client_id"])
    assert signed_in(acme.owner).post(f"/t/acme/agents/{agent.id}/suspend/", {"reason": "Odd"}).status_code == 303
    flow = Flow(acme, agent).sign_in()
    assert answer_in(flow.authorize(**ASKED))["error"] == "unauthorized_client"
    html = signed_in(acme.owner).get("/t/acme/agents/?view=new").content.decode()
    assert "Some MCP client" not in html
