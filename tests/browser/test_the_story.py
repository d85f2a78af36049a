"""The story of the demo, clicked through: Ada registers, Matt grants, the agent calls, they stop it, Cora proves it.

One story in order; a test is a chapter and stands on those before it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from playwright.sync_api import Browser, expect

from tests.browser.asking import Asking, of_the_demo, waiting_program
from tests.browser.conftest import Take
from tests.browser.eyes import Eyes
from tests.browser.lived_in import live_in
from tests.stack import Stack

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]
MATE = "Meeting mate"
SIX = (
    "Which agents exist?",
    "Who owns each?",
    "What can it do?",
    "Why?",
    "What has it done?",
    "How do I stop it?",
)


@dataclass
class Scene:
    """Who sits in front of which browser, and what the story has brought so far."""

    stack: Stack
    ada: Eyes
    matt: Eyes
    cora: Eyes
    plain: Eyes  # Matt again, in a browser without scripts
    callback: str
    programs: dict[str, Asking] = field(default_factory=dict)
    agents: dict[str, str] = field(default_factory=dict)

    def program(self, client_id: str, secret: str, resource: str) -> Asking:
        program = Asking(client_id, secret, f"{self.stack.gateway_url}/acme/{resource}")
        program.callback = self.callback
        return program

    def events(self, action: str, agent: str) -> list[tuple[Any, ...]]:
        return self.stack.sql(
            "SELECT decision, reasons, outcome, member_id FROM audit_event WHERE action = %s AND agent_id = %s::uuid "
            "ORDER BY id",
            (action, agent),
        )


@pytest.fixture(scope="module")
def scene(stack: Stack, chromium: Browser) -> Iterator[Scene]:
    with ExitStack() as opened:
        password, base = stack.demo_password, stack.base_url
        ada, matt, cora = (
            Eyes(chromium, base).sign_in(f"{name}@acme.example", password) for name in ("ada", "matt", "cora")
        )
        plain = Eyes(chromium, base, java_script_enabled=False).sign_in("matt@acme.example", password)
        if os.environ.get("AGENTAUTH_TEST_PICTURES") == "1":
            live_in(stack)
        yield Scene(stack, ada, matt, cora, plain, opened.enter_context(waiting_program()))
        for eyes in (ada, matt, cora, plain):
            eyes.context.close()


@pytest.fixture(autouse=True)
def _nothing_broke(scene: Scene) -> Iterator[None]:
    """No chapter breaks a page's policy, throws in a script or meets an error of ours."""
    yield
    broken = [one for eyes in (scene.ada, scene.matt, scene.cora, scene.plain) for one in eyes.found]
    for eyes in (scene.ada, scene.matt, scene.cora, scene.plain):
        eyes.found.clear()
    assert not broken, "\n".join(broken)


def test_ada_signs_in_and_home_answers_the_six_questions(scene: Scene) -> None:
    ada = scene.ada
    ada.open("/t/acme/")
    for question in SIX:
        expect(ada.page.get_by_role("columnheader").filter(has_text=question)).to_have_count(1)
    row = ada.page.get_by_role("row").filter(has_text="Matt's assistant")
    for answer in ("Matt Okafor", "See rooms", "rooms for Matt's meetings", "Granted by Matt", "Stop"):
        expect(row).to_contain_text(answer)
    counted = int(ada.page.locator("th .num").first.inner_text())
    ada.follow("All ")
    expect(ada.page.locator("tbody tr")).to_have_count(counted)


