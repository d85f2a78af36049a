"""Registering an agent: what is asked, what is said at the field, what is kept and what is shown once."""

import re
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from django.utils.timezone import now

from agentauth.agents.models import Agent
from agentauth.console.pasted_key import NotAKey, public_jwk
from agentauth.grants.models import Grant
from agentauth.resources.models import Ceiling
from tenants.models import secret_hash
from tests import cast

pytestmark = pytest.mark.django_db


def pem(key=None):
    key = key or ec.generate_private_key(ec.SECP256R1())
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def filled(house, **changes):
    return {
        "kind": "delegated",
        "name": "Supplier scout",
        "purpose": "Compares offers",
        "owner": str(house.owner.id),
        "proof": "paste",
        "key": pem(),
        "redirect_uris": "https://scout.example/cb",
        "valid_until": (now() + timedelta(days=30)).date().isoformat(),
        "scopes": [str(house.scope("rooms:read").id)],
    } | changes


def test_an_agent_gets_a_badge_a_ceiling_and_its_key():
    acme = cast.acme()
    answer = cast.signed_in(acme.owner).post("/t/acme/agents/new/", filled(acme))
    agent = Agent.objects.get(tenant=acme.tenant, name="Supplier scout")
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/t/acme/agents/{agent.id}/#quick")
    assert agent.token_endpoint_auth_method == "private_key_jwt" and agent.redirect_uris == ["https://scout.example/cb"]
    assert [row.scope.name for row in Ceiling.objects.filter(agent=agent)] == ["rooms:read"]
    assert (agent.credentials.get().public_jwk or {})["kty"] == "EC"
    assert not Grant.objects.filter(agent=agent).exists()
    assert len(acme.events("agent.registered")) == len(acme.events("credential.added")) == 1


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"name": ""}, "id_name", "This field is required"),
        ({"owner": "00000000-0000-0000-0000-000000000000"}, "id_owner", "Choose somebody from the list"),
        ({"key": "nonsense"}, "id_key", "neither PEM"),
        ({"key": ""}, "id_key", "Paste the public key"),
        ({"redirect_uris": "http://scout.example/cb"}, "id_redirect_uris", "http is only for"),
        ({"redirect_uris": "javascript:alert(1)"}, "id_redirect_uris", "javascript:alert(1)"),
        ({"valid_until": "2020-01-01"}, "id_valid_until", "Choose a day after today"),
        ({"kind": "autonomous", "proof": "none"}, "id_proof", "must prove itself"),
        ({"scopes": ["00000000-0000-0000-0000-000000000000"]}, "id_scopes", "no longer published"),
    ],
)
def test_what_is_wrong_is_said_at_its_field_and_nothing_typed_is_lost(changes, field, said):
    acme = cast.acme()
    answer = cast.signed_in(acme.owner).post("/t/acme/agents/new/", filled(acme, **changes))
    page = answer.content.decode()
    assert answer.status_code == 422
    assert f'href="#{field}"' in page and said in page
    assert "Compares offers" in page and 'role="alert"' in page
    assert not Agent.objects.filter(tenant=acme.tenant).exists() and acme.events("agent.registered") == []


def test_two_badges_do_not_carry_the_same_name():
    acme = cast.acme()
    cast.assistant(acme)
    answer = cast.signed_in(acme.owner).post("/t/acme/agents/new/", filled(acme, name="matt's ASSISTANT"))
    assert "Matt Okafor already owns" in answer.content.decode()


def test_a_secret_is_shown_once_and_kept_as_a_hash():
    acme = cast.acme()
    browser = cast.signed_in(acme.owner)
    answer = browser.post("/t/acme/agents/new/", filled(acme, proof="secret", key=""), follow=True)
    (secret,) = re.findall(r'id="secret">(aas_[^<]+)<', answer.content.decode())
    agent = Agent.objects.get(tenant=acme.tenant)
    assert bytes(agent.credentials.get().secret_hash or b"") == secret_hash(secret)
    assert secret not in str(dict(browser.session))
    again = browser.get(f"/t/acme/agents/{agent.id}/secret/")
    assert again.status_code == 410 and secret.encode() not in again.content
    assert all(secret not in event.body for event in acme.events())


