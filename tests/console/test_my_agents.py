"""My agents: what a person allowed, what was done for them, and taking it back."""

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.utils.timezone import now

from agentauth.grants.granting import give
from agentauth.grants.models import Grant, Permission
from audit.actions import Action
from audit.models import Event
from audit.record import Actor, record
from tenants.models import Revocation
from tenants.rls import set_tenant
from tests import cast
from tests.console.calls import a_call

pytestmark = pytest.mark.django_db
MINE = "/t/acme/my/agents/"


def _acme_with_a_grant():
    acme = cast.acme()
    agent = cast.assistant(acme)
    return acme, agent, cast.matts_grant(acme, agent)


def _form(acme, agent, **changes):
    said = {
        "agent": agent.id,
        "resource": acme.office.id,
        "scope": [acme.scope("rooms:read").id, acme.scope("rooms:book").id],
        "read-how": "always",
        "change-how": "ask",
        "dangerous-how": "never",
        "until": "7",
        "purpose": "Rooms",
    }
    return said | changes


def test_a_badge_says_what_where_until_when_and_how_often():
    acme, _, grant = _acme_with_a_grant()
    a_call(acme, grant)
    page = cast.signed_in(acme.members["matt"]).get(MINE).content.decode()
    for words in (
        "Matt&#x27;s assistant",
        "Office",
        "See rooms",
        "Enter the meeting room",
        "30 of 30 days left",
        "1 call",
    ):
        assert words in page, words
    never = re.search(r'data-risk="never">.*?</li>', page, re.DOTALL)
    assert never and "Enter the finance department" in never[0]


def test_what_was_done_for_me_is_only_what_was_done_for_me():
    acme, agent, grant = _acme_with_a_grant()
    adas = give(
        agent=agent, resource=acme.office, member=acme.owner, by=acme.owner,
        permissions={acme.scope("finance:enter"): "ask"}, expires_at=now() + timedelta(days=1),
    )  # fmt: skip
    a_call(acme, grant)
    a_call(acme, adas, decision="ask", scope="finance:enter", operation="POST /rooms/finance/enter")
    matt, ada = cast.signed_in(acme.members["matt"]), cast.signed_in(acme.owner)
    for path in ("/t/acme/my/did/", "/t/acme/my/did.csv", f"{MINE}{grant.id}/did/"):
        page = matt.get(path).content.decode()
        assert "the meeting room" in page, path
        assert "finance department" not in page, path
    assert "the finance department" in ada.get("/t/acme/my/did/").content.decode()
    assert ada.get(f"{MINE}{grant.id}/did/").status_code == 404


def test_the_lines_page_by_keyset_and_lose_none():
    acme, _, grant = _acme_with_a_grant()
    events = [a_call(acme, grant, at=now() - timedelta(minutes=60 - at)) for at in range(30)]
    matt, path, seen = cast.signed_in(acme.members["matt"]), "/t/acme/my/did/", 0
    for expected in (25, 5):
        page = matt.get(path).content.decode()
        seen += page.count('<li data-verdict="allow">')
        assert page.count('<li data-verdict="allow">') == expected
        older = re.search(r'rel="next" href="([^"]+)"', page)
        path = f"/t/acme/my/did/{older[1]}" if older else ""
    assert seen == len(events) and not path


def test_revoking_ends_the_grant_and_says_what_ended():
    acme, agent, grant = _acme_with_a_grant()
    record(Action.TOKEN_ISSUED, tenant_id=acme.tenant.id, actor=Actor("agent", str(agent.id)), agent_id=agent.id,
           member_id=grant.member_id, grant_id=grant.id)  # fmt: skip
    matt = cast.signed_in(acme.members["matt"])
    answer = matt.post(f"{MINE}{grant.id}/revoke/")
    assert (answer.status_code, answer["Location"]) == (303, f"{MINE}?ended={grant.id}")
    set_tenant(acme.tenant.id)
    grant.refresh_from_db()
    assert grant.end_reason == "revoked" and grant.ended_by == acme.members["matt"]
    assert Revocation.objects.filter(tenant=acme.tenant, kind="grant", subject=str(grant.id)).exists()
    assert [event.details["tokens_ended"] for event in acme.events("grant.revoked")] == [1]
    page = matt.get(answer["Location"]).content.decode()
    assert "1 token, 0 streams ended" in page and ">Void<" in page