def test_ada_adds_a_rest_api_from_its_document_and_says_what_is_dangerous(scene: Scene) -> None:
    ada, page = scene.ada, scene.ada.page
    office = f"http://127.0.0.1:{scene.stack.environ['OFFICE_PORT']}"
    key = (scene.stack.home / "secrets" / "office.key").read_text().strip()
    document = httpx2.get(f"{office}/openapi.json").text
    ada.open("/t/acme/resources/")
    ada.follow("A REST API")
    page.get_by_text("Paste it", exact=True).click()
    page.fill("#id_document", "openapi: nonsense")
    page.fill("#id_name", "Annex")
    page.fill("#id_upstream_url", office)
    page.get_by_text("Bearer token", exact=True).click()
    page.fill("#id_secret", key)
    ada.press("Read it")
    expect(page.locator("#problems")).to_be_visible()
    assert page.input_value("#id_name") == "Annex" and page.input_value("#id_document") == "openapi: nonsense"
    page.fill("#id_document", document)
    page.fill("#id_secret", key)
    ada.press("Read it")
    page.wait_for_url(re.compile(r"/resources/annex/"))
    assert key not in page.content()
    finance = page.get_by_role("row").filter(has_text="POST /rooms/finance/enter").locator("select")
    page.get_by_text("One more permission").click()
    page.fill("#new-name", "annex:finance")
    page.fill("#new-words", "Enter the annex's finance room")
    page.select_option("#new-risk", "dangerous")
    finance.select_option("new")
    ada.press("Save and open it")
    expect(page.locator("main")).to_contain_text("Open")
    [(state, risk)] = scene.stack.sql(
        "SELECT r.state, s.risk FROM resources_operation o JOIN resources_scope s ON s.id = o.scope_id "
        "JOIN resources_resource r ON r.id = o.resource_id WHERE r.slug = 'annex' AND o.key LIKE '%%finance%%'"
    )
    assert (state, risk) == ("published", "dangerous")
    assert scene.stack.sql("SELECT 1 FROM audit_event WHERE action = 'resource.published' AND subject <> ''")


def register(scene: Scene, name: str, proof: str, *, resource: str = "Office") -> None:
    """Fill in the form as far as the button. Every permission of one resource is its ceiling."""
    page = scene.ada.page
    scene.ada.open("/t/acme/agents/")
    scene.ada.follow("Register an agent")
    page.get_by_role("radio", name=re.compile("^It acts for a person")).check()
    page.fill("#id_name", name)
    page.fill("#id_purpose", "Holds the door for Matt's guests")
    expect(page.locator("[data-shows=name]")).to_have_text(name)  # the badge beside it fills in
    place = page.locator("details.more").filter(has=page.locator("summary", has_text=re.compile(f"^\\s*{resource} ")))
    for box in place.get_by_role("checkbox").all():
        box.check()
    page.fill("#id_redirect_uris", scene.callback)
    page.get_by_role("radio", name=re.compile(f"^{proof}")).check()


def test_ada_registers_an_agent_whose_key_is_made_in_her_browser(scene: Scene) -> None:
    ada, page = scene.ada, scene.ada.page
    register(scene, "Key keeper", "Make a key in this browser")
    with ada.downloading() as saved:
        ada.press("Register")
    page.wait_for_url(re.compile(r"/agents/[0-9a-f-]{36}/"))
    load_pem_private_key(saved().read_bytes(), password=None)
    badge = page.locator(".agent-badge .badge")
    for shown in ("Key keeper", "Holds the door for Matt's guests", "Ada Lindqvist", "Nowhere yet", "Active"):
        expect(badge).to_contain_text(shown, ignore_case=True)
    expect(badge.locator("svg").first).to_be_visible()
    expect(page.locator("#credentials")).to_contain_text("Public key")
    expect(page.get_by_role("link", name="Stop this agent")).to_be_visible()


def test_ada_registers_an_agent_with_a_secret_that_is_shown_once(scene: Scene) -> None:
    ada, page = scene.ada, scene.ada.page
    register(scene, MATE, "A secret")
    ada.press("Register")
    secret, client_id = page.locator("#secret").inner_text(), page.locator("#client-id").inner_text()
    assert secret.startswith("aas_")
    with ada.downloading() as saved:
        ada.press("Download agent.env")
    assert f"AGENTAUTH_CLIENT_SECRET={secret}" in saved().read_text()
    here = page.url
    ada.follow("I have it, go on")
    expect(page.locator(".agent-badge .badge")).to_contain_text(MATE)
    assert secret not in page.content()
    ada.open(here)
    assert secret not in page.content(), "a secret is shown exactly once"
    scene.agents[MATE] = client_id
    scene.programs[MATE] = scene.program(client_id, secret, "office")


