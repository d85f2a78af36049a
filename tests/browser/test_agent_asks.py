"""An agent asks by itself, over HTTP; its person answers in the inbox of a real browser; it calls what they allowed."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx2
import pytest
from playwright.sync_api import Browser, expect

from tests.browser.eyes import Eyes
from tests.flows.agent import AgentProgram
from tests.stack import Stack

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]
MESSAGE = "Rooms for Thursday, K7-PLM"


class Asker(AgentProgram):
    """Knows its person's address, and asks."""

    def ask_by_itself(self, message: str, **more: str) -> httpx2.Response:
        asked = {"scope": "openid rooms:read meeting:enter", "login_hint": "matt@acme.example"}
        asked |= {"resource": self.resource, "binding_message": message} | more
        endpoint = self.server["backchannel_authentication_endpoint"]
        return self.http.post(endpoint, data=asked, auth=(self.client_id, self.secret))

    def fetch(self, auth_req_id: str) -> httpx2.Response:
        asked = {"grant_type": "urn:openid:params:grant-type:ciba", "auth_req_id": auth_req_id}
        return self.http.post(self.server["token_endpoint"], data=asked, auth=(self.client_id, self.secret))


@pytest.fixture(scope="module")
def agent(stack: Stack, chromium: Browser) -> Asker:
    """Registered itself; Ada has approved it since."""
    document = {
        "client_name": "Room scout",
        "grant_types": ["urn:openid:params:grant-type:ciba"],
        "token_endpoint_auth_method": "client_secret_basic",
    }
    said = httpx2.post(f"{stack.base_url}/t/acme/oauth/register", json=document).raise_for_status().json()
    program = Asker(said["client_id"], said["client_secret"], f"{stack.gateway_url}/acme/office")
    assert program.ask_by_itself(MESSAGE).status_code == 403  # nobody answers for it yet
    ada = Eyes(chromium, stack.base_url).sign_in("ada@acme.example", stack.demo_password)
    ada.open(f"/t/acme/agents/{said['client_id']}/")
    ada.page.locator("[name=ceiling_risk][value=change]").check(force=True)
    ada.press("Approve")
    ada.context.close()
    assert not ada.found, "\n".join(ada.found)
    return program


@pytest.fixture
def matt(request: pytest.FixtureRequest, stack: Stack, chromium: Browser) -> Iterator[Eyes]:
    eyes = Eyes(chromium, stack.base_url, java_script_enabled=getattr(request, "param", True))
    yield eyes.sign_in("matt@acme.example", stack.demo_password)
    eyes.context.close()
    assert not eyes.found, "\n".join(eyes.found)


@pytest.mark.parametrize("matt", [True, False], indirect=True, ids=["scripts", "no scripts"])
def test_what_matt_allows_in_his_inbox_the_agent_may_call(agent: Asker, matt: Eyes) -> None:
    asked = agent.ask_by_itself(MESSAGE).raise_for_status().json()
    assert agent.fetch(asked["auth_req_id"]).json()["error"] == "authorization_pending"
    matt.open("/t/acme/my/agents/")
    expect(matt.page.get_by_role("link", name="Inbox 1 waiting")).to_be_visible()
    matt.open("/t/acme/my/inbox/")
    row = matt.page.locator(".badges-asked > li")
    expect(row).to_contain_text("Room scout asks to act for you")
    expect(row).to_contain_text(MESSAGE)
    row.get_by_role("link", name="Look").click()
    expect(matt.page.locator("main")).to_contain_text(f"“{MESSAGE}”")
    matt.page.get_by_label("Enter the meeting room").uncheck()
    matt.page.get_by_role("button", name="Allow").click()
    expect(matt.page.get_by_role("heading", level=1)).to_have_text("Room scout has its badge")
    agent.tokens = agent.fetch(asked["auth_req_id"]).raise_for_status().json()
    assert agent.tokens["scope"] == "rooms:read" and "id_token" in agent.tokens
    assert agent.call("GET", "/rooms").status_code == 200
    assert agent.call("POST", "/rooms/meeting/enter").status_code == 403
    matt.page.get_by_role("link", name="Back to your inbox").click()
    expect(matt.page.locator("main")).to_contain_text("Nothing waits for you")


def test_what_matt_denies_the_agent_hears(agent: Asker, matt: Eyes) -> None:
    asked = agent.ask_by_itself(MESSAGE).raise_for_status().json()
    matt.open("/t/acme/my/inbox/")
    matt.page.get_by_role("link", name="Look").click()
    matt.page.get_by_role("button", name="Deny").click()
    expect(matt.page.get_by_role("heading", level=1)).to_have_text("Room scout got nothing")
    assert agent.fetch(asked["auth_req_id"]).json()["error"] == "access_denied"


def test_one_call_with_endless_values_is_read_and_allowed_as_such(agent: Asker, matt: Eyes) -> None:
    """RFC 9396: what the agent writes into the call is shown whole, and pushes nothing off the page."""
    body = {"from": "2030-05-06T10:00:00Z", "to": "2030-05-06T11:00:00Z", "title": "W" * 90}
    detail = {
        "type": "operation",
        "locations": [agent.resource],
        "actions": ["POST /rooms/{room}/book"],
        "arguments": {"path": {"room": "library"}, "body": body},
    }
    agent.ask_by_itself(MESSAGE, scope="openid", authorization_details=json.dumps([detail])).raise_for_status()
    matt.open("/t/acme/my/inbox/")
    expect(matt.page.locator(".badges-asked > li")).to_contain_text("Room scout asks to make one call for you")
    matt.page.get_by_role("link", name="Look").click()
    expect(matt.page.locator(".args")).to_contain_text("W" * 90)
    matt.look()
    matt.page.get_by_role("button", name="Allow").click()
    expect(matt.page.get_by_role("heading", level=1)).to_have_text("Room scout may make this call")
    matt.look()


def test_inbox_and_question_are_open_to_everybody_whatever_the_message(agent: Asker, matt: Eyes) -> None:
    agent.ask_by_itself("W" * 100).raise_for_status()
    matt.open("/t/acme/my/inbox/")
    matt.look()
    matt.page.get_by_role("link", name="Look").click()
    matt.look()
    matt.page.get_by_role("button", name="Deny").click()
    matt.look()