def test_the_notice_counts_streams_as_they_end():
    acme, agent, grant = _acme_with_a_grant()
    matt = cast.signed_in(acme.members["matt"])
    matt.post(f"{MINE}{grant.id}/revoke/")
    set_tenant(acme.tenant.id)
    ended_at = Grant.objects.get(id=grant.id).ended_at
    assert ended_at is not None
    record(Action.CALL_FINISHED, tenant_id=acme.tenant.id, actor=Actor("agent", str(agent.id)), agent_id=agent.id,
           member_id=grant.member_id, grant_id=grant.id, outcome="revoked",
           at=ended_at + timedelta(milliseconds=400))  # fmt: skip
    part = matt.get(f"{MINE}{grant.id}/stopped/").content.decode()
    assert "stopped in 0.4 s" in part and "0 tokens, 1 stream ended" in part
    assert "hx-trigger" in part, "asked again while others may still end"


def test_nobody_else_can_revoke_or_narrow_my_grant():
    acme, _, grant = _acme_with_a_grant()
    gus = cast.globex().owner
    for member, tenant in ((acme.owner, "acme"), (gus, "acme"), (gus, "globex")):
        browser = cast.signed_in(member)
        for act in ("revoke", "narrow"):
            assert browser.post(f"/t/{tenant}/my/agents/{grant.id}/{act}/").status_code == 404
    set_tenant(acme.tenant.id)
    assert Grant.objects.get(id=grant.id).ended_at is None


def test_a_link_alone_revokes_nothing():
    acme, _, grant = _acme_with_a_grant()
    assert cast.signed_in(acme.members["matt"]).get(f"{MINE}{grant.id}/revoke/").status_code == 405
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(acme.members["matt"].user, backend="django.contrib.auth.backends.ModelBackend")
    assert strict.post(f"{MINE}{grant.id}/revoke/").status_code == 403


def test_revoke_all_asks_first_and_then_ends_all():
    acme, _, grant = _acme_with_a_grant()
    matt = cast.signed_in(acme.members["matt"])
    assert "Matt&#x27;s assistant" in matt.get(f"{MINE}revoke-all/").content.decode()
    set_tenant(acme.tenant.id)
    assert Grant.objects.get(id=grant.id).is_live
    assert matt.post(f"{MINE}revoke-all/").status_code == 303
    set_tenant(acme.tenant.id)
    assert not Grant.objects.get(id=grant.id).is_live


def test_narrowing_only_takes_away():
    acme, _, grant = _acme_with_a_grant()
    matt = cast.signed_in(acme.members["matt"])
    book, meeting = acme.scope("rooms:book"), acme.scope("meeting:enter")
    more = matt.post(f"{MINE}{grant.id}/narrow/", {f"mode-{book.id}": "always", "until": "keep"})
    assert more.status_code == 422 and "can only be narrowed" in more.content.decode()
    less = matt.post(f"{MINE}{grant.id}/narrow/", {f"mode-{meeting.id}": "never", "until": "7"})
    assert less.status_code == 303
    set_tenant(acme.tenant.id)
    assert Permission.objects.get(grant=grant, scope=meeting).mode == "never"
    assert Permission.objects.get(grant=grant, scope=book).mode == "ask"
    grant.refresh_from_db()
    assert grant.expires_at < now() + timedelta(days=8)
    assert acme.events("grant.narrowed")[0].details["changed"]["meeting:enter"] == "never"


def test_narrowing_to_nothing_is_refused():
    acme, _, grant = _acme_with_a_grant()
    nothing = {f"mode-{row.scope_id}": "never" for row in grant.permissions.all()} | {"until": "keep"}
    answer = cast.signed_in(acme.members["matt"]).post(f"{MINE}{grant.id}/narrow/", nothing)
    assert answer.status_code == 422 and "To end the grant, revoke it" in answer.content.decode()


