"""The operator founds tenants and offers resources, and reads nothing that is in a tenant."""

import json
import re
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils.timezone import now

from agentauth.keys.models import SigningKey
from agentauth.resources.models import CatalogueEntry
from tenants.models import Member, SignInLink, Tenant, User
from tenants.rls import set_tenant
from tests import cast
from tests.console.test_resources import PETS

pytestmark = pytest.mark.django_db
INITECH = {"name": "Initech", "slug": "initech", "owner_name": "Bill", "owner_email": "bill@initech.example"}


def _operator():
    user = User.objects.create_user("op@agentauth.example", name="Olga Lind", operator_since=now())
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def test_founding_gives_a_tenant_with_keys_and_a_link_shown_once():
    browser = _operator()
    answer = browser.post("/operator/tenants/new/", INITECH)
    assert answer.status_code == 303
    page = browser.get(answer["Location"]).content.decode()
    link = re.search(r"http://localhost:8000/sign-in/([^<]+)<", page)
    assert link is not None
    assert "/sign-in/" not in browser.get(answer["Location"]).content.decode()
    tenant = Tenant.objects.get(slug="initech")
    set_tenant(tenant.id)
    owner = Member.objects.get(tenant=tenant)
    assert owner.role == "owner" and SignInLink.redeem(link[1]) == owner.user
    assert SigningKey.objects.filter(tenant=tenant).exists()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"slug": "Bad Slug"}, "slug"),
        ({"slug": "acme"}, "slug"),
        ({"owner_email": "x"}, "owner_email"),
        ({"name": ""}, "name"),
    ],
)
def test_what_is_wrong_is_said_at_the_field(changes, field):
    cast.acme()
    answer = _operator().post("/operator/tenants/new/", INITECH | changes)
    page = answer.content.decode()
    assert answer.status_code == 422 and f'id="id_{field}_error"' in page and 'value="Bill"' in page
    assert not Tenant.objects.filter(slug="initech").exists()


def test_counts_and_nothing_else_of_a_tenant():
    acme = cast.acme()
    cast.matts_grant(acme, cast.assistant(acme))
    browser = _operator()
    page = browser.get("/operator/").content.decode()
    assert "Acme" in page and 'data-label="People">3<' in page and 'data-label="Agents">1<' in page
    detail = browser.get(f"/operator/tenants/{acme.tenant.id}/").content.decode()
    for secret in ("Matt", "Ada", "assistant", "Office"):
        assert secret not in page and secret not in detail, secret
    for path in ("", "agents/", "audit/", "my/agents/", "members/"):
        assert browser.get(f"/t/acme/{path}").status_code == 404, path


def test_only_operators_have_this_page():
    acme = cast.acme()
    for path in ("/operator/", "/operator/tenants/new/", "/operator/catalogue/", "/operator/catalogue/new/"):
        assert cast.signed_in(acme.owner).get(path).status_code == 404, path
        assert Client().get(path).status_code == 302, path
    assert cast.signed_in(acme.owner).post("/operator/tenants/new/", INITECH).status_code == 404


def test_an_offer_is_seen_by_all_and_withdrawn():
    acme = cast.acme()
    browser = _operator()
    said = {"kind": "rest", "name": "Pets", "slug": "pets", "upstream_url": "https://pets.example.com/v1",
            "document": json.dumps(PETS)}  # fmt: skip
    assert browser.post("/operator/catalogue/new/", said).status_code == 303
    ada = cast.signed_in(acme.owner)
    assert "Pets" in ada.get("/t/acme/resources/").content.decode()
    entry = CatalogueEntry.objects.get()
    assert browser.post(f"/operator/catalogue/{entry.id}/withdraw/").status_code == 303
    assert "Pets" not in ada.get("/t/acme/resources/").content.decode()
    assert len(acme.events("catalogue.offered")) == 2


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"document": "{"}, "document"),
        ({"upstream_url": "ftp://pets.example.com/"}, "upstream_url"),
        ({"slug": "A B"}, "slug"),
    ],
)
def test_a_bad_offer_is_refused(changes, field):
    said = {"kind": "rest", "name": "Pets", "slug": "pets", "upstream_url": "https://pets.example.com/v1",
            "document": json.dumps(PETS)}  # fmt: skip
    answer = _operator().post("/operator/catalogue/new/", said | changes)
    assert answer.status_code == 422 and f'id="id_{field}_error"' in answer.content.decode()


def test_the_command_line_does_the_same(tmp_path):
    out = StringIO()
    call_command("create_tenant", "hooli", "Hooli", "--owner", "gavin@hooli.example", stdout=out)
    assert "/t/hooli/" in out.getvalue() and "/sign-in/" in out.getvalue()
    for wrong in (("hooli", "Hooli", "--owner", "g@hooli.example"), ("x y", "X", "--owner", "g@x.example"),
                  ("fine", "Fine", "--owner", "nobody")):  # fmt: skip
        with pytest.raises(CommandError):
            call_command("create_tenant", *wrong)
    document = tmp_path / "pets.json"
    document.write_text(json.dumps(PETS))
    call_command(
        "offer_resource", "pets", "Pets", "https://pets.example.com/v1", "--document", str(document), stdout=out
    )
    assert CatalogueEntry.objects.get().slug == "pets"
    with pytest.raises(CommandError):
        call_command("offer_resource", "pets2", "Pets", "https://pets.example.com/v1", "--document", "/nowhere.json")
