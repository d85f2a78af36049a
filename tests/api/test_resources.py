"""Resources over REST: read a document, say what is risky, publish; the upstream's credential is never seen again."""

import json
from typing import Any

import pytest

from agentauth.resources.models import Resource
from tenants.rls import set_tenant
from tests import cast
from tests.api.test_authentication import refused
from tests.api.tokens import robot

pytestmark = pytest.mark.django_db
DOCUMENT = json.dumps(
    {
        "openapi": "3.1.0",
        "info": {"title": "Rooms", "version": "1"},
        "servers": [{"url": "https://8.8.8.8/api"}],
        "paths": {
            "/rooms": {"get": {"operationId": "listRooms", "summary": "List <b>rooms</b>", "responses": {}}},
            "/rooms/{room}": {"delete": {"operationId": "deleteRoom", "summary": "Delete a room", "responses": {}}},
        },
    }
)
NEW = {"kind": "rest", "slug": "rooms", "document": DOCUMENT}


@pytest.fixture
def acme():
    return cast.acme()


def test_from_a_document_to_a_published_resource(acme):
    api = robot(acme)
    answer = api.post("/resources", NEW | {"upstream_auth": {"kind": "bearer", "secret": "upstream-hush"}})
    assert answer.status_code == 201, answer.content
    draft = answer.json()
    assert draft["state"] == "draft" and draft["url"] == "http://localhost:8001/acme/rooms"
    assert {one["key"] for one in draft["operations"]} == {"GET /rooms", "DELETE /rooms/{room}"}
    assert max(one["risk"] for one in draft["scopes"]) == "read" or draft["scopes"]
    path = f"/resources/{draft['id']}"
    changed = api.patch(
        path,
        {
            "scopes": [{"name": "rooms:see", "words": "See rooms", "risk": "read"}],
            "operations": [{"key": "GET /rooms", "scope": "rooms:see"}, {"key": "DELETE /rooms/{room}", "scope": None}],
        },
    )
    assert changed.status_code == 200, changed.content
    assert {one["key"]: one["scope"] for one in changed.json()["operations"]} == {
        "GET /rooms": "rooms:see",
        "DELETE /rooms/{room}": None,
    }
    published = api.post(f"{path}/publish")
    assert published.json()["state"] == "published", published.content
    refused(api.post(f"{path}/publish"), "conflict", 409)
    assert api.post(f"{path}/retire").json()["state"] == "retired"
    refused(api.patch(path, {"name": "Ghost"}), "conflict", 409)
    assert [len(acme.events(f"resource.{what}")) for what in ("registered", "published", "retired")] == [2, 1, 1]
    everything = "".join(event.body for event in acme.events()) + api.get(path).content.decode()
    assert "upstream-hush" not in everything


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no document": ({"document": None}, "document"),
    "two documents": ({"document_url": "https://8.8.8.8/openapi.json"}, "document"),
    "rubbish": ({"document": "{]"}, "document"),
    "a bad short name": ({"slug": "Rooms!"}, "slug"),
    "a short name that is taken": ({"slug": "office"}, "slug"),
    "an upstream that is no web address": ({"upstream_url": "file:///etc/passwd"}, "upstream_url"),
    "a credential without a secret": ({"upstream_auth": {"kind": "bearer"}}, "upstream_auth.secret"),
    "our own kind": ({"kind": "management"}, "kind"),
    "an unknown field": ({"sealed_credential": "x"}, "sealed_credential"),
}


@pytest.mark.parametrize("why", WRONG)
def test_a_wrong_field_is_named_and_nothing_is_made(acme, why):
    change, field = WRONG[why]
    api = robot(acme)
    said = {name: value for name, value in (NEW | change).items() if value is not None}
    problem = refused(api.post("/resources", said), "invalid", 422)
    assert problem["errors"][0]["field"] == field, problem
    set_tenant(acme.tenant.id)
    assert not Resource.objects.filter(slug__in=("rooms", "Rooms!")).exists()


@pytest.mark.parametrize("inside", ["http://127.0.0.1:5432", "http://169.254.169.254", "http://[::1]:6379"])
def test_an_upstream_at_a_private_address_cannot_be_published(acme, inside):
    api = robot(acme)
    draft = api.post("/resources", NEW | {"upstream_url": inside})
    if draft.status_code == 201:
        draft = api.post(f"/resources/{draft.json()['id']}/publish")
    assert refused(draft, "invalid", 422)["errors"][0]["field"] == "upstream_url"


def test_a_document_at_a_private_address_is_not_fetched(acme):
    said = {"kind": "rest", "slug": "rooms", "document_url": "http://10.0.0.1/openapi.json"}
    problem = refused(robot(acme).post("/resources", said), "invalid", 422)
    assert problem["errors"][0]["field"] == "document_url"


def test_an_edit_that_names_the_unknown_changes_nothing(acme):
    api = robot(acme)
    path = f"/resources/{api.post('/resources', NEW).json()['id']}"
    before = api.get(path).json()
    problem = refused(
        api.patch(path, {"name": "Halls", "operations": [{"key": "GET /nowhere", "scope": None}]}), "invalid", 422
    )
    assert "GET /nowhere" in problem["errors"][0]["field"]
    assert api.get(path).json() == before


def test_our_own_api_is_listed_and_cannot_be_changed(acme):
    api = robot(acme)
    (ours,) = [one for one in api.get("/resources").json()["items"] if one["kind"] == "management"]
    assert ours["url"].endswith("/api/v1/tenants/acme")
    refused(api.patch(f"/resources/{ours['id']}", {"name": "Mine"}), "conflict", 409)
    refused(api.post(f"/resources/{ours['id']}/retire"), "conflict", 409)


def test_a_resource_of_globex_is_not_there(acme):
    globex = cast.globex()
    theirs = cast.office(globex)
    set_tenant(acme.tenant.id)
    api = robot(acme)
    refused(api.get(f"/resources/{theirs.id}"), "not-found", 404)
    refused(api.patch(f"/resources/{theirs.id}", {"name": "Mine"}), "not-found", 404)
    refused(api.post(f"/resources/{theirs.id}/retire"), "not-found", 404)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"upstream_auth": {}}, "upstream_auth.kind"),
        ({"upstream_auth": {"kind": "bearer"}}, "upstream_auth.secret"),
        ({"sign_in": {"from_risk": "read"}}, "sign_in.acr"),
        ({"scopes": [{"name": "rooms:read"}]}, "scopes.0.words"),
        ({"operations": [{"key": "GET /rooms"}]}, "operations.0.scope"),
    ],
)
def test_what_a_change_names_it_names_whole(acme, change, field):
    answer = robot(acme).patch(f"/resources/{acme.office.id}", change)
    assert answer.status_code == 422 and field in [one["field"] for one in answer.json()["errors"]], answer.json()
    assert robot(acme).patch(f"/resources/{acme.office.id}", {"upstream_auth": {"kind": "none"}}).status_code == 200


def test_a_resource_takes_bound_tokens_only_from_when_it_is_said(acme):
    api, path, name = robot(acme), f"/resources/{acme.office.id}", "dpop_bound_access_tokens_required"
    assert api.get(path).json()[name] is False
    for demanded in (True, True, False):
        assert api.patch(path, {name: demanded}).json()[name] is demanded
    for wrong in (None, "often", 7):
        refused(api.patch(path, {name: wrong}), "invalid", 422)
    refused(robot(acme, "resources:read").patch(path, {name: True}), "insufficient-scope", 403)
    assert [one.details for one in acme.events("resource.changed")] == [{name: True}, {name: False}]
