"""The key ring: a new key first, everything sealed anew, resumable; lost, it stops issuing and nothing else."""

import json
from typing import Any

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import models, transaction
from django.test import Client

from agentauth.keys import resealing, ring, signing
from agentauth.keys.models import SigningKey
from agentauth.keys.sealed import SealedField
from agentauth.resources.models import Resource
from agentauth.resources.upstream import set_credential, upstream_headers
from audit.actions import Action
from tenants.rls import in_tenant, set_tenant
from tests import cast
from tests.cast import CAST, acme, events_of, globex, signed_in
from tests.oauth.browser import Flow


@pytest.fixture(autouse=True)
def own_ring(monkeypatch, tmp_path):
    """A ring of this test alone: the others' goes on sealing what they have."""
    monkeypatch.setattr(ring, "path", lambda: tmp_path / "secrets" / "ring.json")
    return tmp_path / "secrets" / "ring.json"


def test_every_column_that_holds_something_sealed_is_declared_so():
    found = [
        f"{model.__name__}.{field.name}"
        for model in apps.get_models()
        for field in model._meta.local_fields
        if isinstance(field, models.BinaryField) and field.name.startswith("sealed") != isinstance(field, SealedField)
    ]
    assert found == []
    assert all(field.purpose for _, field in resealing.sealed_columns())
    assert len(resealing.sealed_columns()) >= 3


@pytest.mark.django_db
def test_a_new_key_seals_everything_anew_and_the_old_ones_still_open(own_ring, capsys):
    house, other = acme(), globex()
    set_tenant(house.tenant.id)
    set_credential(house.office, by=CAST, auth="bearer", secret="s3cret")
    before = ring.entries()
    call_command("rotate-keys", "--ring")
    newest, *rest = ring.entries()
    assert rest == before and own_ring.stat().st_mode & 0o777 == 0o600
    assert set(resealing.in_use()) == {newest["id"]}
    set_tenant(house.tenant.id)
    signing.forget(house.tenant.id)
    signing.sign(house.tenant.id, {"sub": "x"}, "at+jwt")
    assert upstream_headers(Resource.objects.get(pk=house.office.pk)) == {"Authorization": "Bearer s3cret"}
    (event,) = house.events(Action.RING_ROTATED)
    assert event.subject == newest["id"] and event.details == {"sealed_anew": 2, "not_opened": 0}
    assert len(other.events(Action.RING_ROTATED)) == 1
    assert "acme: 2 sealed anew" in capsys.readouterr().out


@pytest.mark.django_db
def test_what_was_interrupted_goes_on_where_it_stopped(monkeypatch):
    house, _ = acme(), globex()
    resealing.add_key()
    monkeypatch.setattr(resealing, "SLICE", 1)
    one = next(resealing.reseal(by=CAST))
    assert (one.tenant.slug, one.done) == ("acme", 1)
    assert len(resealing.in_use()) == 2
    call_command("rotate-keys", "--reseal")
    assert len(resealing.in_use()) == 1
    set_tenant(house.tenant.id)
    assert len(house.events(Action.RING_ROTATED)) == 1  # done before, not told twice


@pytest.mark.django_db
def test_former_keys_leave_the_ring_only_when_nothing_needs_them():
    acme()
    resealing.add_key()
    with pytest.raises(CommandError, match="still in use"):
        call_command("rotate-keys", "--forget")
    call_command("rotate-keys", "--reseal", "--forget")
    assert len(ring.entries()) == 1 == len(resealing.in_use())


@pytest.mark.django_db
def test_another_processs_new_ring_is_read_without_a_restart(own_ring):
    house = acme()
    key = SigningKey.objects.get(tenant=house.tenant)
    named: dict[str, Any] = {"tenant_id": house.tenant.id, "row_id": key.id, "purpose": "signing"}
    plain = ring.unseal(key.sealed_private, **named)
    fresh = ring.new_entry()
    own_ring.write_text(json.dumps([fresh, *ring.entries()]))  # as another process would
    sealed = ring.seal(plain, **named)
    assert ring.sealed_by(sealed) == fresh["id"] and ring.unseal(sealed, **named) == plain


