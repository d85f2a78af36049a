"""The inbox: one concrete call, allowed once or refused, by the person it is for and nobody else."""

from datetime import timedelta
from hashlib import sha256

import pytest
from django.utils.timezone import now

from agentauth.grants import approvals
from agentauth.grants.models import Approval
from tenants.rls import set_tenant
from tests import cast

pytestmark = pytest.mark.django_db
INBOX = "/t/acme/my/inbox/"
BOOK = "POST /rooms/{room}/book"


def _asked(args=None):
    acme = cast.acme()
    grant = cast.matts_grant(acme, cast.assistant(acme))
    said = args or {"room": "oak", "from": "15:00"}
    return (
        acme,
        grant,
        approvals.ask(grant, operation=BOOK, args=said, args_hash=sha256(repr(said).encode()).hexdigest()),
    )


def _state(acme, approval):
    set_tenant(acme.tenant.id)
    return Approval.objects.get(id=approval.id)


def test_the_question_shows_the_exact_call():
    acme, _, approval = _asked({"room": "oak", "note": "<img src=x onerror=alert(1)>", "people": ["Ada"]})
    page = cast.signed_in(acme.members["matt"]).get(f"{INBOX}{approval.id}/").content.decode()
    for words in ("Book a room at Office?", "oak", "&lt;img src=x", "[&quot;Ada&quot;]", "the answer is <b>no</b>"):
        assert words in page, words
    assert "<img" not in page


def test_what_changed_since_last_time_is_marked():
    acme, grant, first = _asked({"room": "oak", "from": "15:00"})
    first.give(by=acme.members["matt"])
    second = approvals.ask(grant, operation=BOOK, args={"room": "oak", "from": "09:00"}, args_hash="b" * 64)
    page = cast.signed_in(acme.members["matt"]).get(f"{INBOX}{second.id}/").content.decode()
    assert page.count("newmark") == 1 and "15:00" in page


def test_allowing_once_is_on_record():
    acme, grant, approval = _asked()
    answer = cast.signed_in(acme.members["matt"]).post(f"{INBOX}{approval.id}/allow/")
    assert (answer.status_code, answer["Location"]) == (303, INBOX)
    assert _state(acme, approval).state == "given"
    assert [event.grant_id for event in acme.events("approval.given")] == [grant.id]


def test_refusing_keeps_the_reason():
    acme, _, approval = _asked()
    cast.signed_in(acme.members["matt"]).post(f"{INBOX}{approval.id}/refuse/", {"reason": "Too early"})
    found = _state(acme, approval)
    assert (found.state, found.reason) == ("refused", "Too early")
    assert acme.events("approval.refused")[0].details["reason"] == "Too early"


def test_a_reason_that_is_too_long_is_kept_on_the_page():
    acme, _, approval = _asked()
    answer = cast.signed_in(acme.members["matt"]).post(f"{INBOX}{approval.id}/refuse/", {"reason": "x" * 201})
    assert answer.status_code == 422 and "x" * 201 in answer.content.decode()
    assert _state(acme, approval).state == "pending"


def test_nobody_else_sees_or_answers_it():
    acme, _, approval = _asked()
    for member in (acme.owner, acme.members["cora"], cast.globex().owner):
        browser = cast.signed_in(member)
        assert browser.get(f"{INBOX}{approval.id}/").status_code == 404
        assert browser.post(f"{INBOX}{approval.id}/allow/").status_code == 404
    assert _state(acme, approval).state == "pending"


def test_an_answer_that_comes_too_late_allows_nothing():
    acme, _, approval = _asked()
    Approval.objects.filter(id=approval.id).update(expires_at=now() - timedelta(seconds=1))
    matt = cast.signed_in(acme.members["matt"])
    answer = matt.post(f"{INBOX}{approval.id}/allow/", follow=True)
    assert "Nothing was allowed" in answer.content.decode()
    assert _state(acme, approval).state == "pending"
    assert not acme.events("approval.given")


def test_a_second_answer_changes_nothing():
    acme, _, approval = _asked()
    matt = cast.signed_in(acme.members["matt"])
    matt.post(f"{INBOX}{approval.id}/refuse/")
    matt.post(f"{INBOX}{approval.id}/allow/")
    assert _state(acme, approval).state == "refused"


def test_empty_one_and_many():
    acme, grant, _ = _asked()
    matt = cast.signed_in(acme.members["matt"])
    assert "1 call waits" in matt.get(INBOX).content.decode()
    set_tenant(acme.tenant.id)
    for number in range(24):
        approvals.ask(grant, operation=BOOK, args={"n": number}, args_hash=f"{number:064d}")
    page = matt.get(INBOX).content.decode()
    assert "25 calls wait" in page and page.count('class="btn slim" href="/t/acme/my/inbox/') == 25
    assert "Nothing waits for you" in cast.signed_in(acme.owner).get(INBOX).content.decode()
