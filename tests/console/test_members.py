"""People: invited once, in a role, let go with everything that hung on them."""

import re

import pytest
from django.core import mail
from django.test import Client

from agentauth.agents.models import Agent
from agentauth.grants.models import Grant
from tenants.models import Invitation, Member, User
from tenants.rls import set_tenant
from tests import cast

pytestmark = pytest.mark.django_db
PEOPLE = "/t/acme/members/"
PASSWORD = "a-quite-long-one-7"


def _invite(acme, email="ines@acme.example", role="member"):
    browser = cast.signed_in(acme.owner)
    answer = browser.post(f"{PEOPLE}invite/", {"email": email, "role": role})
    assert answer.status_code == 303
    page = browser.get(answer["Location"]).content.decode()
    link = re.search(r"http://localhost:8000(/t/acme/join/[^<]+/)", page)
    assert link is not None
    again = browser.get(answer["Location"]).content.decode()
    assert "/t/acme/join/" not in again, "shown once"
    return link[1]


def test_an_invitation_is_taken_once(django_capture_on_commit_callbacks):
    acme = cast.acme()
    with django_capture_on_commit_callbacks(execute=True):
        link = _invite(acme)
    assert [message.to for message in mail.outbox] == [["ines@acme.example"]] and link in mail.outbox[0].body
    stranger = Client()
    assert "Join Acme" in stranger.get(link).content.decode()
    answer = stranger.post(link, {"name": "Ines Duarte", "password": PASSWORD})
    assert (answer.status_code, answer["Location"]) == (303, "/t/acme/")
    set_tenant(acme.tenant.id)
    ines = Member.objects.get(user__email="ines@acme.example")
    assert (ines.role, ines.name) == ("member", "Ines Duarte") and ines.user.check_password(PASSWORD)
    joined = acme.events("member.joined")[-1]
    assert (joined.member_id, joined.actor) == (ines.id, str(ines.id))
    assert stranger.get("/t/acme/my/agents/").status_code == 200, "signed in"
    assert Client().get(link).status_code == 404


def test_the_link_is_kept_as_a_hash_and_its_page_stays_out_of_caches():
    acme = cast.acme()
    link = _invite(acme)
    token = link.rstrip("/").rsplit("/", 1)[1]
    set_tenant(acme.tenant.id)
    assert token.encode() not in bytes(Invitation.objects.get().token_hash)
    assert "no-store" in Client().get(link)["Cache-Control"]


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ({"name": "", "password": PASSWORD}, "This field is required"),
        ({"name": "Ines", "password": "sh0rt-one"}, "too short"),
        ({"name": "Ines", "password": "administrator"}, "too common"),
    ],
)
def test_a_weak_beginning_is_refused_at_the_field(said, wrong):
    acme = cast.acme()
    link = _invite(acme)
    answer = Client().post(link, said)
    page = answer.content.decode()
    assert answer.status_code == 422 and wrong in page
    assert said["name"] in page and said["password"] not in page
    set_tenant(acme.tenant.id)
    assert not Member.objects.filter(user__email="ines@acme.example").exists()


def test_the_link_alone_opens_no_account_that_exists():
    acme, globex = cast.acme(), cast.globex()
    gus = globex.owner.user
    gus.set_password(PASSWORD)
    gus.save()
    set_tenant(acme.tenant.id)
    link = _invite(acme, email=gus.email)
    for said in ({}, {"name": "Not Gus", "password": PASSWORD}):
        stranger = Client()
        assert stranger.post(link, said).status_code == 422
        assert stranger.get("/t/acme/my/agents/").status_code == 302, "not signed in"
    assert cast.signed_in(acme.members["matt"]).post(link, {"password": PASSWORD}).status_code == 422
    assert f"/account/login/?next={link}" in Client().get(link).content.decode()
    assert cast.signed_in(globex.owner).post(link).status_code == 303
    set_tenant(acme.tenant.id)
    assert Member.objects.get(user=gus, tenant=acme.tenant).role == "member"
    gus.refresh_from_db()
    assert gus.name == "Gus Hahn" and gus.check_password(PASSWORD)


def test_an_invitation_of_one_tenant_opens_no_other():
    acme = cast.acme()
    cast.globex()
    set_tenant(acme.tenant.id)
    link = _invite(acme).replace("/acme/", "/globex/")
    assert Client().get(link).status_code == 404


