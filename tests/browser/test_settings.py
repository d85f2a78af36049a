"""What an admin decides about issuers, keys and ways in: each page as everybody sees it, and when it is wrong."""

from __future__ import annotations

from collections.abc import Iterator

import orjson
import pytest
from django.db import transaction
from django.utils.timezone import now
from playwright.sync_api import Browser, expect
from pytest_django.live_server_helper import LiveServer

from agentauth.agents.registering import add_key
from agentauth.agents.trusting import trust_issuer
from tenants.models import User
from tenants.rls import in_tenant
from tests import cast
from tests.browser.eyes import Eyes
from tests.oauth.provider import ACTIONS, Provider

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.timeout(180)]
LONG = "https://" + ".".join(["an-issuer-with-a-long-name"] * 5) + ".example/realms/acme"


@pytest.fixture
def house() -> cast.House:
    with transaction.atomic():
        return cast.acme()


@pytest.fixture(params=[True, False], ids=["scripts", "no scripts"])
def ada(
    request: pytest.FixtureRequest, chromium: Browser, live_server: LiveServer, house: cast.House
) -> Iterator[Eyes]:
    eyes = Eyes(chromium, live_server.url, java_script_enabled=request.param)
    yield eyes.enter(cast.signed_in(house.owner))
    eyes.context.close()
    assert not eyes.found, "\n".join(eyes.found)


def seen(eyes: Eyes, path: str = "") -> None:
    """By rules where scripts run (axe is one), else whether it fits."""
    if path:
        eyes.open(path)
    if eyes.page.evaluate("document.documentElement.dataset.script") == "on":
        eyes.look()
    else:
        eyes.fits()


def test_ada_trusts_an_issuer_reads_what_is_wrong_suspends_and_removes_it(ada: Eyes, house: cast.House) -> None:
    page = ada.page
    seen(ada, "/t/acme/settings/")
    ada.follow("Trusted issuers")
    seen(ada)
    expect(page.locator("main")).to_contain_text("Nobody yet")
    ada.follow("Trust an issuer")
    page.get_by_role("radio", name="I paste them").check()
    page.fill("#id_issuer", LONG)
    page.fill("#id_jwks", "nonsense")
    ada.press("Look at it and trust it")
    expect(page.locator("#problems")).to_contain_text("This is not JSON")
    assert page.input_value("#id_issuer") == LONG and page.input_value("#id_jwks") == "nonsense"
    seen(ada)
    page.fill("#id_name", "The long one")
    page.fill("#id_jwks", orjson.dumps(Provider().jwks).decode())
    ada.press("Look at it and trust it")
    expect(page.locator("h1")).to_have_text("The long one")
    seen(ada)
    ada.follow("Trusted issuers")
    seen(ada)
    page.get_by_role("button", name="Suspend The long one").click()
    expect(page.locator("main")).to_contain_text("nothing that it says counts")
    seen(ada)
    ada.follow("Remove")
    seen(ada)
    ada.press("Remove The long one")
    expect(page.locator("main")).to_contain_text("Nobody yet")


def test_ada_reads_whom_it_lets_in_before_a_workload_counts(ada: Eyes, house: cast.House) -> None:
    page = ada.page
    with in_tenant(house.tenant.id):
        agent = cast.assistant(house)
    seen(ada, f"/t/acme/agents/{agent.id}/workload/new/")
    expect(page.get_by_role("link", name="Trust GitHub Actions")).to_be_visible()
    with in_tenant(house.tenant.id):
        trust_issuer(
            house.tenant,
            by=house.owner,
            kind="workload",
            name="GitHub Actions",
            issuer=ACTIONS,
            keys_from="pasted",
            jwks=Provider().jwks,
        )
    ada.open(f"/t/acme/agents/{agent.id}/workload/new/")
    ada.press("Show whom it lets in")
    expect(page.locator("#problems")).to_contain_text("Repository")
    seen(ada)
    page.fill("[name=repository]", "acme/app")
    ada.press("Show whom it lets in")
    expect(page.get_by_role("status")).to_contain_text("repository is acme/app")
    seen(ada)
    ada.press("Let it in")
    expect(page.locator("#credentials")).to_contain_text("Where it runs")
    seen(ada)
    seen(ada, f"/t/acme/agents/{agent.id}/workload/new/?at=other")
    seen(ada, f"/t/acme/agents/{agent.id}/ways/")


def test_an_agent_of_high_assurance_is_offered_keys_alone(ada: Eyes, house: cast.House) -> None:
    page, [jwk] = ada.page, Provider().jwks["keys"][:1]
    with in_tenant(house.tenant.id):
        agent = cast.assistant(house)
        agent.token_endpoint_auth_method = "private_key_jwt"
        agent.save(update_fields=["token_endpoint_auth_method"])
        add_key(agent, jwk, by=house.owner)
    here = f"/t/acme/agents/{agent.id}/"
    seen(ada, f"{here}credentials/new/")
    expect(page.get_by_role("radio", name="A secret")).to_have_count(1)
    expect(page.get_by_label("High assurance")).to_have_count(0)  # said of the agent, not of one key
    ada.open(here)
    ada.press("Require it")
    expect(page.locator("#assurance")).to_contain_text("Required")
    seen(ada)
    seen(ada, f"{here}credentials/new/")
    expect(page.get_by_role("heading", level=1)).to_have_text("A new key")
    expect(page.get_by_role("radio", name="A secret")).to_have_count(0)


def test_ada_makes_keys_and_withdraws_them(ada: Eyes, house: cast.House) -> None:
    ada.open("/t/acme/settings/keys/")
    ada.press("Make a new key now")
    ada.press("Make a new key now")
    expect(ada.page.locator("tbody tr")).to_have_count(3)
    seen(ada)
    ada.follow("Withdraw the keys")
    seen(ada)
    ada.press("Withdraw them now")
    expect(ada.page.locator("tbody tr")).to_have_count(1)


def test_what_a_resource_takes_and_gives_its_own_server(ada: Eyes, house: cast.House) -> None:
    ada.open("/t/acme/resources/office/")
    ada.press("Let this API check tokens itself")
    expect(ada.page.get_by_role("heading", level=1)).to_have_text("Its secret, this once")
    seen(ada)
    ada.follow("I have it, go on")
    seen(ada)
    seen(ada, "/t/acme/resources/office/sign-in/")
    ada.page.get_by_text("Dangerous calls", exact=True).click()
    ada.press("Save")
    expect(ada.page.locator("main")).to_contain_text("second factor")


def test_an_operator_reads_what_moving_an_issuer_ends(
    chromium: Browser, live_server: LiveServer, house: cast.House
) -> None:
    User.objects.filter(id=house.owner.user_id).update(operator_since=now())
    olga = Eyes(chromium, live_server.url).enter(cast.signed_in(house.owner))
    olga.look(f"/operator/tenants/{house.tenant.id}/")
    olga.look(f"/operator/tenants/{house.tenant.id}/issuer/")
    olga.page.get_by_label("Host of its own").fill("not a host")
    olga.press("Move it")
    olga.look()
    olga.context.close()
    assert not olga.found, "\n".join(olga.found)
