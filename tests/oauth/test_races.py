"""Single-use things under many callers at once, over real connections: never two successes, no orphan, never a 500.

Each race also runs with its lock taken out, and must then be seen to fail: a race that cannot fail proves nothing.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from django.core import signing
from django.db import connections

from agentauth.agents.models import Agent
from agentauth.keys.signing import sign
from agentauth.oauth import families, possession, self_registration
from agentauth.oauth import token as token_endpoint
from agentauth.oauth.grants import authorization_code, refresh_token
from agentauth.oauth.models import AuthorizationCode, RefreshToken, SpentOnce
from agentauth.oauth.own_token import read_own_token
from agentauth.oauth.spent import spend_once
from tenants.models import Tenant, secret_hash
from tenants.rls import in_tenant
from tests.cast import House, events_of
from tests.oauth.browser import Flow, form_of, register
from tests.oauth.proofs import Holder

CALLERS = 12


def together(act: Callable[[], Any], callers: int = CALLERS) -> list[Any]:
    """The answers of `callers` threads that all begin at the same moment."""
    barrier, answers = threading.Barrier(callers), []

    def run() -> None:
        try:
            barrier.wait()
            answers.append(act())
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def statuses(answers: list[Any]) -> Counter[int]:
    return Counter(answer.status_code for answer in answers)


def live_tokens(flow: Flow, answers: list[Any]) -> int:
    """How many of the tokens that were handed out still count."""
    given = [answer.json() for answer in answers if answer.status_code == 200]
    with in_tenant(flow.house.tenant.id):
        access = [read_own_token(flow.house.tenant, tokens["access_token"]) is not None for tokens in given]
        rows = RefreshToken.objects.filter(spent_at=None, revoked_at=None).count()
    return sum(access) + rows


def race_codes(flow: Flow, rounds: int) -> tuple[Counter[int], int]:
    seen: Counter[int] = Counter()
    most = 0
    for _ in range(rounds):
        code = flow.code()
        answers = together(lambda code=code: flow.redeem(code))  # type: ignore[misc]
        counted = statuses(answers)
        seen += counted
        most = max(most, counted[200])
        assert counted[200] == 1
        assert live_tokens(flow, answers) == 0  # all but one came second, so nobody keeps anything
    return seen, most


def race_refreshes(flow: Flow, rounds: int) -> tuple[Counter[int], int]:
    seen: Counter[int] = Counter()
    most = 0
    for _ in range(rounds):
        token = flow.tokens()["refresh_token"]
        answers = together(lambda token=token: flow.refresh(token))  # type: ignore[misc]
        counted = statuses(answers)
        seen += counted
        most = max(most, counted[200])
        assert counted[200] == 1
        assert live_tokens(flow, answers) == 0
    return seen, most


def test_a_code_has_one_winner_who_keeps_nothing_once_others_came(public: Flow) -> None:
    seen, most = race_codes(public, 10)
    assert most == 1 and set(seen) == {200, 400}
    assert len(events_of(public.house.tenant.id, "token.issued")) == 10


def test_a_refresh_token_has_one_winner_and_its_family_ends(public: Flow) -> None:
    seen, most = race_refreshes(public, 10)
    assert most == 1 and set(seen) == {200, 400}


def test_a_question_has_one_answer(public: Flow) -> None:
    for _ in range(3):
        form = form_of(public.authorize(prompt="consent")) | {"answer": "allow"}
        cookies = public.browser.cookies

        def answer(form: Any = form, cookies: Any = cookies) -> Any:
            from django.test import Client

            browser = Client()
            browser.cookies = cookies
            return browser.post(public.path("consent"), form)

        counted = statuses(together(answer))
        assert counted[303] == 1 and set(counted) == {303, 400}


def test_a_form_of_another_version_is_refused(public: Flow) -> None:
    """Two versions run beside each other during an upgrade; the person starts again."""
    salt = f"agentauth.oauth.consent/{public.house.tenant.id}"
    form = form_of(public.authorize(prompt="consent"))
    said = signing.loads(form["request"], salt=salt)
    for changes in ({"sign_in": None}, {"asked": {"of": "tomorrow"}}, {"member": "nobody"}):
        form["request"] = signing.dumps(said | changes, salt=salt, compress=True)
        answer = public.browser.post(public.path("consent"), form | {"answer": "allow"})
        assert answer.status_code == 400 and b"another version" in answer.content
    refused = events_of(public.house.tenant.id, "authorization.refused")
    assert [event.reasons for event in refused] == [["consent_old"]] * 3


def end_while_rotating(flow: Flow) -> int:
    """The family ends just while one of it is being rotated; how many of it are alive afterwards."""
    token = flow.tokens()["refresh_token"]
    with in_tenant(flow.house.tenant.id):
        family = RefreshToken.objects.get(token_hash=secret_hash(token)).family
    rotating, ended = threading.Event(), threading.Event()

    def slow_sign(*args: Any) -> str:
        rotating.set()
        ended.wait(0.5)  # who ends it cannot come before us; a mutant can
        return sign(*args)

    def end() -> None:
        try:
            assert rotating.wait(10)
            with in_tenant(flow.house.tenant.id):
                families.revoke_family(flow.house.tenant.id, family)
            ended.set()
        finally:
            connections.close_all()

    other = threading.Thread(target=end)
    other.start()
    with mock.patch.object(token_endpoint, "sign", slow_sign):
        flow.refresh(token)
    other.join()
    with in_tenant(flow.house.tenant.id):
        return RefreshToken.objects.filter(family=family, revoked_at=None).count()


def test_an_ended_family_has_no_orphan(public: Flow) -> None:
    assert end_while_rotating(public) == 0


def race_proofs(flow: Flow, rounds: int) -> None:
    """One proof (RFC 9449 §11.1) with many requests at once, each a new one."""
    url = f"{flow.issuer}/oauth/par"
    for _ in range(rounds):
        headers = {"DPoP": Holder().proof("POST", url)}
        answers = together(lambda headers=headers: flow.post("par", flow.request() | flow.proof(), **headers))  # type: ignore[misc]
        assert statuses(answers) == {201: 1, 400: CALLERS - 1}


def test_a_proof_has_one_request(public: Flow) -> None:
    race_proofs(public, 10)
    refused = events_of(public.house.tenant.id, "authorization.refused")
    assert [event.reasons for event in refused] == [["proof_replayed"]] * 10 * (CALLERS - 1)


# Mutants


def test_the_proof_race_catches_a_look_before_the_write(public: Flow) -> None:
    def look(tenant_id: Any, kind: str, mark: bytes, ends: Any) -> bool:
        is_new = not SpentOnce.objects.filter(tenant_id=tenant_id, kind=kind, value_hash=mark).exists()
        return is_new and (spend_once(tenant_id, kind, mark, ends) or True)

    with mock.patch.object(possession, "spend_once", look), pytest.raises(AssertionError):
        race_proofs(public, 20)


def _unlocked_code(code: str, client: Any) -> AuthorizationCode:
    rows = AuthorizationCode.objects.filter(tenant_id=client.tenant_id, code_hash=secret_hash(code))
    return rows.select_related("grant__member__user", "grant__resource").get()


def test_the_code_race_catches_a_missing_lock(public: Flow) -> None:
    with mock.patch.object(authorization_code, "find", _unlocked_code), pytest.raises(AssertionError):
        race_codes(public, 20)


def test_the_refresh_race_catches_a_missing_lock(public: Flow) -> None:
    def unlocked(token: str, client: Any) -> RefreshToken:
        rows = RefreshToken.objects.filter(tenant_id=client.tenant_id, token_hash=secret_hash(token))
        return rows.select_related("grant__member__user", "grant__resource").get()

    with mock.patch.object(refresh_token, "find", unlocked), pytest.raises(AssertionError):
        race_refreshes(public, 20)


def test_the_orphan_race_catches_a_missing_lock(public: Flow) -> None:
    with mock.patch.object(refresh_token, "hold_family", return_value=None):
        assert end_while_rotating(public) == 1


def race_registrations(house: House) -> int:
    """How many numbers were given out to as many as could register at once."""
    said = {"redirect_uris": ["https://a.example/cb"], "token_endpoint_auth_method": "none"}
    assert statuses(together(lambda: register(house, said))) == {201: CALLERS}
    with in_tenant(house.tenant.id):
        return Agent.objects.filter(registration=Agent.Registration.DYNAMIC).distinct("number").count()


def test_each_of_many_who_register_at_once_has_a_number_of_its_own(acme: House) -> None:
    assert race_registrations(acme) == CALLERS


def test_the_race_of_registrations_catches_a_missing_lock(acme: House) -> None:
    met = threading.Barrier(CALLERS)

    def unlocked(tenant: Tenant) -> int:
        last = tenant.agents.order_by("-number").values_list("number", flat=True).first() or 0
        met.wait(30)
        return last + 1

    with mock.patch.object(self_registration, "next_number", unlocked):
        assert race_registrations(acme) < CALLERS
