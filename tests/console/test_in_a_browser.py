"""The console in a real browser: under its own policy, with and without JavaScript, for everybody."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from django.db import transaction
from playwright.sync_api import Browser, Page, sync_playwright

from agentauth.agents.models import Agent, Credential
from agentauth.grants.models import Grant
from tenants.rls import in_tenant
from tests import cast
from tests.console.test_home import a_call

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
PASSWORD = "correct horse battery"
WATCH = """window.broken = []; document.addEventListener("securitypolicyviolation",
  (event) => window.broken.push(`${event.violatedDirective} ${event.blockedURI}`))"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    # Playwright's loop runs in this thread, where the tests also ask the database
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    path = os.environ.get("AGENTAUTH_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@dataclass
class Scene:
    house: cast.House
    agent: Agent
    grant: Grant


@pytest.fixture
def scene() -> Scene:
    with transaction.atomic():
        acme = cast.acme()
        acme.owner.user.set_password(PASSWORD)
        acme.owner.user.save()
        agent = cast.assistant(acme)
        grant = cast.matts_grant(acme, agent)
        a_call(acme, agent, grant)
        a_call(acme, agent, grant, decision="refuse", reasons=["grant_says_never"], scope="finance:enter")
        Agent.objects.create(
            tenant=acme.tenant, name="Claude", kind="mcp", registration="document", client_id="https://c.example/m"
        )
    return Scene(acme, agent, grant)


def signed_in(browser: Browser, base: str, **context) -> Page:
    # Moving from page to page takes clicks for the time it lasts, which on a busy machine is long
    still = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"}
    page = browser.new_context(**(still | context)).new_page()
    page.goto(f"{base}/account/login/")
    page.fill("#id_login", "ada@acme.example")
    page.fill("#id_password", PASSWORD)
    page.click("button.main")
    page.wait_for_url(re.compile("/t/acme/$"))
    return page


def test_a_key_made_in_the_browser_leaves_only_its_public_half(chromium, live_server, scene):
    page = signed_in(chromium, live_server.url)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(f"{request.url} {request.post_data or ''}"))
    page.goto(f"{live_server.url}/t/acme/agents/new/")
    page.fill("#id_name", "Scout")
    page.fill("#id_purpose", "Compares offers")
    page.fill("#id_redirect_uris", "https://scout.example/cb")
    with page.expect_download() as download:
        page.click("form.register button.main")
    page.wait_for_url(re.compile(r"/agents/[0-9a-f-]{36}/"))
    private = load_pem_private_key(Path(str(download.value.path())).read_bytes(), password=None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    with in_tenant(scene.house.tenant.id):
        key = Credential.objects.get(tenant=scene.house.tenant, agent__name="Scout")
    from jwt.algorithms import ECAlgorithm

    public = ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
    assert key.public_jwk is not None and (key.public_jwk["x"], key.public_jwk["y"]) == (public["x"], public["y"])
    secret = ECAlgorithm.to_jwk(private, as_dict=True)["d"]
    assert len(sent) > 2 and not any(secret in one or "PRIVATE" in one for one in sent)


def test_what_happens_at_the_door_appears_by_itself(chromium, live_server, scene):
    page = signed_in(chromium, live_server.url)
    assert page.locator("#log li").count() == 2
    with in_tenant(scene.house.tenant.id):
        a_call(scene.house, scene.agent, scene.grant, scope="rooms:read")
    page.wait_for_selector("#log li.new")
    assert "saw rooms for Matt" in page.locator("#log li").first.inner_text()


def test_an_agent_is_stopped_without_javascript(chromium, live_server, scene):
    page = signed_in(chromium, live_server.url, java_script_enabled=False)
    page.click('tr:has-text("Matt\'s assistant") a.halt')
    page.fill("#reason", "Enough")
    page.click("button.sure")
    assert "is stopped" in page.locator("#stopped").inner_text()
    with in_tenant(scene.house.tenant.id):
        assert Agent.objects.get(id=scene.agent.id).state == "suspended"


def test_a_passkey_signs_in_alone_and_follows_a_password(chromium, live_server, scene):
    base = live_server.url.replace("127.0.0.1", "localhost")  # a passkey belongs to a name, not to a number
    page = signed_in(chromium, base)
    devices = page.context.new_cdp_session(page)
    devices.send("WebAuthn.enable")
    device = {"protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True}
    device |= {"isUserVerified": True, "automaticPresenceSimulation": True}
    devices.send("WebAuthn.addVirtualAuthenticator", {"options": device})
    page.goto(f"{base}/account/2fa/webauthn/add/")
    if "reauthenticate" in page.url:
        page.fill("#id_password", PASSWORD)
        page.click("button.main")
    page.fill("#id_name", "My laptop")
    page.check("#id_passwordless")
    page.click("#mfa_webauthn_add")
    page.wait_for_url(re.compile("/account/2fa/(?!webauthn/add)"))
    page.goto(f"{base}/account/logout/")
    page.click("main button.main")
    page.wait_for_url(re.compile("/account/login/"))
    page.click("#passkey_login")
    page.wait_for_url(re.compile("/t/acme/$"))
    page.goto(f"{base}/account/2fa/webauthn/")
    assert "My laptop" in page.locator("main").inner_text()
    page.goto(f"{base}/account/logout/")
    page.click("main button.main")
    page.fill("#id_login", "ada@acme.example")
    page.fill("#id_password", PASSWORD)
    page.click("button.main")
    page.wait_for_url(re.compile("/account/2fa/authenticate/"))
    page.click("#mfa_webauthn_authenticate")
    page.wait_for_url(re.compile("/t/acme/$"))


def test_no_page_breaks_its_policy_or_shuts_somebody_out(chromium, live_server, scene):
    """axe: WCAG 2.2 A and AA and its best practices; at desk and phone, by day and night; nothing scrolls sideways."""
    base, axe, found = live_server.url, Axe(), []
    agent = f"/t/acme/agents/{scene.agent.id}/"
    pages = ["/t/acme/", "/t/acme/agents/", agent, f"{agent}stop/", f"{agent}edit/", f"{agent}credentials/new/"]
    pages += ["/t/acme/agents/new/", "/account/2fa/", "/account/password/change/", "/nothing/"]
    for width, theme in ((1280, "light"), (360, "dark")):
        page = signed_in(chromium, base, color_scheme=theme, reduced_motion="reduce")
        page.set_viewport_size({"width": width, "height": 800})
        page.add_init_script(WATCH)
        for path in pages:
            page.goto(base + path)
            found += [(path, width, theme, one) for one in page.evaluate("window.broken")]
            if page.evaluate("document.documentElement.scrollWidth") > width:
                found.append((path, width, theme, "scrolls sideways"))
        loose = signed_in(chromium, base, color_scheme=theme, reduced_motion="reduce", bypass_csp=True)  # lets axe in
        loose.set_viewport_size({"width": width, "height": 800})
        for path in pages:
            loose.goto(base + path)
            result = axe.run(loose)
            assert len(result.response["passes"]) > 10
            found += [(path, width, theme, one["id"]) for one in result.response["violations"]]
    assert found == []
