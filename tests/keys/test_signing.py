"""Signing keys and the ring that seals them."""

import jwt
import pytest

from agentauth.keys import ring, rotating, signing
from agentauth.keys.models import SigningKey
from audit.actions import Action
from audit.record import Actor
from tenants.rls import new_id
from tests.cast import CAST, acme, globex

pytestmark = pytest.mark.django_db


def verified(token, tenant_id):
    jwk = signing.public_keys(tenant_id)[jwt.get_unverified_header(token)["kid"]]
    return jwt.decode(token, jwt.PyJWK(jwk), algorithms=["ES256"], options={"verify_aud": False})


def test_a_token_verifies_with_the_published_key_and_names_its_type():
    house = acme()
    token = signing.sign(house.tenant.id, {"sub": "x"}, "at+jwt")
    assert jwt.get_unverified_header(token)["typ"] == "at+jwt"
    assert verified(token, house.tenant.id) == {"sub": "x"}
    assert "d" not in signing.jwks(house.tenant.id)["keys"][0]


def test_another_tenants_keys_are_others():
    house = acme()
    token = signing.sign(house.tenant.id, {"sub": "x"}, "at+jwt")
    other = globex()
    assert jwt.get_unverified_header(token)["kid"] not in signing.public_keys(other.tenant.id)


def test_after_rotation_the_new_key_signs_and_the_old_one_still_verifies():
    house = acme()
    before = signing.sign(house.tenant.id, {"sub": "x"}, "at+jwt")
    fresh = rotating.rotate(house.tenant.id, by=CAST)
    after = signing.sign(house.tenant.id, {"sub": "y"}, "at+jwt")
    assert jwt.get_unverified_header(after)["kid"] == fresh.kid
    assert verified(before, house.tenant.id) == {"sub": "x"}
    assert len(house.events(Action.KEY_RETIRED)) == 1


def test_without_a_key_nothing_is_signed():
    house = acme()
    SigningKey.objects.update(retired_at="2026-01-01T00:00:00Z")
    signing._signers.clear()
    with pytest.raises(signing.NoSigningKey):
        signing.sign(house.tenant.id, {}, "at+jwt")


def test_the_private_part_is_sealed_to_its_row():
    house = acme()
    key = SigningKey.objects.get(tenant=house.tenant)
    assert b"\x30\x81" not in bytes(key.sealed_private)[:20]
    with pytest.raises(ring.RingError):
        ring.unseal(key.sealed_private, tenant_id=house.tenant.id, row_id=new_id(), purpose=signing.PURPOSE)
    with pytest.raises(ring.RingError):
        ring.unseal(key.sealed_private, tenant_id=house.tenant.id, row_id=key.id, purpose="upstream")
    broken = bytes(key.sealed_private[:-1]) + bytes([key.sealed_private[-1] ^ 1])
    with pytest.raises(ring.RingError):
        ring.unseal(broken, tenant_id=house.tenant.id, row_id=key.id, purpose=signing.PURPOSE)


def test_a_key_off_the_ring_is_said_so():
    with pytest.raises(ring.RingError, match="not on the ring"):
        ring.unseal(b"\0" * 40, tenant_id=new_id(), row_id=new_id(), purpose="x")


def test_creating_a_key_is_on_record_with_its_maker():
    house = acme()
    signing.create_key(house.tenant.id, by=Actor("operator", "olga"))
    assert house.events(Action.KEY_CREATED)[-1].actor == "olga"
