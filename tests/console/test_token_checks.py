"""Letting an API check tokens itself, on its page and over REST: a secret is seen once, two live at most."""

from __future__ import annotations

import json
import re

import pytest
from jwt.algorithms import ECAlgorithm

from agentauth.resources.models import Resource, ServerCredential
from tenants.models import secret_hash
from tenants.rls import set_tenant
from tests import cast
from tests.api.tokens import helper_of, robot
from tests.cast import House, signed_in
from tests.oauth.proofs import new_key

pytestmark = pytest.mark.django_db
HERE = "/t/acme/resources/office/"


@pytest.fixture
def acme() -> House:
    return cast.acme()


def test_the_secret_is_shown_once_and_kept_as_a_hash(acme: House) -> None:
    browser = signed_in(acme.owner)
    assert "Let this API check tokens itself" in browser.get(HERE).content.decode()
    answer = browser.post(f"{HERE}checks/new/")
    assert (answer.status_code, answer["Location"]) == (303, f"{HERE}checks/secret/")
    html = browser.get(answer["Location"]).content.decode()
    (secret,) = set(re.findall(r"aas_[\w-]{43}", html))
    (credential,) = ServerCredential.objects.all()
    assert bytes(credential.secret_hash or b"") == secret_hash(secret) and str(acme.office.id) in html
    again = browser.get(answer["Location"])
    assert again.status_code == 410 and secret not in again.content.decode()
    assert f"…{secret[-4:]}" in browser.get(HERE).content.decode()
    (event,) = acme.events("resource.credential_added")
    assert event.actor == str(acme.owner.id) and secret not in str(event.details)


def test_a_third_secret_waits_until_one_is_retired(acme: House) -> None:
    browser = signed_in(acme.owner)
    for _ in range(3):
        browser.post(f"{HERE}checks/new/")
    assert ServerCredential.objects.count() == 2
    first = ServerCredential.objects.order_by("id")[0]
    assert browser.post(f"{HERE}checks/{first.id}/retire/").status_code == 303
    assert browser.post(f"{HERE}checks/{first.id}/retire/").status_code == 303  # says so, changes nothing
    assert len(acme.events("resource.credential_retired")) == 1
    browser.post(f"{HERE}checks/new/")
    assert ServerCredential.objects.filter(retired_at=None).count() == 2


def test_a_key_of_its_own_takes_the_place_of_a_secret(acme: House) -> None:
    browser, jwk = signed_in(acme.owner), json.loads(ECAlgorithm.to_jwk(new_key().public_key()))
    assert "With a key of its own instead" in browser.get(HERE).content.decode()
    assert browser.post(f"{HERE}checks/key/", {"key": json.dumps(jwk)})["Location"].startswith(HERE)
    (credential,) = ServerCredential.objects.all()
    assert credential.secret_hash is None and f"key …{credential.hint}" in browser.get(HERE).content.decode()
    assert len(acme.events("resource.credential_added")) == 1
    for wrong in ("", "x", json.dumps(jwk | {"d": "x"}), json.dumps({"kty": "oct", "k": "x"})):
        assert browser.post(f"{HERE}checks/key/", {"key": wrong}).status_code == 303
    assert ServerCredential.objects.count() == 1
    for who in ("matt", "cora"):
        assert signed_in(acme.members[who]).post(f"{HERE}checks/key/", {"key": json.dumps(jwk)}).status_code == 403


def test_nobody_else_may_and_our_own_api_has_none(acme: House) -> None:
    ours = Resource.objects.get(tenant=acme.tenant, kind="management")
    assert signed_in(acme.owner).post(f"/t/acme/resources/{ours.slug}/checks/new/").status_code == 404
    assert signed_in(acme.owner).post(f"{HERE}checks/{acme.tenant.id}/retire/").status_code == 404
    for who in ("matt", "cora"):
        assert signed_in(acme.members[who]).post(f"{HERE}checks/new/").status_code == 403
    gus = cast.globex().owner
    assert signed_in(gus).post(f"{HERE}checks/new/").status_code == 404
    set_tenant(acme.tenant.id)
    assert not ServerCredential.objects.exists()


def test_over_rest_it_is_made_listed_and_retired(acme: House) -> None:
    api, path = robot(acme), f"/resources/{acme.office.id}/server-credentials"
    made = api.post(path)
    assert made.status_code == 201, made.content
    said = made.json()
    assert said["credential"]["client_id"] == str(acme.office.id) and said["secret"].startswith("aas_")
    listed = api.get(path)
    assert [one["id"] for one in listed.json()["items"]] == [said["credential"]["id"]]
    assert said["secret"] not in listed.content.decode()
    jwk = json.loads(ECAlgorithm.to_jwk(new_key().public_key()))
    assert api.post(path, {"public_jwk": jwk | {"d": "x"}}).status_code in (400, 422)
    by_key = api.post(path, {"public_jwk": jwk}).json()
    assert (by_key["credential"]["kind"], by_key["secret"]) == ("key", None)
    assert api.post(path).status_code == 409
    retired = api.post(f"{path}/{said['credential']['id']}/retire")
    assert retired.status_code == 200 and retired.json()["retired_at"]
    assert api.post(f"{path}/{said['credential']['id']}/retire").status_code == 409
    assert api.post(f"{path}/{acme.tenant.id}/retire").status_code == 404
    assert api.get(f"/resources/{acme.tenant.id}/server-credentials").status_code == 404


def test_the_settings_over_rest(acme: House) -> None:
    api = robot(acme)
    usual = {"open_registration": True, "approval_first": False, "unapproved_ceiling": "read"}
    assert api.get("/settings").json() == usual
    answer = api.patch("/settings", {"approval_first": True})
    assert answer.status_code == 200 and answer.json() == usual | {"approval_first": True}
    assert api.patch("/settings", {"unapproved_ceiling": "all"}).status_code in (400, 422)
    assert api.patch("/settings", {"toaster": True}).status_code in (400, 422)
    assert len(acme.events("tenant.changed")) == 1
    reader = helper_of(acme, acme.owner, agents__read="always")
    assert reader.get("/settings").status_code == 200
    assert reader.patch("/settings", {"approval_first": False}).status_code == 403