def test_an_agent_that_runs_by_itself_gets_its_rule():
    acme = cast.acme()
    scopes = [str(acme.scope("rooms:read").id), str(acme.scope("rooms:book").id)]
    cast.signed_in(acme.owner).post("/t/acme/agents/new/", filled(acme, kind="autonomous", scopes=scopes))
    grant = Grant.objects.get(tenant=acme.tenant)
    assert grant.member is None and grant.given_by == acme.owner
    assert {row.scope.name: row.mode for row in grant.permissions.all()} == {
        "rooms:read": "always",
        "rooms:book": "always",
    }
    assert len(acme.events("grant.given")) == 1


def test_a_changed_ceiling_counts_and_is_on_record():
    acme = cast.acme()
    agent = cast.assistant(acme)
    browser = cast.signed_in(acme.owner)
    form = filled(acme, name="Matt's assistant", owner=str(acme.owner.id))
    answer = browser.post(f"/t/acme/agents/{agent.id}/edit/", form)
    assert answer.status_code == 303
    agent.refresh_from_db()
    assert agent.owner_id == acme.owner.id and agent.purpose == "Compares offers"
    assert [row.scope.name for row in agent.ceiling.all()] == ["rooms:read"]
    assert len(acme.events("agent.changed")) >= 2


def test_an_admin_says_where_an_agent_is_pinged():
    acme = cast.acme()
    agent = cast.assistant(acme)
    browser = cast.signed_in(acme.owner)
    form = filled(acme, name="Matt's assistant", owner=str(acme.owner.id))
    page = f"/t/acme/agents/{agent.id}/edit/"
    wrong = browser.post(page, form | {"ping_url": "http://assistant.example/ping"})
    assert wrong.status_code == 422 and b"Use an https address" in wrong.content
    agent.refresh_from_db()
    assert agent.ping_url == "" and agent.purpose != "Compares offers"  # nothing of it was changed
    assert browser.post(page, form | {"ping_url": "https://assistant.example/ping"}).status_code == 303
    agent.refresh_from_db()
    assert agent.ping_url == "https://assistant.example/ping"
    assert b'value="https://assistant.example/ping"' in browser.get(page).content
    assert any("assistant.example/ping" in str(event.details) for event in acme.events("agent.changed"))
    assert browser.post(page, form).status_code == 303
    agent.refresh_from_db()
    assert agent.ping_url == ""


def test_a_third_credential_is_refused_and_a_retired_one_makes_room():
    acme = cast.acme()
    agent = cast.assistant(acme)
    browser = cast.signed_in(acme.owner)
    path = f"/t/acme/agents/{agent.id}/credentials/"
    for _ in range(2):
        assert browser.post(f"{path}new/", {"proof": "paste", "key": pem()}).status_code == 303
    third = browser.post(f"{path}new/", {"proof": "paste", "key": pem()})
    assert third.status_code == 422 and b"Retire one first" in third.content
    oldest = agent.credentials.earliest("created_at")
    assert browser.post(f"{path}{oldest.id}/retire/").status_code == 303
    assert browser.post(f"{path}new/", {"proof": "secret"}).status_code == 303
    assert len(acme.events("credential.retired")) == 1


def test_only_admins_register():
    acme = cast.acme()
    for who in ("matt", "cora"):
        assert cast.signed_in(acme.members[who]).post("/t/acme/agents/new/", filled(acme)).status_code == 403
    assert not Agent.objects.filter(tenant=acme.tenant).exists()


def test_a_private_key_is_not_taken():
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    for text in (private, '{"kty":"EC","crv":"P-256","x":"a","y":"b","d":"c"}'):
        with pytest.raises(NotAKey, match="private key"):
            public_jwk(text)


def test_keys_come_as_pem_jwk_or_a_set_of_one():
    known = public_jwk(pem())
    assert known["crv"] == "P-256" and known["kid"]
    import json

    bare = {name: known[name] for name in ("kty", "crv", "x", "y")}
    assert public_jwk(json.dumps(bare)) == public_jwk(json.dumps({"keys": [bare]})) == known
    with pytest.raises(NotAKey, match="more than one"):
        public_jwk(json.dumps({"keys": [bare, bare]}))
    with pytest.raises(NotAKey, match="2048"):
        public_jwk(pem(rsa.generate_private_key(65537, 1024)))
    for rubbish in ("[]", "{}", "1", "-----BEGIN PUBLIC KEY-----\nx", '{"keys": [1]}', "\x00"):
        with pytest.raises(NotAKey):
            public_jwk(rubbish)
