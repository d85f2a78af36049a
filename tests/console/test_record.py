"""The record: searched by those who may, proof shown for each line, nobody else's in sight."""

import json
import re
from base64 import b64decode

import pytest
from django.db import connections, transaction

from audit import sequencer
from audit.merkle import leaf_hash, verify_inclusion
from tests import cast
from tests.console.calls import a_call

RECORD = "/t/acme/audit/"


def _busy():
    acme = cast.acme()
    grant = cast.matts_grant(acme, cast.assistant(acme))
    allowed = a_call(acme, grant)
    refused = a_call(acme, grant, decision="refuse", scope="finance:enter", operation="POST /rooms/finance/enter")
    return acme, grant, allowed, refused


@pytest.mark.django_db
def test_lines_are_told_in_words_with_the_reason():
    acme, _, allowed, refused = _busy()
    page = cast.signed_in(acme.members["cora"]).get(RECORD).content.decode()
    assert f'id="e-{allowed}"' in page and f'id="e-{refused}"' in page
    for words in (
        "Entered the meeting room",
        "Tried to enter the finance department",
        "grant says never",
        "Matt&#x27;s assistant",
    ):
        assert words in page, words
    assert "Call finished" not in page, "how a call ended is told with its beginning"


@pytest.mark.django_db
def test_searching_narrows_and_shows_its_terms():
    acme, _, allowed, refused = _busy()
    page = cast.signed_in(acme.members["cora"]).get(RECORD, {"q": "decision:refuse resource:office"}).content.decode()
    assert f'id="e-{refused}"' in page and f'id="e-{allowed}"' not in page
    assert page.count('class="token"') == 2 and 'aria-label="Remove decision refuse"' in page
    assert '<b class="num">1</b> line' in page


@pytest.mark.django_db
def test_a_search_is_on_record_and_its_address_holds_it_all():
    acme, *_ = _busy()
    answer = cast.signed_in(acme.members["cora"]).get(RECORD, {"q": "decision:refuse", "add": "ip:192.0.2.7"})
    assert answer.status_code == 302 and answer["Location"] == f"{RECORD}?q=decision%3Arefuse+ip%3A192.0.2.7"
    searched = acme.events("record.searched")
    assert [event.details["query"] for event in searched] == ["decision:refuse ip:192.0.2.7"]
    assert searched[0].actor == str(acme.members["cora"].id)


@pytest.mark.django_db
def test_a_query_that_makes_no_sense_says_what_would_be_right():
    acme, *_ = _busy()
    answer = cast.signed_in(acme.members["cora"]).get(RECORD, {"q": "decison:refuse"})
    page = answer.content.decode()
    assert answer.status_code == 422 and "Did you mean decision:?" in page and 'value="decison:refuse"' in page
    assert not acme.events("record.searched")


@pytest.mark.django_db
def test_pages_by_keyset_lose_none():
    acme, grant, *_ = _busy()
    for _ in range(70):
        a_call(acme, grant)
    cora, path, seen = cast.signed_in(acme.members["cora"]), f"{RECORD}?q=action%3Acall.allowed", []
    while path:
        page = cora.get(path).content.decode()
        seen += re.findall(r'<li id="e-([0-9a-f-]+)"', page)
        older = re.search(r'rel="next" href="([^"]+)"', page)
        path = older[1].replace("&amp;", "&") if older else ""
    assert len(seen) == len(set(seen)) == 71


@pytest.mark.django_db
def test_members_and_other_tenants_see_nothing():
    acme, _, allowed, _ = _busy()
    globex = cast.globex()
    matt, gus = cast.signed_in(acme.members["matt"]), cast.signed_in(globex.owner)
    for path in (RECORD, f"{RECORD}{allowed}/", f"{RECORD}{allowed}/proof.json", f"{RECORD}newest/"):
        assert matt.get(path).status_code == 403, path
        assert gus.get(path).status_code == 404, path
    assert gus.get(f"/t/globex/audit/{allowed}/").status_code == 404
    assert "the meeting room" not in gus.get("/t/globex/audit/").content.decode()


@pytest.mark.django_db
def test_the_auditor_is_not_offered_the_live_view_and_the_owner_is():
    acme, *_ = _busy()
    assert 'hx-trigger="every 3s"' in cast.signed_in(acme.owner).get(RECORD).content.decode()
    assert 'hx-trigger="every 3s"' not in cast.signed_in(acme.members["cora"]).get(RECORD).content.decode()


@pytest.mark.django_db
def test_the_live_view_sends_rows_only_when_there_are_others():
    acme, grant, *_ = _busy()
    ada = cast.signed_in(acme.owner)
    watch = re.search(r'hx-get="([^"]+)"', ada.get(RECORD).content.decode())
    assert watch is not None
    path = watch[1].replace("&amp;", "&")
    assert ada.get(path).status_code == 204
    fresh = a_call(acme, grant)
    answer = ada.get(path)
    assert answer.status_code == 200 and f'id="e-{fresh}"' in answer.content.decode()
    again = re.search(r'hx-get="([^"]+)"', answer.content.decode())
    assert again is not None and ada.get(again[1].replace("&amp;", "&")).status_code == 204


@pytest.mark.django_db
def test_a_line_without_a_place_says_that_it_waits():
    acme, _, allowed, _ = _busy()
    page = cast.signed_in(acme.owner).get(f"{RECORD}{allowed}/").content.decode()
    assert "no place in the tree yet" in page
    assert cast.signed_in(acme.owner).get(f"{RECORD}{allowed}/proof.json").status_code == 404


@pytest.mark.django_db(transaction=True)
def test_an_opened_line_shows_a_proof_that_holds_without_us():
    with transaction.atomic():
        acme, _, _, refused = _busy()
    sequencer.drain()
    cora = cast.signed_in(acme.members["cora"])
    page = cora.get(RECORD, {"open": str(refused)}).content.decode()
    assert page.count("data-broken") == 0 and "Checked just now" in page and "nothing was sent on" in page
    assert "<b>Intact</b>" in page
    said = json.loads(cora.get(f"{RECORD}{refused}/proof.json").content)
    leaf = leaf_hash(said["event"].encode())
    assert leaf.hex() == said["leaf_hash"]
    root = b64decode(said["checkpoint"].split("\n")[2])
    verify_inclusion(leaf, said["index"], said["tree_size"], [bytes.fromhex(step) for step in said["path"]], root)


@pytest.mark.django_db(transaction=True)
def test_a_line_that_was_changed_in_the_database_is_shown_as_broken():
    with transaction.atomic():
        acme, _, _, refused = _busy()
    sequencer.drain()
    with connections["owner"].cursor() as cursor:
        cursor.execute("ALTER TABLE audit_event DISABLE TRIGGER append_only")
        cursor.execute("SELECT set_config('agentauth.tenant', %s, false)", [str(acme.tenant.id)])
        cursor.execute("UPDATE audit_event SET body = replace(body, 'refuse', 'allow_') WHERE id = %s", [refused])
        changed = cursor.rowcount
        cursor.execute("ALTER TABLE audit_event ENABLE TRIGGER append_only")
    assert changed == 1
    page = cast.signed_in(acme.members["cora"]).get(RECORD, {"open": str(refused)}).content.decode()
    assert page.count("data-broken") == 4 and "not what was hashed" in page