def test_matt_grants_from_the_console_in_three_steps(scene: Scene) -> None:
    matt, page = scene.matt, scene.matt.page
    matt.open("/t/acme/my/agents/")
    matt.follow("Let an agent act for me")
    matt.follow("Choose Key keeper")
    matt.follow("Choose Office")
    expect(page.get_by_role("checkbox", name=re.compile("^Enter the finance department"))).not_to_be_checked()
    page.fill("#purpose", "Guests of the board")
    matt.press("Let it act for me")
    page.wait_for_url(re.compile(r"/my/agents/"))
    badge = page.locator(".rack li").filter(has_text="Key keeper")
    expect(badge).to_contain_text("See rooms")
    expect(badge).to_contain_text("Active", ignore_case=True)
    assert "Guests of the board" in str(
        scene.stack.sql("SELECT details FROM audit_event WHERE action = 'grant.given' ORDER BY id DESC LIMIT 1")
    )


def test_matt_denies_without_scripts_and_the_agent_is_told(scene: Scene) -> None:
    plain, mate = scene.plain, scene.programs[MATE]
    plain.open(mate.address())
    for shown in (MATE, "For Matt Okafor", "Either way you go on to 127.0.0.1"):
        assert shown in plain.words, plain.words
    plain.press("Deny")
    plain.page.wait_for_url(f"{scene.callback}?**")
    assert mate.came_back(plain.page.url)["error"] == "access_denied"
    assert scene.events("grant.refused", scene.agents[MATE]) and not scene.events("grant.given", scene.agents[MATE])


def test_matt_denies_with_scripts_and_allows_with_the_keyboard_alone(scene: Scene, picture: Take) -> None:
    matt, page, mate = scene.matt, scene.matt.page, scene.programs[MATE]
    matt.open(mate.address())
    picture(matt, "consent")
    matt.press("Deny")
    page.wait_for_url(f"{scene.callback}?**")
    assert mate.came_back(page.url)["error"] == "access_denied"
    matt.open(mate.address())
    expect(page.get_by_role("checkbox", name=re.compile("^Enter the finance department"))).not_to_be_checked()
    matt.tab_to(page.locator("[name=change-how]:checked"))
    page.keyboard.press("ArrowLeft")  # from "Ask me" to "Always"
    matt.tab_to(page.get_by_role("checkbox", name=re.compile("^Book a room")))
    page.keyboard.press("Space")
    matt.tab_to(page.get_by_role("button", name="Allow"))
    page.keyboard.press("Enter")
    page.wait_for_url(f"{scene.callback}?**")
    assert "You can close this window" in page.content()
    assert "code" in mate.came_back(page.url)
    assert set(mate.tokens["scope"].split()) == {"rooms:read", "meeting:enter"}


def test_the_agent_enters_the_meeting_room_and_ada_sees_it_live(scene: Scene) -> None:
    ada, mate = scene.ada, scene.programs[MATE]
    ada.open("/t/acme/")
    assert mate.call("GET", "/rooms").status_code == 200
    assert mate.call("POST", "/rooms/meeting/enter").status_code == 200
    refused = mate.call("POST", "/rooms/finance/enter")
    assert refused.status_code == 403 and refused.json()["scope"] == "finance:enter"
    expect(ada.page.locator("#log li").first).to_contain_text(f"{MATE} tried to enter the finance department for Matt")
    lines = ada.page.locator("#log")
    expect(lines).to_contain_text(f"{MATE} entered the meeting room for Matt")
    expect(lines).to_contain_text(f"{MATE} saw rooms for Matt")
    ada.open(f"/t/acme/agents/{scene.agents[MATE]}/")
    expect(ada.page.locator("#calls")).to_contain_text("Entered the meeting room")
    expect(ada.page.locator("#behalf")).to_contain_text("Matt Okafor")
    assert [decision for decision, *_ in scene.events("call.allowed", scene.agents[MATE])] == ["allow", "allow"]
    [(_, reasons, _, member)] = scene.events("call.refused", scene.agents[MATE])
    assert reasons and member


