"""Many at once with one ID-JAG, and many first uses at once."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connections
from django.utils.timezone import now

from agentauth.agents.models import Credential, MemberLink, TrustedIssuer
from agentauth.grants.models import Grant
from tenants.rls import in_tenant
from tests.cast import House
from tests.oauth.browser import Flow
from tests.oauth.provider import Provider
from tests.oauth.test_id_jag import TYPE, bring, claims_for, read, redeem


@pytest.fixture
def idp(acme: House) -> Provider:
    return Provider()


@pytest.fixture
def trust(idp: Provider, acme: House) -> TrustedIssuer:
    return idp.trusted_by(acme)


def test_of_many_who_bring_it_at_once_one_has_it(flow: Flow, idp: Provider, trust: TrustedIssuer) -> None:
    read(bring(flow, idp))
    assertion, found = idp.sign(claims_for(flow), TYPE), []
    ready = threading.Barrier(6)

    def one() -> None:
        ready.wait()
        found.append(redeem(flow, assertion).status_code)
        connections.close_all()

    threads = [threading.Thread(target=one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [200] + [400] * 5


def test_first_uses_at_the_same_moment_make_one_link_and_one_grant(
    flow: Flow, idp: Provider, trust: TrustedIssuer
) -> None:
    found: list[int] = []
    ready = threading.Barrier(5)

    def one() -> None:
        ready.wait()
        found.append(bring(flow, idp).status_code)
        connections.close_all()

    threads = [threading.Thread(target=one) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [200] * 5
    with in_tenant(flow.house.tenant.id):
        assert MemberLink.objects.count() == 1 and Grant.objects.count() == 1


def test_noting_the_last_use_waits_for_nobody_and_is_done_once_a_minute(
    flow: Flow, idp: Provider, trust: TrustedIssuer
) -> None:
    read(bring(flow, idp))
    used, found = (MemberLink, TrustedIssuer, Credential), []
    before = now() - timedelta(minutes=2)

    def one() -> None:
        found.append(bring(flow, idp).status_code)
        connections.close_all()

    with in_tenant(flow.house.tenant.id):
        for kind in used:
            kind.objects.update(last_used_at=before)
    with in_tenant(flow.house.tenant.id):  # as a request would that has not finished yet
        assert all(kind.objects.select_for_update().get() for kind in used)
        thread = threading.Thread(target=one)
        thread.start()
        thread.join(timeout=20)
        assert found == [200]
    times = []
    for _ in range(2):
        read(bring(flow, idp))
        with in_tenant(flow.house.tenant.id):
            times.append([kind.objects.get().last_used_at for kind in used])
    assert times[0] == times[1] and all(at is not None and at > before for at in times[0])
