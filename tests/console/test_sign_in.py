"""Signing in: passwords, one-time links, nobody by themselves; every organisation hears who came in."""

import re

import pytest
from django.core.cache import cache
from django.test import Client

from tenants.models import SignInLink
from tests import cast

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def _no_limits_left_over() -> None:
    cache.clear()


def with_password(member):
    member.user.set_password(PASSWORD)
    member.user.save()
    return member


def test_a_password_opens_the_only_organisation_and_is_on_record():
    acme = cast.acme()
    with_password(acme.owner)
    browser = Client()
    answer = browser.post("/account/login/", {"login": "ada@acme.example", "password": PASSWORD})
    assert answer.status_code == 302
    assert browser.get("/").headers["Location"] == "/t/acme/"
    (event,) = acme.events("member.signed_in")
    assert event.member_id == acme.owner.id


def test_a_wrong_password_says_nothing_about_who_exists():
    with_password(cast.acme().owner)
    known = Client().post("/account/login/", {"login": "ada@acme.example", "password": "x" * 14})
    unknown = Client().post("/account/login/", {"login": "zoe@acme.example", "password": "x" * 14})
    assert known.status_code == unknown.status_code == 200

    def told(answer):
        return re.findall(r'role="alert".*?</div></div>', answer.content.decode(), re.S)

    assert told(known) == told(unknown) != []


def test_guessing_passwords_is_slowed_down():
    with_password(cast.acme().owner)
    browser = Client()
    for _ in range(12):
        browser.post("/account/login/", {"login": "ada@acme.example", "password": "not this one"})
    browser.post("/account/login/", {"login": "ada@acme.example", "password": PASSWORD})
    assert "_auth_user_id" not in browser.session


def test_opening_a_link_does_not_use_it_up_and_the_button_does():
    acme = cast.acme()
    token = SignInLink.make(acme.owner.user)
    browser = Client()
    assert browser.get(f"/sign-in/{token}").status_code == 200
    assert browser.get(f"/sign-in/{token}").status_code == 200
    assert browser.post(f"/sign-in/{token}").status_code == 302
    assert browser.session["_auth_user_id"] == str(acme.owner.user.id)
    again = Client()
    assert again.post(f"/sign-in/{token}").status_code == 410
    assert "_auth_user_id" not in again.session
    assert len(acme.events("member.signed_in")) == 1


def test_a_link_of_somebody_deactivated_opens_nothing():
    acme = cast.acme()
    token = SignInLink.make(acme.owner.user)
    acme.owner.user.is_active = False
    acme.owner.user.save()
    assert Client().post(f"/sign-in/{token}").status_code == 410


def test_nobody_signs_up_by_themselves():
    answer = Client().post("/account/signup/", {"email": "eve@example.com", "password1": PASSWORD})
    assert b"People come by invitation" in answer.content


def test_nobody_changes_the_address_that_they_sign_in_with():
    acme = cast.acme()
    assert cast.signed_in(acme.owner).get("/account/email/").status_code == 404


def test_a_person_in_two_organisations_chooses():
    acme, globex = cast.acme(), cast.globex()
    from tenants.founding import join

    join(globex.tenant, email="ada@acme.example", name="Ada Lindqvist", role="auditor", actor=cast.CAST)
    page = cast.signed_in(acme.owner).get("/")
    assert b"/t/acme/" in page.content and b"/t/globex/" in page.content


def test_the_appearance_is_kept_and_leads_back_only_to_our_own_pages():
    browser = Client()
    answer = browser.post("/appearance/", {"theme": "dark", "next": "/account/login/"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/account/login/")
    assert b'data-theme="dark"' in browser.get("/account/login/").content
    elsewhere = browser.post("/appearance/", {"theme": "dark", "next": "https://evil.example/"})
    assert elsewhere.headers["Location"] == "/"


def test_a_forgotten_password_is_replaced_by_a_link_to_our_own_address(mailoutbox):
    acme = cast.acme()
    with_password(acme.owner)
    asked = Client().post(
        "/account/password/reset/", {"email": "ada@acme.example"}, headers={"host": "evil.example"}, follow=True
    )
    assert b"Look into your mail" in asked.content
    (mail,) = mailoutbox
    assert "evil.example" not in f"{mail.subject} {mail.body}" and "testserver" not in mail.body
    (address,) = re.findall(r"https?://\S+", mail.body)
    assert address.startswith("http://localhost:8000/account/password/reset/key/")
    path = address.removeprefix("http://localhost:8000")
    browser = Client()
    form = browser.get(path, follow=True)
    new = {"password1": "entirely another phrase", "password2": "entirely another phrase"}
    assert browser.post(form.redirect_chain[-1][0], new).status_code == 302
    acme.owner.user.refresh_from_db()
    assert acme.owner.user.check_password("entirely another phrase")
    assert b"used up" in Client().get(path, follow=True).content


def test_a_stranger_cannot_have_mail_sent_to_just_anybody(mailoutbox):
    cast.acme()
    asked = Client().post("/account/password/reset/", {"email": "zoe@elsewhere.example"}, follow=True)
    assert b"Look into your mail" in asked.content and mailoutbox == []