def test_a_call_that_asks_lands_in_the_inbox_and_passes_once(scene: Scene) -> None:
    """Without a question this time: what Matt allowed his assistant before is not asked again."""
    matt, page, plain = scene.matt, scene.matt.page, scene.plain
    known = of_the_demo(scene.stack, "matts-assistant")
    assistant = scene.program(known["CLIENT_ID"], known["CLIENT_SECRET"], "office")
    plain.open(assistant.address())
    if not plain.page.url.startswith(scene.callback):
        plain.follow("Go on")
    assert "code" in assistant.came_back(plain.page.url)
    wish = {"from": "2030-05-06T10:00:00Z", "to": "2030-05-06T11:00:00Z", "title": "Board"}
    asked = assistant.call("POST", "/rooms/library/book", json=wish)
    assert asked.status_code == 403 and asked.json()["ask_at"].startswith(scene.stack.base_url)
    matt.open("/t/acme/my/inbox/")
    expect(page.locator(".nav")).to_contain_text("Inbox 1")
    matt.follow("Book a room")
    assert page.url == asked.json()["ask_at"]
    for shown in ("Book a room at Office?", "library", "Board", "Rooms for my meetings"):
        expect(page.locator("main")).to_contain_text(shown)
    matt.press("Allow once")
    page.wait_for_url(re.compile(r"/my/inbox/$"))
    expect(page.locator("main")).to_contain_text("Nothing waits for you")
    assert assistant.call("POST", "/rooms/library/book", json=wish).status_code == 201
    assert assistant.call("POST", "/rooms/library/book", json=wish).status_code == 403, "a yes counts once"
    scene.programs["assistant"] = assistant
    for _ in range(24):
        assistant.call("GET", "/rooms")
    assistant.call("POST", "/rooms/meeting/enter")
    assert len(scene.events("approval.given", known["CLIENT_ID"])) == 1


def test_home_and_badge_with_a_day_of_life(scene: Scene, picture: Take) -> None:
    known = of_the_demo(scene.stack, "matts-assistant")["CLIENT_ID"]
    scene.ada.open("/t/acme/")
    expect(scene.ada.page.get_by_role("row").filter(has_text="Matt's assistant")).to_contain_text("calls")
    picture(scene.ada, "home", 1180)  # as far as the log and what needs someone
    scene.ada.open(f"/t/acme/agents/{known}/")
    expect(scene.ada.page.locator("#calls tbody tr").first).to_be_visible()
    picture(scene.ada, "agent")


def test_matt_sees_what_it_did_for_him_and_what_a_revocation_ended(scene: Scene, picture: Take) -> None:
    matt, page, mate = scene.matt, scene.matt.page, scene.programs[MATE]
    watching = Watching(mate)
    assert watching.opened.wait(15)
    matt.open("/t/acme/my/agents/")
    picture(matt, "my-agents")
    badge = page.locator(".rack li").filter(has_text=MATE)
    badge.get_by_role("link", name=re.compile("^See what it did")).click()
    for done in ("entered the meeting room", "tried to enter the finance department", "saw rooms"):
        expect(page.locator(".did")).to_contain_text(done, ignore_case=True)
    expect(page.locator(".did")).not_to_contain_text("Matt's assistant")
    page.go_back()
    badge.get_by_role("button", name=re.compile("^Revoke")).click()
    told = page.locator("#stopped")
    expect(told).to_contain_text(f"{MATE} stopped")
    expect(told).to_contain_text("1 stream ended")
    assert watching.ended.wait(5)
    assert mate.call("GET", "/rooms").status_code == 401
    expect(badge.locator(".stamp")).to_contain_text("Void")
    expect(badge.get_by_role("button", name=re.compile("^Revoke"))).to_have_count(0)
    matt.open("/t/acme/my/agents/ended/")
    expect(page.locator(".rack")).to_contain_text(MATE)
    assert scene.events("grant.revoked", scene.agents[MATE])


