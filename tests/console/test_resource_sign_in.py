"""Which sign-in a resource takes (RFC 9470): chosen by an admin, on record, heard by the next call."""

import pytest

from agentauth.grants.models import SignInRule
from agentauth.grants.sign_in_rules import demand_sign_in
from agentauth.policy.conditions.sign_in import LEVELS
from tests import cast
from tests.api.tokens import robot

pytestmark = pytest.mark.django_db
HERE = "/t/acme/resources/office/sign-in/"


@pytest.fixture
def acme():
    return cast.acme()


def rule_of(acme):
    return SignInRule.objects.filter(tenant=acme.tenant, resource=acme.office).first()


def changes(acme):
    return [event.details.get("sign_in", "other") for event in acme.events("resource.changed")]


def test_an_admin_asks_for_more_and_for_less_again(acme):
    ada = cast.signed_in(acme.owner)
    page = ada.get(HERE).content.decode()
    assert 'name="from_risk" value="none" checked' in page and 'name="max_age" value="" checked' in page
    said = {"from_risk": "dangerous", "acr": "2fa", "max_age": "900"}
    assert ada.post(HERE, said).status_code == 303
    rule = rule_of(acme)
    assert (rule.from_risk, rule.acr, rule.max_age) == ("dangerous", "2fa", 900)
    page = ada.get("/t/acme/resources/office/").content.decode()
    assert "a second factor or a passkey, not longer ago than 15 minutes, for dangerous calls" in page
    assert ada.post(HERE, {"from_risk": "none", "acr": "2fa"}).status_code == 303
    assert rule_of(acme) is None
    assert changes(acme) == [said | {"max_age": 900}, None]


def test_nobody_but_an_admin_decides_that(acme):
    for name in ("matt", "cora"):
        assert cast.signed_in(acme.members[name]).post(HERE, {"from_risk": "none", "acr": "1fa"}).status_code == 403


@pytest.mark.parametrize("said", [{"from_risk": "huge"}, {"acr": "gold"}, {"max_age": "7"}])
def test_what_was_not_offered_is_not_taken(acme, said):
    answer = cast.signed_in(acme.owner).post(HERE, {"from_risk": "read", "acr": "1fa", "max_age": ""} | said)
    assert answer.status_code == 422 and rule_of(acme) is None


def test_an_age_set_over_rest_stays_on_the_form(acme):
    demand_sign_in(acme.office, from_risk="read", acr="1fa", max_age=7200, by=acme.owner)
    assert 'value="7200" checked' in cast.signed_in(acme.owner).get(HERE).content.decode()


def test_the_same_over_rest(acme):
    api = robot(acme)
    path = f"/resources/{acme.office.id}"
    said = {"from_risk": "change", "acr": "phr", "max_age": None}
    assert api.get(path).json()["sign_in"] is None
    assert api.patch(path, {"sign_in": said}).json()["sign_in"] == said
    assert api.patch(path, {"name": "Office"}).json()["sign_in"] == said
    for wrong in ({"acr": "gold"}, {"max_age": 5}, {"from_risk": "huge"}):
        assert api.patch(path, {"sign_in": said | wrong}).status_code == 422
    assert api.patch(path, {"sign_in": None}).json()["sign_in"] is None
    assert [one for one in changes(acme) if one != "other"] == [said, None]


def test_the_levels_are_those_that_the_policy_knows():
    assert tuple(SignInRule.Level.values) == LEVELS
