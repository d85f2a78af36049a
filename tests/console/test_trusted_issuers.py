"""Trusting issuers and letting workloads in, on the admin's pages."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from django.db import connection
from django.test import Client

from agentauth.agents.models import Agent, Credential, MemberLink, TrustedIssuer
from agentauth.oauth import kept
from agentauth.oauth.trust import keys
from agentauth.outbound.fetch import FetchFailed
from tenants.rls import set_tenant
from tests import cast
from tests.cast import House, signed_in
from tests.oauth.provider import ACTIONS, Provider

pytestmark = pytest.mark.django_db
HERE = "/t/acme/settings/trusted/"


@pytest.fixture
def acme() -> House:
    return cast.acme()


@pytest.fixture
def ada(acme: House) -> Client:
    return signed_in(acme.owner)


def new(**changes: Any) -> dict[str, Any]:
    said = {
        "kind": "workload",
        "name": "GitHub Actions",
        "issuer": ACTIONS,
        "keys_from": "pasted",
        "jwks": orjson.dumps(Provider().jwks).decode(),
        "ceiling_risk": "change",
        "grant_days": "30",
        "act_order": "",
    }
    return said | changes


def page(answer: Any) -> str:
    assert answer.status_code in (200, 422), (answer.status_code, answer.content[:300])
    return str(answer.content.decode())


def autonomous(house: House) -> Agent:
    return cast.assistant(house, name="Nightly", kind="autonomous", auth_method="workload_identity", redirect_uris=[])


def test_an_issuer_is_trusted_suspended_trusted_again_and_removed(acme: House, ada: Client) -> None:
    assert "Nobody yet" in page(ada.get(HERE))
    answer = ada.post(f"{HERE}new/", new())
    assert answer.status_code == 303
    shown = page(ada.get(answer["Location"]))
    assert "One key found, for ES256." in shown and "http://localhost:8000/t/acme" in shown
    assert "GitHub Actions" in page(ada.get(HERE))
    assert ada.post(f"{answer['Location']}suspend/").status_code == 303
    assert "Trust it again" in page(ada.get(answer["Location"]))
    assert ada.post(f"{answer['Location']}let-back/").status_code == 303
    assert "Remove GitHub Actions?" in page(ada.get(f"{answer['Location']}remove/"))
    assert ada.post(f"{answer['Location']}remove/")["Location"] == HERE
    assert ada.get(answer["Location"]).status_code == 404
    done = [one.action for one in acme.events() if one.subject_kind == "issuer"]
    assert done == ["issuer.trusted", "issuer.suspended", "issuer.let_back", "issuer.removed"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"issuer": "github"}, "An issuer is a web address"),
        ({"jwks": "nonsense"}, "This is not JSON"),
        ({"jwks": '{"keys": []}'}, "There is no key that can be used"),
        ({"jwks": ""}, "Paste the key set"),
        ({"keys_from": "address"}, "Give the address of the key set"),
        ({"kind": "enterprise", "email_domains": "acme"}, "Write domains such as acme.example"),
        ({"name": ""}, "required"),
        ({"grant_days": "0"}, "greater than or equal to 1"),
    ],
)
def test_what_is_wrong_is_said_and_what_was_typed_stays(ada: Client, changes: dict[str, str], words: str) -> None:
    answer = ada.post(f"{HERE}new/", new(**changes))
    assert answer.status_code == 422 and words in page(answer)
    assert TrustedIssuer.objects.count() == 0


def test_an_issuer_that_does_not_answer_is_not_trusted(ada: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: Any, **__: Any) -> Any:
        raise FetchFailed("token.actions.githubusercontent.com cannot be reached.")

    keys.forget()
    monkeypatch.setattr(kept, "fetch", down)
    answer = ada.post(f"{HERE}new/", new(keys_from="discovery", jwks=""))
    assert "cannot be reached" in page(answer) and TrustedIssuer.objects.count() == 0


def test_no_transaction_is_open_while_an_issuer_is_asked(
    acme: House, ada: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_ones: list[int] = []

    def slow(*_: Any, **__: Any) -> Any:
        open_ones.append(len(connection.savepoint_ids))
        raise FetchFailed("It took longer than 5 seconds.")

    keys.forget()
    monkeypatch.setattr(kept, "fetch", slow)
    wanted = new(keys_from="discovery", jwks="")
    assert "took longer" in page(ada.post(f"{HERE}new/", wanted))
    assert ada.post(f"{HERE}new/", wanted | {"name": ""}).status_code == 422  # our own complaints cost no request
    there = Provider().trusted_by(acme, keys_from="discovery", jwks=None)
    answer = ada.post(f"{HERE}{there.id}/look/", follow=True)
    assert "took longer" in page(answer)
    assert open_ones == [0, 0], "only the test's own transaction is open"
    done = [one.action for one in acme.events() if one.subject_kind == "issuer"]
    assert done == ["issuer.trusted"], "that of the one that was trusted here"


def test_what_is_on_the_list_already_is_not_asked(acme: House, ada: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "fetch", lambda *_, **__: pytest.fail("asked"))
    Provider(ACTIONS).trusted_by(acme, kind="workload")
    answer = ada.post(f"{HERE}new/", new(keys_from="discovery", jwks=""))
    assert "on the list already" in page(answer) and TrustedIssuer.objects.count() == 1


def test_only_who_administers_sees_or_changes_it(acme: House) -> None:
    trust = Provider().trusted_by(acme)
    matt = signed_in(acme.members["matt"])
    for path in ("", "new/", f"{trust.id}/", f"{trust.id}/remove/"):
        assert matt.get(HERE + path).status_code == 403
    assert matt.post(f"{HERE}{trust.id}/suspend/").status_code == 403
    assert matt.post(f"{HERE}new/", new()).status_code == 403


def test_another_tenants_issuer_is_not_there(acme: House, ada: Client) -> None:
    theirs = Provider().trusted_by(cast.globex())
    set_tenant(acme.tenant.id)
    for path in ("", "remove/"):
        assert ada.get(f"{HERE}{theirs.id}/{path}").status_code == 404
    assert ada.post(f"{HERE}{theirs.id}/suspend/").status_code == 404


def test_a_person_it_has_named_is_forgotten(acme: House, ada: Client) -> None:
    trust = Provider().trusted_by(acme)
    link = MemberLink.objects.create(
        tenant=acme.tenant, trusted_issuer=trust, subject="00u-<b>", member=acme.members["matt"]
    )
    shown = page(ada.get(f"{HERE}{trust.id}/"))
    assert "Matt Okafor" in shown and "00u-&lt;b&gt;" in shown
    assert ada.post(f"{HERE}{trust.id}/people/{link.id}/forget/").status_code == 303
    assert len(acme.events("member.unlinked")) == 1 and not MemberLink.objects.filter(id=link.id).exists()


def test_a_workflow_is_let_in_after_it_was_said_whom_that_means(acme: House, ada: Client) -> None:
    agent = autonomous(acme)
    path = f"/t/acme/agents/{agent.id}/workload/new/?at=github"
    assert "Trust GitHub Actions" in page(ada.get(path))
    trust = Provider(ACTIONS).trusted_by(acme, "workload", name="GitHub Actions")
    said = {"issuer": str(trust.id), "repository": "acme/app", "branch": "main", "environment": ""}
    first = page(ada.post(path, said))
    sentence = "GitHub Actions where repository is acme/app and ref is refs/heads/main"
    assert sentence in first and not Credential.objects.filter(agent=agent).exists()
    changed = page(ada.post(path, said | {"sure": sentence, "branch": ""}))  # not what was shown
    assert "Who this lets in" in changed and not Credential.objects.filter(agent=agent).exists()
    assert ada.post(path, said | {"sure": sentence}).status_code == 303
    (credential,) = Credential.objects.filter(agent=agent)
    assert credential.claim_rules == {"repository": "acme/app", "ref": "refs/heads/main"}
    assert "repository is acme/app" in page(ada.get(f"/t/acme/agents/{agent.id}/"))
    assert "repository is acme/app" in page(ada.get(f"{HERE}{trust.id}/"))


@pytest.mark.parametrize(
    ("at", "said", "words"),
    [
        ("github", {"repository": "acme/*"}, "too wide"),
        ("kubernetes", {"namespace": "shop", "service_account": "*"}, ""),
        ("other", {"rules_text": "ref = refs/heads/main"}, "Name at least one of"),
        ("other", {"rules_text": "nonsense"}, "on a line of its own"),
        ("other", {"rules_text": "sub = repo:acme/*"}, "too wide"),
    ],
)
def test_a_rule_that_is_too_wide_is_refused_in_words(
    acme: House, ada: Client, at: str, said: dict[str, str], words: str
) -> None:
    agent = autonomous(acme)
    issuer = "https://cluster.example" if at == "kubernetes" else ACTIONS
    trust = Provider(issuer).trusted_by(acme, "workload")
    answer = page(ada.post(f"/t/acme/agents/{agent.id}/workload/new/?at={at}", said | {"issuer": str(trust.id)}))
    assert words in answer and not Credential.objects.filter(agent=agent).exists()


def test_an_agent_may_be_registered_without_key_or_secret_and_is_then_told_where_it_runs(
    acme: House, ada: Client
) -> None:
    said = {"name": "Deployer", "purpose": "Ships", "owner": str(acme.owner.id), "kind": "autonomous"}
    answer = ada.post("/t/acme/agents/new/", said | {"proof": "workload", "redirect_uris": "", "valid_until": ""})
    agent = Agent.objects.get(name="Deployer")
    assert answer.status_code == 303 and answer["Location"] == f"/t/acme/agents/{agent.id}/workload/new/"
    assert agent.token_endpoint_auth_method == "workload_identity" and not agent.credentials.exists()


def test_a_person_reads_who_allowed_it(acme: House) -> None:
    agent = cast.assistant(acme)
    grant = cast.matts_grant(acme, agent)
    type(grant).objects.filter(pk=grant.pk).update(
        given_by=acme.owner, purpose="Allowed by Acme SSO (https://idp.acme.example)"
    )
    shown = page(signed_in(acme.members["matt"]).get("/t/acme/my/agents/"))
    assert "Allowed by Acme SSO (https://idp.acme.example)" in shown
