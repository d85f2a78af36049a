"""Events in people's words."""

import pytest

from agentauth.console.telling import ACTS, CALLS, tell
from agentauth.console.verbs import infinitive, past
from audit.actions import Action
from audit.models import Event
from tests import cast
from tests.console.test_home import a_call


@pytest.mark.parametrize(
    ("words", "done", "wanted"),
    [
        ("Enter the meeting room", ("entered", "the meeting room"), ("enter", "the meeting room")),
        ("See rooms", ("saw", "rooms"), ("see", "rooms")),
        ("Pay suppliers", ("paid", "suppliers"), ("pay", "suppliers")),
        ("Copy files", ("copied", "files"), ("copy", "files")),
        ("Read", ("read", ""), ("read", "")),
        ("Finance reports", ("used", "“Finance reports”"), ("use", "“Finance reports”")),
        ("", ("used", "“”"), ("use", "“”")),
    ],
)
def test_a_permission_becomes_a_sentence(words, done, wanted):
    assert past(words) == done and infinitive(words) == wanted


def test_every_action_that_is_not_a_call_has_its_words():
    told = set(ACTS) | set(CALLS) | {Action.CALL_FINISHED}
    assert {action for action in Action if action not in told} == set()


@pytest.mark.django_db
def test_calls_and_acts_are_told_with_names():
    acme = cast.acme()
    agent = cast.assistant(acme)
    grant = cast.matts_grant(acme, agent)
    a_call(acme, agent, grant)
    a_call(acme, agent, grant, decision="refuse", reasons=["grant_says_never"], scope="finance:enter")
    agent.suspend(by=acme.owner, reason="Enough")
    said = [line.words for line in tell(acme.tenant, Event.objects.filter(tenant=acme.tenant).order_by("id"))]
    assert "Matt's assistant entered the meeting room for Matt" in said
    assert "Matt's assistant tried to enter the finance department for Matt" in said
    assert "Ada Lindqvist suspended Matt's assistant “Enough”" in said
    assert "Matt Okafor let Matt's assistant into Office" in said


@pytest.mark.django_db
def test_telling_many_asks_no_more_often_than_telling_few(django_assert_max_num_queries):
    acme = cast.acme()
    agent = cast.assistant(acme)
    grant = cast.matts_grant(acme, agent)
    for _ in range(30):
        a_call(acme, agent, grant)
    events = list(Event.objects.filter(tenant=acme.tenant))
    with django_assert_max_num_queries(8):
        tell(acme.tenant, events)
