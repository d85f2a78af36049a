"""The frame: where one may go by role, what waits, how the record is doing; it survives pages that fail."""

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.utils.timezone import now

from agentauth.console import frame
from agentauth.grants.approvals import ask
from audit.proof import Health
from tenants.founding import join
from tenants.rls import set_tenant
from tests import cast

pytestmark = pytest.mark.django_db


def nav(page):
    found = re.search(r'<nav class="nav".*?</nav>', page.content.decode(), re.S)
    return re.findall(r">(\w[\w ]*)(?:<| <)", found[0]) if found else []


def test_each_role_sees_the_doors_that_open_for_it():
    acme = cast.acme()
    every = ["Home", "Agents", "Resources", "People", "Record", "My agents", "Inbox"]
    assert nav(cast.signed_in(acme.owner).get("/t/acme/my/agents/")) == every
    auditor = ["Home", "Agents", "Record", "My agents", "Inbox"]
    assert nav(cast.signed_in(acme.members["cora"]).get("/t/acme/my/agents/")) == auditor
    assert nav(cast.signed_in(acme.members["matt"]).get("/t/acme/my/agents/")) == ["My agents", "Inbox"]


def test_what_waits_for_me_is_counted_and_for_others_not():
    acme = cast.acme()
    agent = cast.assistant(acme)
    grant = cast.matts_grant(acme, agent)
    ask(grant, operation="POST /rooms/{room}/book", args={}, args_hash="ab" * 32)
    assert '<span class="count">1' in cast.signed_in(acme.members["matt"]).get("/t/acme/my/agents/").content.decode()
    assert '<span class="count">' not in cast.signed_in(acme.owner).get("/t/acme/my/agents/").content.decode()


@pytest.mark.parametrize(
    ("health", "said"),
    [
        (Health(0, b"", None, 0, None), "Record not signed yet"),
        (Health(9418207, b"", now(), 0, None), "Record intact: 9,418,207 lines, signed"),
        (Health(5, b"", now(), 3, now() - timedelta(hours=1)), "waits to be signed"),
        (Health(5, b"", now(), 0, None, "a leaf is missing"), "The record does not add up"),
    ],
)
def test_the_foot_says_how_the_record_is_doing(monkeypatch, health, said):
    acme = cast.acme()
    monkeypatch.setattr(frame, "intact", lambda tenant: health)
    assert said in cast.signed_in(acme.owner).get("/t/acme/").content.decode()


def test_a_page_that_is_missing_or_forbidden_keeps_the_frame():
    acme = cast.acme()
    missing = cast.signed_in(acme.owner).get("/t/acme/agents/00000000-0000-0000-0000-000000000000/")
    assert missing.status_code == 404 and "Agents" in nav(missing)
    forbidden = cast.signed_in(acme.members["matt"]).get("/t/acme/agents/")
    assert forbidden.status_code == 403 and nav(forbidden) == ["My agents", "Inbox"]
    assert b"You are member of Acme" in forbidden.content
    assert Client().get("/t/acme/agents/").headers["Location"] == "/account/login/?next=/t/acme/agents/"


def test_a_page_that_breaks_says_a_number_and_nothing_else(monkeypatch, caplog):
    acme = cast.acme()
    monkeypatch.setattr("agentauth.console.answers.six", lambda *_: 1 / 0)
    browser = cast.signed_in(acme.owner)
    browser.raise_request_exception = False
    answer = browser.get("/t/acme/")
    (number,) = re.findall(r"e-[0-9a-f]{8}", answer.content.decode())
    assert answer.status_code == 500 and b"ZeroDivision" not in answer.content
    assert number in caplog.text


def test_other_organisations_are_listed_only_for_their_people():
    acme, globex = cast.acme(), cast.globex()
    page = cast.signed_in(acme.owner).get("/t/acme/").content.decode()
    assert "Globex" not in page
    set_tenant(globex.tenant.id)
    join(globex.tenant, email="ada@acme.example", name="Ada Lindqvist", role="member", actor=cast.CAST)
    page = cast.signed_in(acme.owner).get("/t/acme/").content.decode()
    assert 'href="/t/globex/"' in page and "Gus" not in page
