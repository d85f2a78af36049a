"""NUL and broken UTF-8 anywhere in a request: a refusal, never a failure."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from audit.models import Event
from tests import cast

pytestmark = pytest.mark.django_db
NOBODY = "0192f3a0-0000-7000-8000-000000000000"
VALUES = {"uuid": NOBODY, "slug": "acme", "str": "acme", "issuer": "acme"}
EVIL = ("%00", "a%00b", "%ff%fe", "%ed%a0%80")


def paths(patterns: list[Any], before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every route as its parts: texts, and the converters between them."""
    found = []
    for one in patterns:
        here = (*before, one.pattern)
        if isinstance(one, URLResolver):
            found += paths(one.url_patterns, here)
        elif isinstance(one, URLPattern) and not str(one.pattern).startswith("^"):
            found.append(here)
    return found


def filled(route: tuple[Any, ...], evil: str) -> str:
    text = "/" + "".join(str(part) for part in route)
    for name, usual in VALUES.items():
        while f"<{name}:" in text:
            head, _, tail = text.partition(f"<{name}:")
            value = evil if name in ("str", "issuer") and evil else usual
            text = head + value + tail.partition(">")[2]
    return text


def answers(browser: Client, path: str) -> set[int]:
    return {getattr(browser, method)(path).status_code for method in ("get", "post")}


def test_no_address_fails_on_what_is_no_text() -> None:
    house = cast.acme()
    browsers = (Client(raise_request_exception=False), cast.signed_in(house.owner))
    browsers[1].raise_request_exception = False
    tried = 0
    for route in paths(get_resolver().url_patterns):
        for evil in EVIL:
            path = filled(route, evil)
            if "<" in path or path == filled(route, ""):
                continue
            for browser in browsers:
                tried += 1
                assert max(answers(browser, path)) < 500, path
    assert tried > 100


@pytest.mark.parametrize("where", ["/t/acme/agents/?q=%00", "/t/acme/my/agents/new/?q=a%00", "/t/acme/audit/?q=%00"])
def test_a_query_that_is_no_text_is_refused(where: str) -> None:
    browser = cast.signed_in(cast.acme().owner)
    assert browser.get(where).status_code == 400


def test_a_form_that_is_no_text_is_refused_and_changes_nothing() -> None:
    house = cast.acme()
    agent = cast.assistant(house)
    before = Event.objects.filter(tenant=house.tenant).count()
    answer = cast.signed_in(house.owner).post(f"/t/acme/agents/{agent.id}/suspend/", {"reason": "a\0b"})
    agent.refresh_from_db()
    assert (answer.status_code, agent.state) == (400, "active")
    assert Event.objects.filter(tenant=house.tenant).count() == before
