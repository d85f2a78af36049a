"""Every list with no row, one and a page full: nothing is lost, nothing runs out of the page, nobody is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256

import pytest
from django.db import transaction
from django.utils.timezone import now
from playwright.sync_api import Browser, expect
from pytest_django.live_server_helper import LiveServer

from agentauth.grants import approvals
from agentauth.grants.granting import give
from audit.models import Export
from tenants.founding import join
from tenants.models import Role
from tests import cast
from tests.browser.eyes import Eyes
from tests.console.test_home import a_call

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
BOOK = "POST /rooms/{room}/book"
# Where, one row of it, and what it says when there is none
LISTS = {
    "agents/": (".agents-list tbody tr", "No one has a badge yet"),
    "resources/": (".table tbody tr:not(:has-text('built in'))", "There is no door yet"),
    "members/": (".people tbody tr", ""),  # somebody is always there
    "my/agents/": (".rack > li", "Nobody acts for you yet"),
    "my/inbox/": (".rows.asked > li", "Nothing waits for you"),
    "audit/?q=scope:meeting:enter": ("#events > li", "Nothing on record fits this"),
    "audit/exports/": (".table tbody tr", "Nothing has been exported yet"),
}


@pytest.fixture
def ada(chromium: Browser, live_server: LiveServer) -> Iterator[Eyes]:
    eyes = Eyes(chromium, live_server.url)
    yield eyes
    eyes.context.close()
    assert not eyes.found, "\n".join(eyes.found)


def furnish(number: int) -> cast.House:
    """Acme with so many of everything, all of it Ada's."""
    with transaction.atomic():
        house = cast.globex("acme") if not number else cast.acme()
        me = house.owner
        for one in range(number):
            if one:
                cast.office(house, slug=f"annex-{one}")
            if one > 2:  # Ada, Matt and Cora are there
                name = "Bartholomew Featherstonehaugh-Cholmondeley the Younger" if one == 3 else f"Person {one}"
                join(house.tenant, email=f"p{one}@acme.example", name=name, role=Role.MEMBER, actor=cast.CAST)
            agent = cast.assistant(house, name=f"Assistant {one}")
            scopes = {house.scope("rooms:book"): "ask", house.scope("meeting:enter"): "always"}
            end = now() + timedelta(days=30)
            grant = give(agent=agent, resource=house.office, member=me, by=me, permissions=scopes, expires_at=end)
            said = {"room": f"room {one}"}
            approvals.ask(grant, operation=BOOK, args=said, args_hash=sha256(repr(said).encode()).hexdigest())
            a_call(house, agent, grant)
            period = {"since": now() - timedelta(days=one + 1), "until": now()}
            Export.objects.create(
                tenant=house.tenant, requested_by=me.id, state="failed", failure="disk full", **period
            )
    return house


@pytest.mark.parametrize("number", [0, 1, 25])
def test_every_list_holds_none_one_and_a_page_full(ada: Eyes, number: int) -> None:
    house = furnish(number)
    ada.enter(cast.signed_in(house.owner))
    for path, (row, empty) in LISTS.items():
        ada.open(f"/t/acme/{path}")
        rows = max(number, 1 if empty == "" and not number else 3) if path == "members/" else number
        expect(ada.page.locator(row)).to_have_count(rows)
        if not number and empty:
            expect(ada.page.locator("main")).to_contain_text(empty)
        ada.look() if number < 2 else ada.fits()  # more rows are more of the same markup
    ada.look("/t/acme/")