class Watching(threading.Thread):
    """Holds a stream open until somebody ends it."""

    def __init__(self, program: Asking) -> None:
        super().__init__(daemon=True)
        self.program, self.opened, self.ended = program, threading.Event(), threading.Event()
        self.start()

    def run(self) -> None:
        headers = {"Authorization": f"Bearer {self.program.tokens['access_token']}"}
        with httpx2.stream("GET", f"{self.program.resource}/stream", headers=headers, timeout=30) as stream:
            try:
                for _ in stream.iter_bytes():
                    self.opened.set()
            except httpx2.HTTPError:
                pass
        self.ended.set()


def test_ada_stops_an_agent_with_one_button_and_lets_it_back(scene: Scene) -> None:
    ada, page, assistant = scene.ada, scene.ada.page, scene.programs["assistant"]
    ada.open("/t/acme/")
    page.get_by_role("row").filter(has_text="Matt's assistant").get_by_role("link", name="Stop").click()
    expect(page.locator("main")).to_contain_text("loses its way in within a second")
    page.fill("#reason", "It walks around at night")
    ada.press("Stop it now")
    expect(page.locator("#stopped")).to_contain_text("Matt's assistant is stopped since")
    expect(page.locator("#stopped")).to_contain_text(re.compile(r"[1-9]\d* tokens? ended"))
    assert assistant.call("GET", "/rooms").status_code in (401, 403)
    expect(page.locator(".agent-badge .stamp")).to_contain_text("Suspended", ignore_case=True)
    page.locator("#stopped").get_by_role("button", name="Let back in").click()
    expect(page.locator(".agent-badge .stamp")).to_contain_text("Active", ignore_case=True)
    assert assistant.call("GET", "/rooms").status_code == 401, "tokens from before the stop stay void"
    known = assistant.client_id
    assert scene.events("agent.suspended", known) and scene.events("agent.let_back", known)


def test_cora_finds_the_refusal_and_its_proof(scene: Scene, picture: Take) -> None:
    cora, page = scene.cora, scene.cora.page
    cora.open("/t/acme/audit/")
    picture(cora, "record")
    page.get_by_role("textbox", name="Search the record").fill(f'agent:"{MATE}" scope:"finance:enter"')
    page.keyboard.press("Enter")
    expect(page.locator("#events > li")).to_have_count(1)
    expect(page.locator("#events > li")).to_contain_text("Tried to enter the finance department")
    expect(page.locator(".token")).to_have_count(2)
    page.locator("#events .ev-what a").click()
    proof = page.locator(".proof")
    expect(proof.locator("li")).to_have_count(4)
    expect(proof.locator("li[data-broken]")).to_have_count(0)
    with cora.downloading() as saved:
        cora.follow("Proof file")
    assert b"checkpoint" in saved().read_bytes()


@pytest.mark.parametrize("kind", ["CSV", "JSON lines"])
def test_cora_exports_watches_downloads_and_verifies(scene: Scene, picture: Take, kind: str) -> None:
    cora, page = scene.cora, scene.cora.page
    cora.open("/t/acme/audit/")
    cora.follow("Export evidence")
    page.locator("#order").get_by_text(kind, exact=True).click()
    cora.press("Export")
    page.wait_for_url(re.compile(r"/exports/[0-9a-f-]{36}/"))
    expect(page.locator("#evidence")).to_be_visible(timeout=30_000)  # it follows the worker by itself
    picture(cora, "export")
    with cora.downloading() as saved:
        cora.follow("Download")
    bundle = saved()
    verify = [sys.executable, "manage.py", "verify", str(bundle)]
    said = subprocess.run(verify, capture_output=True, text=True, env=scene.stack.environ, check=False)
    assert said.returncode == 0 and "intact" in said.stdout.lower(), said.stdout + said.stderr
    cora.open("/t/acme/audit/exports/")
    expect(page.locator("tbody tr").first).to_contain_text("Cora Berg")
    assert scene.stack.sql("SELECT 1 FROM audit_event WHERE action = 'export.downloaded'")


