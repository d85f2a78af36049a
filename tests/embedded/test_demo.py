"""The demo's promises: a cast and an office that work, made once, and addresses that follow."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest
from django.conf import settings

from agentauth.agents.models import Agent
from agentauth.embedded import demo, paths
from agentauth.embedded.office.door import office_key
from agentauth.grants.models import Grant
from agentauth.resources.models import Operation, Resource
from agentauth.resources.upstream import upstream_headers
from audit.models import Event
from tenants.models import Member, SignInLink, Tenant, User, secret_hash
from tenants.rls import in_tenant, set_tenant

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _fresh_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTAUTH_HOME", str(tmp_path))


def _counts(tenant: Tenant) -> list[int]:
    set_tenant(tenant.id)
    return [model.objects.filter(tenant=tenant).count() for model in (Member, Agent, Resource, Grant, Event)]


def test_the_cast_and_the_office_are_there_and_on_record():
    demo.seed()
    acme = Tenant.objects.get(slug="acme")
    with in_tenant(acme.id):
        roles = dict(Member.objects.filter(tenant=acme).values_list("user__email", "role"))
        assert roles == {"ada@acme.example": "owner", "matt@acme.example": "member", "cora@acme.example": "auditor"}
        for slug in ("office", "office-mcp"):
            resource = Resource.objects.get(tenant=acme, slug=slug)
            assert resource.state == "published"
            assert dict(resource.scopes.values_list("name", "risk")) == {
                "rooms:read": "read",
                "rooms:book": "change",
                "meeting:enter": "change",
                "finance:enter": "dangerous",
            }
            assert not Operation.objects.filter(resource=resource, scope=None).exists()
            assert upstream_headers(resource) == {"Authorization": f"Bearer {office_key()}"}
        assistant = Agent.objects.get(tenant=acme, name="Matt's assistant")
        grant = Grant.objects.get(tenant=acme, agent=assistant, resource__slug="office")
        assert dict(grant.permissions.values_list("scope__name", "mode")) == {
            "rooms:read": "always",
            "rooms:book": "ask",
            "meeting:enter": "always",
            "finance:enter": "never",
        }
        actions = set(Event.objects.filter(tenant=acme).values_list("action", flat=True))
    assert {"tenant.created", "resource.published", "agent.registered", "grant.given", "credential.added"} <= actions


def test_globex_sees_nothing_of_acme():
    demo.seed()
    globex = Tenant.objects.get(slug="globex")
    with in_tenant(globex.id):
        assert set(Resource.objects.values_list("tenant__slug", flat=True)) == {"globex"}
        assert set(Agent.objects.values_list("name", flat=True)) == {"Front desk"}


def test_seeding_again_changes_nothing():
    demo.seed()
    acme = Tenant.objects.get(slug="acme")
    before, files = _counts(acme), _files()
    demo.seed()
    assert (_counts(acme), _files()) == (before, files)


def test_the_office_is_followed_to_its_new_address_on_record(monkeypatch: pytest.MonkeyPatch):
    demo.seed()
    monkeypatch.setattr(settings.KNOBS, "office_url", "http://localhost:8999")
    demo.seed()
    acme = Tenant.objects.get(slug="acme")
    with in_tenant(acme.id):
        urls = dict(Resource.objects.filter(tenant=acme, kind__in=["rest", "mcp"]).values_list("slug", "upstream_url"))
        assert urls == {"office": "http://localhost:8999", "office-mcp": "http://localhost:8999/mcp"}
        moved = Event.objects.filter(tenant=acme, action="resource.changed", details__has_key="was")
        assert moved.count() == 2 and {event.actor for event in moved} == {"demo"}


def test_a_lost_secret_is_replaced_and_the_old_one_retired():
    demo.seed()
    lost = paths.home() / "demo" / "night-porter.env"
    before = lost.read_text()
    lost.unlink()
    demo.seed()
    assert lost.read_text() != before
    acme = Tenant.objects.get(slug="acme")
    with in_tenant(acme.id):
        porter = Agent.objects.get(tenant=acme, name="Night porter")
        live = [credential for credential in porter.credentials.all() if credential.is_live]
        secret = re.search(r"CLIENT_SECRET='(.+)'", lost.read_text())
        assert secret is not None and [bytes(c.secret_hash or b"") for c in live] == [secret_hash(secret[1])]


def test_the_operators_password_wins_and_a_changed_one_stays(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(settings.KNOBS, "demo_password", "first wish of mine")
    demo.seed()
    ada = User.objects.get(email="ada@acme.example")
    assert ada.check_password("first wish of mine")
    ada.set_password("her own secret words")
    ada.save()
    demo.seed()
    assert User.objects.get(pk=ada.pk).check_password("her own secret words")


def test_what_is_secret_is_readable_by_us_only():
    demo.seed()
    for file in [paths.secrets_dir() / "demo-password", *(paths.home() / "demo").iterdir()]:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_lines_name_everybody_and_their_links_sign_in_once():
    demo.seed()
    lines = "\n".join(demo.cast_lines("http://localhost:8000"))
    for email in ("ada@acme.example", "matt@acme.example", "cora@acme.example", "gus@globex.example", demo.OPERATOR[0]):
        assert email in lines
    tokens = re.findall(r"http://localhost:8000/sign-in/(\S+)", lines)
    assert len(tokens) == 5
    user = SignInLink.redeem(tokens[0])
    assert user is not None and user.email == "ada@acme.example"
    assert SignInLink.redeem(tokens[0]) is None


def test_production_has_no_demo(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(settings, "PRODUCTION", True)
    with pytest.raises(RuntimeError):
        demo.seed()
    assert not Tenant.objects.exists()


def _files() -> dict[str, str]:
    return {file.name: file.read_text() for file in (paths.home() / "demo").iterdir()}
