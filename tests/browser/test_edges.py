"""What goes wrong, and what somebody tries: pages that are not there, not theirs, or named by an attacker."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import transaction
from django.utils.timezone import now
from playwright.sync_api import Browser, expect
from pytest_django.live_server_helper import LiveServer

from agentauth.grants.granting import give
from agentauth.resources.models import Operation, Resource
from tests import cast
from tests.browser.eyes import Eyes
from tests.console.test_home import a_call

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
HOSTILE = "<img src=/x onerror=document.title='owned'>"
TOOL = "<script>document.title='owned'</script><style>*{display:none}</style>Reads a file"


@pytest.fixture
def eyes(chromium: Browser, live_server: LiveServer) -> Iterator[Eyes]:
    one = Eyes(chromium, live_server.url)
    yield one
    one.context.close()
    assert not one.found, "\n".join(one.found)


def test_the_skip_link_leads_past_the_navigation(eyes: Eyes) -> None:
    with transaction.atomic():
        acme = cast.acme()
    eyes.enter(cast.signed_in(acme.owner)).open("/t/acme/agents/")
    page = eyes.page
    page.keyboard.press("Tab")
    expect(page.locator("a.skip")).to_be_focused()
    expect(page.locator("a.skip")).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")


def test_a_page_that_is_not_there_looks_the_same_as_one_of_others(eyes: Eyes) -> None:
    with transaction.atomic():
        globex = cast.globex()
    with transaction.atomic():
        acme = cast.acme()
    eyes.enter(cast.signed_in(acme.members["matt"]))
    said = []
    for path in ("/t/globex/", "/t/nobody/", "/t/acme/nothing/"):
        assert eyes.open(path).status == 404
        said.append(eyes.page.locator("main").inner_text())
    assert len(set(said)) == 1 and globex.tenant.name not in said[0]
    eyes.look()


def test_a_page_for_others_says_so(eyes: Eyes) -> None:
    with transaction.atomic():
        acme = cast.acme()
    eyes.enter(cast.signed_in(acme.members["matt"]))
    for path in ("agents/new/", "audit/", "resources/", "members/invite/"):
        assert eyes.open(f"/t/acme/{path}").status == 403, path
        expect(eyes.page.locator("h1")).to_be_visible()
    eyes.look()


def test_markup_in_names_and_descriptions_is_shown_as_text(eyes: Eyes) -> None:
    with transaction.atomic():
        acme = cast.acme()
        ada = acme.owner
        agent = cast.assistant(acme, name=HOSTILE, purpose=HOSTILE)
        tools = Resource.objects.create(
            tenant=acme.tenant,
            slug="files",
            name=HOSTILE,
            kind="mcp",
            state="published",
            published_at=now(),
            upstream_url="http://localhost:9/mcp",
            created_by=ada,
            description=TOOL,
        )
        Operation.objects.create(tenant=acme.tenant, resource=tools, key=HOSTILE, tool=HOSTILE, summary=TOOL)
        scope = acme.scope("meeting:enter")
        scope.words = HOSTILE
        scope.save()
        end = now() + timedelta(days=3)
        grant = give(
            agent=agent,
            resource=acme.office,
            member=ada,
            by=ada,
            permissions={scope: "always"},
            expires_at=end,
            purpose=HOSTILE,
        )
        a_call(acme, agent, grant)
    eyes.enter(cast.signed_in(ada))
    pages = ["", "agents/", f"agents/{agent.id}/", "resources/", "resources/files/", "my/agents/", "my/did/", "audit/"]
    pages += [f"my/agents/{grant.id}/narrow/", f"agents/{agent.id}/stop/", "my/agents/new/", "agents/new/"]
    for path in pages:
        assert eyes.open(f"/t/acme/{path}").status == 200, path
        assert "onerror=document.title" in eyes.page.content() and "<img src=/x" not in eyes.page.content(), path
        assert eyes.page.locator("img, main script, main style").count() == 0, path
        assert "owned" not in eyes.page.title().replace(HOSTILE, ""), path
        expect(eyes.page.locator("h1").first).to_be_visible()
    eyes.open("/t/acme/resources/files/")
    expect(eyes.page.locator("main")).to_contain_text("<script>document.title='owned'</script>")
    eyes.look()