@pytest.mark.parametrize(("email", "wrong"), [("nobody", "valid email"), ("matt@acme.example", "is a member already")])
def test_a_wrong_address_is_said_at_the_field(email, wrong):
    acme = cast.acme()
    answer = cast.signed_in(acme.owner).post(f"{PEOPLE}invite/", {"email": email, "role": "member"})
    assert (
        answer.status_code == 422 and wrong in answer.content.decode() and f'value="{email}"' in answer.content.decode()
    )


def test_only_an_owner_makes_owners():
    acme = cast.acme()
    set_tenant(acme.tenant.id)
    matt = acme.members["matt"]
    Member.objects.filter(id=matt.id).update(role="admin")
    admin = cast.signed_in(matt)
    assert admin.post(f"{PEOPLE}invite/", {"email": "x@y.example", "role": "owner"}).status_code == 422
    admin.post(f"{PEOPLE}{acme.members['cora'].id}/role/", {"role": "owner"})
    admin.post(f"{PEOPLE}{matt.id}/role/", {"role": "owner"})
    admin.post(f"{PEOPLE}{acme.owner.id}/role/", {"role": "member"})
    admin.post(f"{PEOPLE}{acme.owner.id}/deactivate/")
    set_tenant(acme.tenant.id)
    assert list(Member.objects.filter(role="owner", deactivated_at=None)) == [acme.owner]
    assert not acme.events("member.role_changed") and not acme.events("member.deactivated")


def test_a_role_is_changed_and_on_record():
    acme = cast.acme()
    cast.signed_in(acme.owner).post(f"{PEOPLE}{acme.members['matt'].id}/role/", {"role": "admin"})
    set_tenant(acme.tenant.id)
    assert Member.objects.get(id=acme.members["matt"].id).role == "admin"
    assert acme.events("member.role_changed")[0].details == {"was": "member", "role": "admin"}


def test_the_last_owner_stays():
    acme = cast.acme()
    ada = cast.signed_in(acme.owner)
    ada.post(f"{PEOPLE}{acme.owner.id}/role/", {"role": "member"})
    ada.post(f"{PEOPLE}{acme.owner.id}/deactivate/")
    set_tenant(acme.tenant.id)
    left = Member.objects.get(id=acme.owner.id)
    assert left.role == "owner" and left.deactivated_at is None


def test_letting_somebody_go_says_what_ends_and_ends_it():
    acme = cast.acme()
    agent = cast.assistant(acme)
    grant = cast.matts_grant(acme, agent)
    matt, ada = acme.members["matt"], cast.signed_in(acme.owner)
    asked = ada.get(f"{PEOPLE}{matt.id}/deactivate/").content.decode()
    assert asked.count("Matt&#x27;s assistant") >= 2, "as a grant and as an agent"
    matts = cast.signed_in(matt)
    assert ada.post(f"{PEOPLE}{matt.id}/deactivate/").status_code == 303
    set_tenant(acme.tenant.id)
    assert not Grant.objects.get(id=grant.id).is_live
    assert Agent.objects.get(id=agent.id).state == "suspended"
    assert acme.events("member.deactivated")[0].details["grants_ended"] == 1
    assert matts.get("/t/acme/my/agents/").status_code == 404, "the door is closed"


def test_members_and_auditors_change_nothing():
    acme = cast.acme()
    cora, matt = cast.signed_in(acme.members["cora"]), cast.signed_in(acme.members["matt"])
    assert matt.get(PEOPLE).status_code == 403
    page = cora.get(PEOPLE).content.decode()
    assert "Matt Okafor" in page and "Let go" not in page and "Invite" not in page
    for browser in (cora, matt):
        assert browser.post(f"{PEOPLE}invite/", {"email": "x@y.example", "role": "member"}).status_code == 403
        assert browser.post(f"{PEOPLE}{acme.members['matt'].id}/deactivate/").status_code == 403
    assert User.objects.filter(email="x@y.example").count() == 0


def test_another_tenants_people_are_not_there():
    acme, globex = cast.acme(), cast.globex()
    gus = cast.signed_in(globex.owner)
    assert gus.get(PEOPLE).status_code == 404
    assert gus.post(f"/t/globex/members/{acme.members['matt'].id}/deactivate/").status_code == 404
    assert "Matt" not in gus.get("/t/globex/members/").content.decode()


def test_a_withdrawn_invitation_opens_nothing():
    acme = cast.acme()
    link = _invite(acme)
    set_tenant(acme.tenant.id)
    invitation = Invitation.objects.get()
    cast.signed_in(acme.owner).post(f"{PEOPLE}invited/{invitation.id}/withdraw/")
    assert Client().get(link).status_code == 404
    assert acme.events("member.invitation_withdrawn")
