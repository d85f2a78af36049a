"""Trusted issuers and workload identities over REST: the same checks, rights and record as in the console."""

from __future__ import annotations

from typing import Any

import pytest

from agentauth.agents.models import TrustedIssuer
from agentauth.oauth import kept
from agentauth.oauth.trust import keys
from agentauth.outbound.fetch import FetchRefused
from tenants.rls import set_tenant
from tests import cast
from tests.api.tokens import helper_of, management_agent, robot
from tests.cast import House
from tests.oauth.provider import ACTIONS, DOMAIN, IDP, Provider

pytestmark = pytest.mark.django_db


@pytest.fixture
def acme() -> House:
    return cast.acme()


def new(**changes: Any) -> dict[str, Any]:
    said = {"kind": "workload", "name": "GitHub Actions", "issuer": ACTIONS, "keys_from": "pasted"}
    return {name: value for name, value in (said | {"jwks": Provider().jwks} | changes).items() if value is not None}


def wrong(answer: Any, field: str) -> str:
    """What is said about the one field that is wrong."""
    assert answer.status_code == 422, answer.content
    (error,) = answer.json()["errors"]
    assert error["field"].partition(".")[0] == field, error
    return str(error["detail"])


def test_an_issuer_is_trusted_read_suspended_let_back_and_removed(acme: House) -> None:
    api = robot(acme)
    answer = api.post("/trusted-issuers", new())
    assert answer.status_code == 201, answer.content
    made = answer.json()
    assert made["issuer"] == ACTIONS and made["ceiling_risk"] == "change" and made["act_order"] == ""
    here = f"/trusted-issuers/{made['id']}"
    assert api.get(here).json() == made and api.get("/trusted-issuers").json()["items"] == [made]
    assert api.post(f"{here}/suspend").json()["trusted_issuer"]["suspended_at"]
    assert api.post(f"{here}/suspend").status_code == 409
    assert api.post(f"{here}/let-back").json()["suspended_at"] is None
    assert api.post(f"{here}/remove").json()["ended"]["grants"] == 0
    assert api.post(f"{here}/let-back").status_code == 409
    done = ["issuer.trusted", "issuer.suspended", "issuer.let_back", "issuer.removed"]
    assert [one.action for one in acme.events() if one.subject_kind == "issuer"] == done
    assert api.post("/trusted-issuers", new()).status_code == 201  # it may be added anew


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown kind": ({"kind": "other"}, "kind"),
    "no name": ({"name": " "}, "name"),
    "a name that turns what follows": ({"name": "SSO \u202eEMCA"}, "name"),
    "an issuer that is no address": ({"issuer": "github"}, "issuer"),
    "an issuer with a query": ({"issuer": f"{IDP}?x=1"}, "issuer"),
    "an issuer of another scheme": ({"issuer": "file:///etc/passwd"}, "issuer"),
    "a trust domain with a path": ({"kind": "spiffe", "issuer": f"{DOMAIN}/x"}, "issuer"),
    "a trust domain without an address": (
        {"kind": "spiffe", "issuer": DOMAIN, "keys_from": "discovery", "jwks": None}, "keys_from",
    ),
    "no keys": ({"jwks": None}, "jwks"),
    "an empty set": ({"jwks": {"keys": []}}, "jwks"),
    "a set that is none": ({"jwks": {}}, "jwks"),
    "a private key": ({"jwks": {"keys": [{"kty": "EC", "d": "x"}]}}, "jwks"),
    "a shared secret": ({"jwks": {"keys": [{"kty": "oct", "k": "x"}]}}, "jwks"),
    "keys and an address": ({"jwks_uri": f"{IDP}/keys"}, "jwks_uri"),
    "an address left out": ({"keys_from": "address", "jwks": None}, "jwks_uri"),
    "a symmetric algorithm": ({"algorithms": ["HS256"]}, "algorithms"),
    "no algorithm": ({"algorithms": []}, "algorithms"),
    "a domain that is none": ({"email_domains": ["acme"]}, "email_domains"),
    "an unknown class": ({"ceiling_risk": "all"}, "ceiling_risk"),
    "for ever": ({"grant_days": 400}, "grant_days"),
    "an order of machines": ({"act_order": "standard"}, "act_order"),
    "an unknown field": ({"trusted": True}, "trusted"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_and_nothing_is_trusted(acme: House, name: str) -> None:
    changes, field = WRONG[name]
    answer = robot(acme).post("/trusted-issuers", new(**changes))
    wrong(answer, field)
    set_tenant(acme.tenant.id)
    assert not TrustedIssuer.objects.exists()


def test_an_issuer_that_cannot_be_reached_is_not_trusted(acme: House, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bool] = []

    def nowhere(*_: Any, **__: Any) -> Any:
        written.append(TrustedIssuer.objects.exists())
        raise FetchRefused("10.0.0.1 is in a private network.")

    keys.forget()
    monkeypatch.setattr(kept, "fetch", nowhere)
    for changes, field in (
        ({"keys_from": "discovery", "jwks": None}, "issuer"),
        ({"keys_from": "address", "jwks": None, "jwks_uri": "https://10.0.0.1/keys"}, "jwks_uri"),
    ):
        answer = robot(acme).post("/trusted-issuers", new(**changes))
        assert "private network" in wrong(answer, field)
    set_tenant(acme.tenant.id)
    assert not TrustedIssuer.objects.exists() and not acme.events("issuer.trusted")
    assert written == [False, False], "nothing waits to be written, and to be locked, while it is asked"


def test_the_same_issuer_is_on_the_list_once(acme: House) -> None:
    api = robot(acme)
    assert api.post("/trusted-issuers", new()).status_code == 201
    wrong(api.post("/trusted-issuers", new()), "issuer")
    Provider(issuer=ACTIONS).trusted_by(acme)  # for another purpose


def test_who_may_not_administer_trusts_nobody(acme: House) -> None:
    api = helper_of(acme, acme.members["matt"], grants__read="always")
    assert api.post("/trusted-issuers", new()).status_code == 403
    assert robot(acme, "agents:read").post("/trusted-issuers", new()).status_code == 403


def test_another_tenants_issuer_is_not_there(acme: House) -> None:
    theirs = Provider().trusted_by(cast.globex())
    set_tenant(acme.tenant.id)
    api = robot(acme)
    assert api.get(f"/trusted-issuers/{theirs.id}").status_code == 404
    assert api.post(f"/trusted-issuers/{theirs.id}/remove").status_code == 404


def test_a_workload_is_let_in(acme: House) -> None:
    trust = Provider(ACTIONS).trusted_by(acme, "workload")
    agent = management_agent(acme, "The nightly run")
    api, path = robot(acme), f"/agents/{agent.id}/credentials"
    rules = {"repository": "acme/app", "ref": "refs/heads/main"}
    answer = api.post(path, {"kind": "workload", "trusted_issuer": str(trust.id), "claims": rules})
    assert answer.status_code == 201, answer.content
    assert answer.json()["credential"]["claims"] == rules and "secret" not in answer.json()
    for change, field in (
        ({"claims": {"ref": "refs/heads/main"}}, "claims"),
        ({"claims": {"repository": 5}}, "claims"),
        ({"claims": None}, "claims"),
        ({"trusted_issuer": None}, "trusted_issuer"),
        ({"trusted_issuer": str(agent.id)}, "trusted_issuer"),
        ({"public_jwk": {}}, "public_jwk"),
    ):
        said: dict[str, Any] = {"kind": "workload", "trusted_issuer": str(trust.id), "claims": rules} | change
        wrong(api.post(path, {name: value for name, value in said.items() if value is not None}), field)
    wrong(api.post(path, {"kind": "secret", "claims": rules}), "claims")
