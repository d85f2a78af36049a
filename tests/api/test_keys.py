"""Signing keys over REST: read, made, withdrawn, and how often by the clock."""

from importlib import import_module
from types import SimpleNamespace

import pytest
from django.apps import apps
from django.db import connection

from agentauth.keys import signing
from agentauth.resources.founding import MANAGEMENT_SCOPES
from agentauth.resources.models import Scope
from audit.actions import Action
from tenants.rls import set_tenant
from tests import cast
from tests.api.tokens import helper_of, robot

pytestmark = pytest.mark.django_db


@pytest.fixture
def acme():
    return cast.acme()


def test_the_keys_are_read_with_issuer_and_what_is_next(acme):
    said = robot(acme, "keys:read").get("/keys").json()
    assert said["issuer"] == "http://localhost:8000/t/acme" and said["rotation_days"] == 90 and said["next_at"]
    (key,) = said["keys"]
    set_tenant(acme.tenant.id)
    assert key["kid"] in signing.public_keys(acme.tenant.id) and key["retired_at"] is None
    assert set(key) == {"kid", "created_at", "signs_from", "retired_at", "unpublish_at"}  # nothing private


def test_a_new_key_on_demand_and_by_another_clock(acme):
    api = robot(acme)
    assert len(api.post("/keys/rotate").json()["keys"]) == 2
    assert api.patch("/keys", {"rotation_days": 30}).json()["rotation_days"] == 30
    for wrong in ({"rotation_days": -1}, {"rotation_days": 4000}, {"rotation_days": "often"}, {}, {"days": 3}):
        assert api.patch("/keys", wrong).status_code == 422, wrong
    set_tenant(acme.tenant.id)
    assert acme.events(Action.KEY_RETIRED) and acme.events(Action.TENANT_CHANGED)


def test_withdrawn_keys_end_every_token_also_the_callers(acme):
    api = robot(acme)
    answer = api.post("/keys/withdraw")
    assert answer.status_code == 200 and set(answer.json()) == {"grants", "tokens", "at"}
    assert api.get("/keys").status_code == 401
    set_tenant(acme.tenant.id)
    assert acme.events(Action.KEY_DISTRUSTED)


def test_it_needs_the_scope_and_the_role(acme):
    reader = robot(acme, "keys:read")
    for path in ("/keys/rotate", "/keys/withdraw"):
        assert reader.post(path).status_code == 403
    auditor = helper_of(acme, acme.members["cora"], keys__read="always")
    assert auditor.get("/keys").status_code == 200 and auditor.post("/keys/rotate").status_code == 403
    set_tenant(acme.tenant.id)
    assert not acme.events(Action.KEY_RETIRED)


def test_who_may_register_agents_may_not_touch_the_keys(acme):
    api = robot(acme, "agents:read", "agents:write")
    for answer in (api.get("/keys"), api.patch("/keys", {"rotation_days": 0}), api.post("/keys/withdraw")):
        assert answer.status_code == 403 and "keys:" in answer.json()["scope"]
    set_tenant(acme.tenant.id)
    assert [event.details["scope"] for event in acme.events("call.refused")] == [
        "keys:read",
        "keys:write",
        "keys:write",
    ]
    assert not acme.events(Action.KEY_DISTRUSTED) and not acme.events(Action.TENANT_CHANGED)


def test_tenants_that_were_there_before_get_the_scopes(acme):
    migration = import_module("agentauth.resources.migrations.0003_scopes_of_signing_keys")
    set_tenant(acme.tenant.id)
    Scope.objects.filter(name__startswith="keys:").delete()
    for _ in range(2):
        migration.add(apps, SimpleNamespace(connection=connection))
        found = Scope.objects.filter(name__startswith="keys:", resource__kind="management")
        assert {one.name: (one.words, one.risk) for one in found} == migration.SCOPES
    assert {name: MANAGEMENT_SCOPES[name] for name in migration.SCOPES} == migration.SCOPES