def test_giving_a_grant_takes_exactly_what_was_ticked():
    acme = cast.acme()
    agent = cast.assistant(acme)
    answer = cast.signed_in(acme.members["matt"]).post(f"{MINE}new/", _form(acme, agent))
    assert answer.status_code == 303
    set_tenant(acme.tenant.id)
    grant = Grant.objects.get(agent=agent, member=acme.members["matt"])
    given = {row.scope.name: row.mode for row in grant.permissions.select_related("scope")}
    assert given == {"rooms:read": "always", "rooms:book": "ask", "finance:enter": "never"}
    assert timedelta(days=6) < grant.expires_at - now() <= timedelta(days=7)
    assert acme.events("grant.given")[-1].member_id == acme.members["matt"].id


def test_dangerous_starts_unticked_and_has_no_always():
    acme = cast.acme()
    agent = cast.assistant(acme)
    path = f"{MINE}new/?agent={agent.id}&resource={acme.office.id}"
    page = cast.signed_in(acme.members["matt"]).get(path).content.decode()
    group = re.search(r'<section class="ask-group" data-risk="dangerous">.*?</section>', page, re.DOTALL)
    assert group is not None
    assert 'value="always"' not in group[0]
    assert not re.search(r'type="checkbox"[^>]*checked', group[0])
    assert re.search(r'name="change-how" value="ask" checked', page)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scope": [], "dangerous-how": "ask"}, "Choose at least one permission"),
        ({"until": "date", "date": ""}, "Enter a day"),
        ({"until": "date", "date": "2020-01-01"}, "Choose a day from today on"),
        ({"until": "date", "date": "31.12.2026"}, "Enter a day"),
        ({"until": "forever"}, "Choose for how long"),
        ({"read-how": "whatever"}, "Choose always, ask or never"),
    ],
)
def test_what_is_wrong_is_said_and_what_was_chosen_stays(changes, said):
    acme = cast.acme()
    agent = cast.assistant(acme)
    answer = cast.signed_in(acme.members["matt"]).post(f"{MINE}new/", _form(acme, agent, **changes))
    page = answer.content.decode()
    assert answer.status_code == 422 and said in page
    assert 'value="Rooms"' in page
    set_tenant(acme.tenant.id)
    assert not Grant.objects.exists()


def test_a_forged_always_for_a_dangerous_scope_is_refused():
    acme = cast.acme()
    agent = cast.assistant(acme)
    forged = _form(acme, agent, scope=[acme.scope("finance:enter").id]) | {"dangerous-how": "always"}
    answer = cast.signed_in(acme.members["matt"]).post(f"{MINE}new/", forged)
    assert answer.status_code == 422 and "is dangerous" in answer.content.decode()


def test_an_agent_of_another_tenant_cannot_be_chosen():
    acme = cast.acme()
    agent = cast.assistant(acme)
    globex = cast.globex()
    page = cast.signed_in(globex.owner).get(f"/t/globex/my/agents/new/?agent={agent.id}").content.decode()
    assert "Which agent?" in page and "assistant" not in page


def test_names_with_markup_are_shown_as_text():
    acme = cast.acme()
    agent = cast.assistant(acme, name="<b>Bold</b>", purpose="<script>alert(1)</script>")
    cast.matts_grant(acme, agent)
    matt = cast.signed_in(acme.members["matt"])
    for path in (MINE, f"{MINE}new/", f"{MINE}new/?agent={agent.id}"):
        page = matt.get(path).content.decode()
        assert "<b>Bold" not in page and "<script>alert" not in page
        assert "&lt;b&gt;Bold" in page


def test_a_spreadsheet_takes_no_cell_for_a_formula():
    acme = cast.acme()
    agent = cast.assistant(acme, name="=1+1")
    a_call(acme, cast.matts_grant(acme, agent))
    assert "'=1+1" in cast.signed_in(acme.members["matt"]).get("/t/acme/my/did.csv").content.decode()


def test_the_page_costs_the_same_for_one_badge_and_for_many(django_assert_max_num_queries):
    acme = cast.acme()
    for number in range(12):
        a_call(acme, cast.matts_grant(acme, cast.assistant(acme, name=f"Agent {number}")))
    with django_assert_max_num_queries(45):
        assert cast.signed_in(acme.members["matt"]).get(MINE).status_code == 200
    assert Event.objects.filter(tenant=acme.tenant, action="call.allowed").count() == 12