def test_cora_has_no_button_that_changes_anything(scene: Scene) -> None:
    may = {"/account/logout/", "/appearance/", "/t/acme/audit/exports/new/"}
    cora, agent = scene.cora, scene.agents[MATE]
    for path in (
        "",
        "agents/",
        f"agents/{agent}/",
        "audit/",
        "audit/?q=decision:refuse",
        "audit/exports/",
        "my/agents/",
    ):
        assert cora.open(f"/t/acme/{path}").status == 200, path
        posts = cora.page.locator("form[method=post]").evaluate_all(
            "all => all.map(form => form.getAttribute('action'))"
        )
        posts = [one for one in posts if one]
        assert set(posts) <= may, path
        assert cora.page.get_by_role("link", name=re.compile("^(Stop|Register|Change|Rotate)")).count() == 0, path
    for path in (f"agents/{agent}/stop/", "agents/new/", "resources/new/api/", "members/invite/"):
        assert cora.open(f"/t/acme/{path}").status == 403, path
        expect(cora.page.locator("h1")).to_be_visible()


@pytest.mark.timeout(300)
def test_every_page_is_right_by_day_and_night_and_at_every_width(scene: Scene) -> None:
    """Whatever can be reached by following links, one page of each kind."""
    # Signing out is no look; the second factor and passwords are looked at where they are tested
    seen = {"/", "/account/logout/", "/account/2fa/", "/account/password/change/", "/api/v1/docs/"}
    scene.matt.open(scene.programs[MATE].address())
    scene.matt.look()  # the consent page
    starts = {
        "ada": ["/t/acme/", "/t/acme/resources/annex/"],
        "matt": ["/t/acme/my/agents/", "/t/acme/my/inbox/", "/t/acme/nowhere/", "/t/acme/agents/new/"],
        "cora": ["/t/acme/audit/", "/t/acme/"],
    }
    for name, paths in starts.items():
        eyes: Eyes = getattr(scene, name)
        todo = list(paths)
        while todo:
            path = todo.pop(0)
            if (kind := kind_of(path)) in seen and path not in paths:
                continue
            seen.add(kind)
            eyes.look(path)
            links = eyes.page.locator("a[href]:not([download])").evaluate_all("all => all.map(link => link.href)")
            todo += [found for found in map(inside(eyes.base_url), links) if found and kind_of(found) not in seen]
    assert len(seen) > 35, sorted(seen)


def inside(base_url: str) -> Any:
    """The path and query of a link that leads to a page of the console."""

    def path(url: str) -> str:
        parts = urlsplit(url)
        ours = url.startswith(base_url) and not re.search(r"\.(csv|zip|json)$|/oauth/", parts.path)
        return (parts.path + (f"?{parts.query}" if parts.query else "")) if ours else ""

    return path


def kind_of(path: str) -> str:
    """Links that lead to the same kind of page: ids and names of things left out."""
    parts = urlsplit(path)
    shape = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "*", parts.path)
    shape = re.sub(r"/resources/(?!new/)[a-z0-9-]+/", "/resources/*/", shape)
    if parts.path.endswith("/audit/"):
        return shape + ("?open" if "open=" in parts.query else "")
    asked = sorted(part.partition("=")[0] for part in parts.query.split("&") if part)
    return shape + ("?" + "&".join(asked) if asked else "")
