"""Every address of the product, tried by everybody who has no business there. A new one is in it by itself."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import pytest
from django.urls import get_resolver

from agentauth.agents.registering import add_secret
from audit.models import Event
from tenants.rls import set_tenant
from tests import cast
from tests.api.tokens import robot
from tests.attacks.test_text_that_is_none import NOBODY, paths
from tests.cast import House
from tests.oauth.provider import Provider

pytestmark = pytest.mark.django_db

CONVERTER = re.compile(r"<(\w+):(\w+)>")
# What a plain member may open; all else of an organisation's pages is for other roles, or is none of theirs
A_MEMBERS = (
    "",  # home
    "resources/",
    "resources/<slug:slug>/",
    "join/<str:token>/",
    "my/",
)
# What an auditor may open besides, and ask for: reading, and evidence
AN_AUDITORS = (
    "door/",
    "agents/",
    "agents/<uuid:agent_id>/",
    "agents/<uuid:agent_id>/ended/",
    "members/",
    "audit/",
)


def tails() -> list[str]:
    """Every page of an organisation, as the map has it, without `t/<slug:tenant>/`."""
    found = ["".join(str(part) for part in route) for route in paths(get_resolver().url_patterns)]
    return [route.removeprefix("t/<slug:tenant>/") for route in found if route.startswith("t/<slug:tenant>/")]


def filled(tail: str, ids: dict[str, Any]) -> str:
    return CONVERTER.sub(lambda one: str(ids.get(one[2], {"uuid": NOBODY}.get(one[1], "none"))), tail)


def is_among(tail: str, opened: tuple[str, ...]) -> bool:
    prefixes = ("my/", "audit/")
    return tail in opened or any(tail.startswith(one) for one in prefixes if one in opened)


@pytest.mark.parametrize("role", ["matt", "cora"])
def test_a_page_opens_only_to_the_roles_that_it_is_for(role: str) -> None:
    house = cast.acme()
    browser = cast.signed_in(house.members[role])
    opened = A_MEMBERS if role == "matt" else A_MEMBERS + AN_AUDITORS
    closed = [tail for tail in tails() if not is_among(tail, opened)]
    assert len(closed) > 40
    before = Event.objects.filter(tenant=house.tenant).count()
    for tail in closed:
        path = f"/t/acme/{filled(tail, {'slug': 'office'})}"
        said = {browser.get(path).status_code, browser.post(path).status_code}
        assert said <= {403, 405} and 403 in said, (path, said)
    assert Event.objects.filter(tenant=house.tenant).count() == before


def things_of(house: House) -> dict[str, Any]:
    """One of everything that has an address, by the name that the map gives it."""
    set_tenant(house.tenant.id)
    agent = cast.assistant(house)
    grant = cast.matts_grant(house, agent)
    credential, _ = add_secret(agent, by=house.owner)
    issuer = Provider().trusted_by(house)
    event = house.events()[0]
    return {
        "agent_id": agent.id, "agent": agent.id, "grant_id": grant.id, "grant": grant.id, "slug": "office",
        "credential_id": credential.id, "credential": credential.id, "issuer_id": issuer.id, "issuer": issuer.id,
        "member_id": house.members["matt"].id, "event_id": event.id, "event": event.id, "resource": house.office.id,
    }  # fmt: skip


def trace(house: House, *, but: str = "") -> list[UUID]:
    """What is on record there."""
    return [event.id for event in house.events() if event.action != but]


def test_nothing_of_one_organisation_has_an_address_in_another() -> None:
    """Gus is the owner of Globex, so no page there is closed to him: what counts is only whose thing it is."""
    globex, acme = cast.globex(), cast.acme()
    gus, theirs = cast.signed_in(globex.owner), things_of(acme)
    before, tried = trace(acme), 0
    for tail in tails():
        if filled(tail, theirs) == filled(tail, {}):
            continue
        tried += 1
        path = f"/t/globex/{filled(tail, theirs)}"
        for answer in (gus.get(path), gus.post(path, {"sure": "yes", "reason": "x", "role": "member"})):
            says_nothing = answer.status_code == 200 and not answer.content.strip()
            assert says_nothing or answer.status_code in (404, 405), (path, answer.status_code)
    assert tried > 30
    assert trace(acme) == before


def test_nothing_of_one_organisation_can_be_reached_with_anothers_token() -> None:
    globex, acme = cast.globex(), cast.acme()
    theirs = things_of(acme)
    before, tried = trace(acme), 0
    set_tenant(globex.tenant.id)
    api = robot(globex)
    root = "api/v1/tenants/<slug:tenant>/"
    routes = ["".join(str(part) for part in route) for route in paths(get_resolver().url_patterns)]
    for noun in [route.removeprefix(root) for route in routes if route.startswith(root)]:
        for method in ("get", "post", "patch", "put", "delete"):
            ask = getattr(api.client, method)
            if filled(noun, theirs) != filled(noun, {}):
                tried += 1
                answer = ask(f"{api.root}/{filled(noun, theirs)}", content_type="application/json")
                refused = (404, 405) if method == "get" else (403, 404, 405, 422)
                assert answer.status_code in refused, (method, noun, answer.status_code)
            answer = ask(f"/api/v1/tenants/acme/{filled(noun, theirs)}", content_type="application/json")
            assert answer.status_code in (401, 405), (method, noun, answer.status_code)
    assert tried > 50
    assert trace(acme, but="call.refused") == before
