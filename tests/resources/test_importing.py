"""From what a server offers to a published resource: each step recorded, each refusal at its field."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from agentauth import settings
from agentauth.agents.models import WrongState
from agentauth.keys import ring
from agentauth.outbound.crowd import OUTSIDE, place_outside
from agentauth.resources import importing, mcp_tools, publishing
from agentauth.resources.models import CatalogueEntry, Resource
from agentauth.resources.publishing import ScopeWords
from agentauth.resources.upstream import headers_for, set_address, set_credential, upstream_headers
from audit.models import Event
from audit.record import Actor
from tenants.models import Tenant
from tenants.rls import set_tenant
from tests.cast import House, acme, globex

pytestmark = pytest.mark.django_db

SECRET = "s3cret-of-the-upstream"
DOCUMENT = json.dumps(
    {
        "openapi": "3.1.0",
        "info": {"title": "Pets"},
        "paths": {"/pets": {"get": {}, "post": {}}, "/pets/{id}": {"get": {}, "delete": {}}},
    }
)
TOOLS: list[dict[str, Any]] = [{"name": "list_notes", "description": "All."}, {"name": "delete_note"}]
URL = "http://localhost:8002"


@pytest.fixture
def house() -> House:
    return acme()


def api(house: House, **changes: Any) -> Resource:
    fields: dict[str, Any] = {
        "slug": "pets",
        "name": "Pets",
        "kind": "rest",
        "upstream_url": f"{URL}/",
        "draft": importing.read_openapi(DOCUMENT),
        "source": "pasted",
    }
    return importing.register_resource(house.tenant, by=house.owner, **(fields | changes))


def notes(house: House, tools: list[dict[str, Any]] = TOOLS) -> Resource:
    draft = mcp_tools.draft_of(f"{URL}/mcp", {"name": "notes"}, tools)
    return importing.register_resource(
        house.tenant, by=house.owner, slug="notes", name="Notes", kind="mcp", upstream_url=f"{URL}/mcp", draft=draft
    )


def mapping(resource: Resource) -> dict[str, str | None]:
    return {o.key: o.scope.name if o.scope else None for o in resource.operations.select_related("scope")}


def test_a_resource_starts_as_a_draft_with_suggested_scopes(house: House):
    resource = api(house)
    assert (resource.state, resource.upstream_url, resource.source) == ("draft", URL, "pasted")
    assert mapping(resource) == {
        "GET /pets": "pets:read",
        "GET /pets/{id}": "pets:read",
        "POST /pets": "pets:add",
        "DELETE /pets/{id}": "pets:delete",
    }
    event = house.events("resource.registered")[-1]
    assert (event.resource_id, event.actor, event.details["operations"]) == (resource.id, str(house.owner.id), 4)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"slug": ""}, "slug"),
        ({"slug": "Pets!"}, "slug"),
        ({"slug": "office"}, "slug"),
        ({"slug": "agentauth"}, "slug"),
        ({"name": " \u200b "}, "name"),
        ({"kind": "management"}, "kind"),
        ({"kind": "mcp"}, "kind"),
        ({"upstream_url": ""}, "upstream_url"),
        ({"upstream_url": "ftp://x.example"}, "upstream_url"),
        ({"upstream_url": "https://user:pw@x.example"}, "upstream_url"),
        ({"upstream_url": "https://x.example?key=1"}, "upstream_url"),
        ({"upstream_url": "https://x.example/a/../b"}, "upstream_url"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_kept(house: House, changes: dict[str, Any], field: str):
    before = Resource.objects.count()
    with pytest.raises(ValidationError) as wrong:
        api(house, **changes)
    assert list(wrong.value.message_dict) == [field]
    assert Resource.objects.count() == before and len(house.events("resource.registered")) == 1  # AgentAuth's own


def test_two_tenants_may_use_the_same_short_name(house: House):
    api(house)
    other = globex()
    assert api(other).slug == "pets"


def test_a_credential_is_sealed_for_its_row_and_never_on_record(house: House):
    resource = api(house)
    set_credential(resource, by=house.owner, auth="bearer", secret=SECRET)
    resource.refresh_from_db()
    assert resource.sealed_credential is not None and SECRET.encode() not in bytes(resource.sealed_credential)
    assert upstream_headers(resource) == {"Authorization": f"Bearer {SECRET}"}
    assert SECRET not in "".join(event.body for event in house.events())
    assert house.events("resource.changed")[-1].details == {"credential": "bearer"}
    other = notes(house)
    other.upstream_auth, other.sealed_credential = "bearer", resource.sealed_credential
    with pytest.raises(ring.RingError):
        upstream_headers(other)


@pytest.mark.parametrize(
    ("auth", "header", "expected"),
    [
        ("none", "", {}),
        ("bearer", "", {"Authorization": f"Bearer {SECRET}"}),
        ("header", "X-Api-Key", {"X-Api-Key": SECRET}),
        ("basic", "ada", {"Authorization": "Basic YWRhOnMzY3JldC1vZi10aGUtdXBzdHJlYW0="}),
    ],
)
def test_a_credential_goes_into_its_header(auth: str, header: str, expected: dict[str, str]):
    assert headers_for(auth, header, SECRET) == expected


@pytest.mark.parametrize(
    ("auth", "header", "secret", "field"),
    [
        ("bearer", "", "", "secret"),
        ("bearer", "", "a\r\nX-Evil: 1", "secret"),
        ("bearer", "", "a\nb", "secret"),
        ("bearer", "", " a", "secret"),
        ("bearer", "", "schlüssel", "secret"),
        ("bearer", "", "x" * 9000, "secret"),
        ("header", "", "a", "header"),
        ("header", "X Y", "a", "header"),
        ("header", "X-A\r\nHost", "a", "header"),
        ("header", "Host", "a", "header"),
        ("header", "transfer-encoding", "a", "header"),
        ("header", "AgentAuth-Assertion", "a", "header"),
        ("header", "X-Forwarded-For", "a", "header"),
        ("header", "Mcp-Session-Id", "a", "header"),
        ("basic", "", "a", "header"),
        ("basic", "a:b", "a", "header"),
        ("oauth", "", "a", "auth"),
    ],
)
def test_a_credential_that_could_do_harm_is_refused(auth: str, header: str, secret: str, field: str):
    with pytest.raises(ValidationError) as wrong:
        headers_for(auth, header, secret)
    assert list(wrong.value.message_dict) == [field]
    assert secret == "" or len(secret) < 3 or secret not in str(wrong.value)


def test_a_credential_does_not_follow_its_resource_to_another_server(house: House):
    resource = api(house)
    set_credential(resource, by=house.owner, auth="bearer", secret=SECRET)
    assert set_address(resource, by=house.owner, upstream_url=f"{URL}/v2") is False
    assert upstream_headers(resource)
    assert set_address(resource, by=house.owner, upstream_url="https://other.example") is True
    resource.refresh_from_db()
    assert (upstream_headers(resource), resource.sealed_credential, resource.upstream_auth) == ({}, None, "none")
    assert house.events("resource.changed")[-1].details == {
        "upstream_url": "https://other.example",
        "was": f"{URL}/v2",
        "credential": "dropped",
    }


def test_scopes_are_renamed_reclassed_and_remapped_on_record(house: House):
    resource = api(house)
    publishing.edit_scopes(
        resource,
        by=house.owner,
        scopes={"pets:read": ScopeWords("See our pets", "read"), "pets:keep": ScopeWords("Keep pets", "dangerous")},
        operations={"POST /pets": "pets:keep", "DELETE /pets/{id}": None},
    )
    assert mapping(resource) == {
        "GET /pets": "pets:read",
        "GET /pets/{id}": "pets:read",
        "POST /pets": "pets:keep",
        "DELETE /pets/{id}": None,
    }
    assert dict(resource.scopes.values_list("name", "words")) == {
        "pets:read": "See our pets",
        "pets:keep": "Keep pets",
    }
    details = house.events("resource.changed")[-1].details
    assert details["operations"] == {"POST /pets": "pets:keep", "DELETE /pets/{id}": None}
    publishing.edit_scopes(resource, by=house.owner, operations={"POST /pets": "pets:keep"})
    assert len(house.events("resource.changed")) == 1  # nothing changed, nothing to tell


@pytest.mark.parametrize(
    ("scopes", "operations", "key"),
    [
        ({"pets:read": ScopeWords("", "read")}, {}, "scope:pets:read"),
        ({"pets:read": ScopeWords("x" * 121, "read")}, {}, "scope:pets:read"),
        ({"pets:read": ScopeWords("See \u202epets", "read")}, {}, "scope:pets:read"),
        ({"pets:read": ScopeWords("See pets", "harmless")}, {}, "scope:pets:read"),
        ({"pets read": ScopeWords("See pets", "read")}, {}, "scope:pets read"),
        ({}, {"GET /cats": "pets:read"}, "operation:GET /cats"),
        ({}, {"GET /pets": "rooms:read"}, "operation:GET /pets"),
        ({f"s{at}": ScopeWords("S", "read") for at in range(200)}, {}, "scopes"),
    ],
)
def test_an_edit_that_makes_no_sense_is_refused_whole(house: House, scopes: Any, operations: Any, key: str):
    resource = api(house)
    before = mapping(resource)
    with pytest.raises(ValidationError) as wrong:
        publishing.edit_scopes(resource, by=house.owner, scopes=scopes, operations=operations)
    assert list(wrong.value.message_dict) == [key]
    assert mapping(resource) == before and not house.events("resource.changed")


def test_publishing_opens_it_on_record(house: House):
    resource = api(house)
    publishing.publish(resource, by=house.owner)
    resource.refresh_from_db()
    assert resource.state == "published" and resource.published_at is not None
    opened = house.events("resource.published")[-1].details["scopes"]
    assert opened["pets:delete"] == {"risk": "dangerous", "operations": ["DELETE /pets/{id}"]}
    with pytest.raises(WrongState):
        publishing.publish(resource, by=house.owner)


def test_scopes_of_what_was_published_stay_when_they_hold_nothing(house: House):
    resource = api(house)
    publishing.publish(resource, by=house.owner)
    publishing.edit_scopes(resource, by=house.owner, operations={"POST /pets": None})
    assert resource.scopes.filter(name="pets:add").exists()


def test_nothing_to_call_is_not_published(house: House):
    resource = api(house)
    publishing.edit_scopes(resource, by=house.owner, operations=dict.fromkeys(mapping(resource)))
    with pytest.raises(ValidationError, match="at least one operation"):
        publishing.publish(resource, by=house.owner)
    assert not house.events("resource.published")


def test_a_server_inside_is_not_published(house: House, monkeypatch: pytest.MonkeyPatch):
    resource = api(house)
    monkeypatch.setattr(settings.KNOBS, "office_url", "http://localhost:9999")
    with pytest.raises(ValidationError) as wrong:
        publishing.publish(resource, by=house.owner)
    assert "this machine" in wrong.value.message_dict["upstream_url"][0]
    assert Resource.objects.get(pk=resource.pk).state == "draft"


def test_a_name_that_takes_long_to_resolve_holds_up_few(house: House):
    resource = api(house)
    with ExitStack() as out:
        for _ in range(OUTSIDE):
            assert out.enter_context(place_outside())
        with pytest.raises(ValidationError, match="Too many others"):
            publishing.publish(resource, by=house.owner)
    assert Resource.objects.get(pk=resource.pk).state == "draft" and not house.events("resource.published")


def test_retiring_is_for_good_and_forgets_the_credential(house: House):
    resource = api(house)
    set_credential(resource, by=house.owner, auth="bearer", secret=SECRET)
    publishing.publish(resource, by=house.owner)
    publishing.retire(resource, by=house.owner)
    resource.refresh_from_db()
    assert (resource.state, resource.sealed_credential) == ("retired", None)
    assert house.events("resource.retired")[-1].resource_id == resource.id
    for act in (
        lambda: publishing.retire(resource, by=house.owner),
        lambda: publishing.publish(resource, by=house.owner),
        lambda: publishing.edit_scopes(resource, by=house.owner),
        lambda: publishing.describe(resource, by=house.owner, name="x", description=""),
    ):
        with pytest.raises(WrongState):
            act()


def test_agentauths_own_api_cannot_be_retired(house: House):
    own = Resource.objects.get(tenant=house.tenant, kind="management")
    with pytest.raises(WrongState):
        publishing.retire(own, by=house.owner)


def test_a_changed_tool_is_held_until_an_admin_has_looked(house: House):
    resource = notes(house)
    publishing.publish(resource, by=house.owner)
    changed = [TOOLS[0] | {"description": "All, and mails them."}, {"name": "add_note"}]
    found = publishing.reread_tools(
        resource, by=Actor.task("reread"), draft=mcp_tools.draft_of(f"{URL}/mcp", {}, changed)
    )
    assert (found.changed, found.new, found.gone) == (["list_notes"], ["add_note"], ["delete_note"])
    assert mapping(resource)["add_note"] is None
    held = resource.operations.get(key="list_notes")
    assert held.changed_at is not None and held.summary == "All, and mails them."
    event = house.events("resource.tools_changed")[-1]
    assert (event.actor, event.details["changed"]) == ("reread", ["list_notes"])

    back = publishing.reread_tools(
        resource, by=house.owner, draft=mcp_tools.draft_of(f"{URL}/mcp", {}, [*TOOLS, {"name": "add_note"}])
    )
    assert back.changed == ["list_notes"]
    assert resource.operations.get(key="list_notes").changed_at is not None

    publishing.accept_changes(resource, by=house.owner, keys=["list_notes", "unknown"])
    assert resource.operations.get(key="list_notes").changed_at is None
    assert list(house.events("resource.changed")[-1].details["reviewed"]) == ["list_notes"]


def test_the_same_tools_again_are_no_event(house: House):
    resource = notes(house)
    again = mcp_tools.draft_of(f"{URL}/mcp", {}, TOOLS)
    assert publishing.reread_tools(resource, by=house.owner, draft=again) == publishing.Reread([], [], [])
    assert not house.events("resource.tools_changed")


def test_the_operators_offer_is_told_to_every_tenant_and_adopted_by_one(house: House):
    other = globex()
    entry = importing.offer(
        by=Actor("operator", "op"), slug="pets", name="Pets", kind="rest", upstream_url=URL, document=DOCUMENT
    )
    for each in (house, other):
        assert each.events("catalogue.offered")[-1].subject == str(entry.id)
    set_tenant(house.tenant.id)
    resource = importing.adopt(house.tenant, entry, by=house.owner)
    assert (resource.state, resource.adopted_from, resource.tenant) == ("draft", entry, house.tenant)
    set_tenant(other.tenant.id)
    assert not Resource.objects.filter(slug="pets").exists()

    importing.withdraw(entry, by=Actor("operator", "op"))
    set_tenant(other.tenant.id)
    with pytest.raises(ValidationError, match="no longer offered"):
        importing.adopt(other.tenant, entry, by=other.owner)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"document": "x"}, "document"),
        ({"kind": "x"}, "kind"),
        ({"slug": "Not A Slug"}, "slug"),
        ({"upstream_url": "file:///etc/passwd"}, "upstream_url"),
    ],
)
def test_an_offer_that_nobody_could_use_is_refused(house: House, changes: dict[str, Any], field: str):
    offer: dict[str, Any] = {"slug": "pets", "name": "Pets", "kind": "rest", "upstream_url": URL, "document": DOCUMENT}
    with pytest.raises(ValidationError) as wrong:
        importing.offer(by=Actor("operator", "op"), **(offer | changes))
    assert list(wrong.value.message_dict) == [field]
    assert not CatalogueEntry.objects.exists() and not Event.objects.filter(action="catalogue.offered").exists()
    assert Tenant.objects.count() == 1
