"""Issuer and keys on a page: what signs, what is next, and what the buttons end."""

from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils.timezone import now

from agentauth.keys import signing
from agentauth.keys.models import SigningKey
from agentauth.keys.tasks import rotate_due
from audit.actions import Action
from tenants.issuer import move_issuer
from tenants.models import Tenant, User
from tenants.rls import set_tenant
from tests import cast
from tests.console.test_operator import _operator

pytestmark = pytest.mark.django_db
PAGE = "/t/acme/settings/keys/"


def test_an_admin_sees_the_issuer_what_signs_and_what_is_next():
    acme = cast.acme()
    page = cast.signed_in(acme.owner).get(PAGE).content.decode()
    kid = SigningKey.objects.get(tenant=acme.tenant).kid
    assert "http://localhost:8000/t/acme" in page and kid in page and ">signs<" in page
    assert "in 90 days" in page or "in 89 days" in page or f"{now() + timedelta(days=90):%b %Y}" in page
    assert PAGE in cast.signed_in(acme.owner).get("/t/acme/settings/").content.decode()


def test_a_key_that_waits_for_its_turn_is_shown_as_such():
    acme = cast.acme()
    SigningKey.objects.update(signs_from=now() - timedelta(days=90))
    rotate_due()
    set_tenant(acme.tenant.id)
    page = cast.signed_in(acme.owner).get(PAGE).content.decode()
    assert ">waits<" in page and ">signs<" in page and "published already" in page


def test_a_new_key_on_demand():
    acme = cast.acme()
    browser = cast.signed_in(acme.owner)
    assert browser.post(f"{PAGE}rotate/").status_code == 303
    assert ">checks only<" in browser.get(PAGE).content.decode()
    set_tenant(acme.tenant.id)
    assert acme.events(Action.KEY_RETIRED)[0].actor == str(acme.owner.id)


def test_the_clock_is_set_and_a_period_that_is_not_offered_is_refused():
    acme = cast.acme()
    browser = cast.signed_in(acme.owner)
    assert browser.post(f"{PAGE}period/", {"days": "30"}).status_code == 303
    assert Tenant.objects.get(slug="acme").key_rotation_days == 30
    assert browser.post(f"{PAGE}period/", {"days": "0"}).status_code == 303
    assert "only when somebody asks" in browser.get(PAGE).content.decode()
    assert browser.post(f"{PAGE}period/", {"days": "7000"}).status_code == 422
    set_tenant(acme.tenant.id)
    assert [event.details["key_rotation_days"] for event in acme.events(Action.TENANT_CHANGED)] == [30, 0]


def test_withdrawing_asks_first_and_says_what_ended():
    acme = cast.acme()
    browser = cast.signed_in(acme.owner)
    before = set(signing.public_keys(acme.tenant.id))
    assert "none is in use now" in browser.get(f"{PAGE}withdraw/").content.decode()
    set_tenant(acme.tenant.id)
    assert set(signing.public_keys(acme.tenant.id)) == before
    answer = browser.post(f"{PAGE}withdraw/", follow=True)
    assert "Withdrawn; 0 tokens ended" in answer.content.decode()
    set_tenant(acme.tenant.id)
    assert not before & set(signing.public_keys(acme.tenant.id))
    assert acme.events(Action.KEY_DISTRUSTED)[0].actor == str(acme.owner.id)


@pytest.mark.parametrize("who", ["matt", "cora"])
def test_it_is_for_admins(who):
    acme = cast.acme()
    browser = cast.signed_in(acme.members[who])
    for path in ("", "withdraw/"):
        assert browser.get(f"{PAGE}{path}").status_code == 403
    for path in ("rotate/", "period/", "withdraw/"):
        assert browser.post(f"{PAGE}{path}", {"days": "30"}).status_code == 403
    set_tenant(acme.tenant.id)
    assert SigningKey.objects.filter(tenant=acme.tenant).count() == 1
    assert browser.get("/t/globex/settings/keys/").status_code == 404


def test_the_operator_moves_an_issuer_and_the_admin_sees_where_it_is():
    acme = cast.acme()
    operator = _operator()
    place = f"/operator/tenants/{acme.tenant.id}/issuer/"
    assert "refused at once" in operator.get(place).content.decode()
    answer = operator.post(place, {"host": "Auth.Acme.Example"}, follow=True)
    assert "http://auth.acme.example:8000" in answer.content.decode()
    set_tenant(acme.tenant.id)
    (event,) = acme.events(Action.TENANT_CHANGED)
    user = User.objects.get(email="op@agentauth.example")
    assert (event.actor_kind, event.actor) == ("operator", str(user.id))
    assert event.details["issuer"] == "http://auth.acme.example:8000"
    assert "auth.acme.example" in operator.get("/operator/").content.decode()
    page = cast.signed_in(acme.owner).get(PAGE).content.decode()
    assert "http://auth.acme.example:8000" in page and "A host of its own" in page


@pytest.mark.parametrize("host", ["https://auth.acme.example", "localhost", "127.0.0.1", "taken.example"])
def test_a_host_that_cannot_be_is_refused_beside_the_field(host):
    acme, globex = cast.acme(), cast.globex()
    move_issuer(globex.tenant, "taken.example", by=cast.CAST)
    answer = _operator().post(f"/operator/tenants/{acme.tenant.id}/issuer/", {"host": host})
    assert answer.status_code == 422 and 'id="id_host_error"' in answer.content.decode()
    assert Tenant.objects.get(slug="acme").issuer_host == ""


def test_moving_an_issuer_is_the_operators():
    acme = cast.acme()
    place = f"/operator/tenants/{acme.tenant.id}/issuer/"
    assert cast.signed_in(acme.owner).post(place, {"host": "auth.acme.example"}).status_code == 404
    assert Tenant.objects.get(slug="acme").issuer_host == ""
    assert _operator().get("/operator/tenants/00000000-0000-7000-8000-000000000000/issuer/").status_code == 404


def test_the_command_moves_it_there_and_back(capsys):
    cast.acme()
    call_command("move_issuer", "acme", "auth.acme.example")
    assert capsys.readouterr().out == "acme: http://auth.acme.example:8000\n"
    call_command("move_issuer", "acme", "--back")
    assert capsys.readouterr().out == "acme: http://localhost:8000/t/acme\n"
    for wrong in (["acme"], ["acme", "auth.acme.example", "--back"], ["acme", "https://x"], ["nobody", "a.example"]):
        with pytest.raises(CommandError):
            call_command("move_issuer", *wrong)