@pytest.mark.django_db
def test_what_does_not_open_is_counted_and_left_as_it_is():
    house = acme()
    key = SigningKey.objects.get(tenant=house.tenant)
    SigningKey.objects.filter(pk=key.pk).update(sealed_private=b"\x01\x02\x03\x04" + bytes(key.sealed_private[4:]))
    with pytest.raises(CommandError, match="1 could not be opened"):
        call_command("rotate-keys", "--ring")
    set_tenant(house.tenant.id)
    assert house.events(Action.RING_ROTATED)[0].details == {"sealed_anew": 0, "not_opened": 1}


@pytest.mark.django_db
@pytest.mark.parametrize("broken", [None, "", "[]", "{}", '[{"id": "zz", "key": "x"}]'])
def test_a_lost_ring_is_not_replaced_unasked(own_ring, broken):
    house = acme()
    own_ring.unlink() if broken is None else own_ring.write_text(broken)
    signing.forget(house.tenant.id)
    for act in (
        lambda: signing.sign(house.tenant.id, {}, "at+jwt"),
        lambda: ring.seal(b"x", tenant_id=house.tenant.id, row_id=house.tenant.id, purpose="x"),
        resealing.add_key,
        globex,
    ):
        with pytest.raises(ring.RingError), transaction.atomic():
            act()
    assert own_ring.exists() is (broken is not None)
    with pytest.raises(CommandError, match="The key ring"):
        call_command("rotate-keys", "--all")


@pytest.mark.django_db
def test_a_ring_lost_for_good_is_begun_anew_on_purpose(own_ring):
    house = acme()
    own_ring.unlink()
    call_command("rotate-keys", "--all", "--new-ring")
    set_tenant(house.tenant.id)
    signing.forget(house.tenant.id)
    assert signing.sign(house.tenant.id, {"sub": "x"}, "at+jwt")


@pytest.fixture
def flow(transactional_db):
    with transaction.atomic():
        house = acme()
        agent = cast.assistant(house)
        from agentauth.agents.registering import add_secret

        _, secret = add_secret(agent, by=house.owner)
    return Flow(house, agent, secret).sign_in()


def test_without_the_ring_no_token_is_issued_and_everything_else_goes_on(flow, own_ring):
    tokens = flow.tokens()
    code = flow.code()
    own_ring.unlink()
    signing.forget(flow.house.tenant.id)
    refused = flow.redeem(code)
    assert refused.status_code == 503 and refused.json()["error"] == "temporarily_unavailable"
    (event,) = [e for e in events_of(flow.house.tenant.id, Action.TOKEN_REFUSED) if e.reasons == ["no_signing_key"]]
    assert event.status == 503
    assert flow.post("introspect", {"token": tokens["access_token"]} | flow.proof()).json()["active"] is True
    assert Client().get("/.well-known/oauth-authorization-server/t/acme").status_code == 200
    assert Client().get("/t/acme/oauth/jwks.json").json()["keys"]
    bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
    assert Client().get("/t/acme/oauth/userinfo", headers=bearer).status_code == 403  # known, without openid
    owner = signed_in(flow.house.owner)
    for page in ("", "agents/", "resources/", "members/", "audit/", "my/agents/", "my/inbox/"):
        assert owner.get(f"/t/acme/{page}").status_code == 200, page
    assert flow.post("revoke", {"token": tokens["access_token"]} | flow.proof()).status_code == 200
    assert flow.post("introspect", {"token": tokens["access_token"]} | flow.proof()).json() == {"active": False}


def test_with_the_ring_back_the_same_code_is_still_good(flow, own_ring):
    code, kept = flow.code(), own_ring.read_text()
    own_ring.unlink()
    signing.forget(flow.house.tenant.id)
    assert flow.redeem(code).status_code == 503
    own_ring.write_text(kept)
    assert flow.redeem(code).status_code == 200  # nothing was used up


def test_a_page_that_needs_the_ring_says_so_and_changes_nothing(flow, own_ring):
    own_ring.unlink()
    owner = signed_in(flow.house.owner)
    owner.raise_request_exception = False
    answer = owner.post("/t/acme/resources/office/credential/", {"auth": "bearer", "secret": "x" * 20, "header": ""})
    assert answer.status_code == 503 and "key ring" in answer.content.decode()
    with in_tenant(flow.house.tenant.id):
        assert Resource.objects.get(pk=flow.house.office.pk).sealed_credential is None
