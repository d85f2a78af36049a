"""Acme and Globex, Matt's assistant with a secret, and a browser in which Matt has signed in."""

from collections.abc import Iterator

import pytest
from django.db import transaction

from agentauth.agents.registering import add_secret
from tests import cast
from tests.oauth.browser import Flow
from tests.oauth.serving import Serving, await_hearing, serving


@pytest.fixture
def acme(transactional_db: None) -> cast.House:
    with transaction.atomic():
        return cast.acme()


@pytest.fixture
def globex(acme: cast.House) -> cast.House:
    with transaction.atomic():
        house = cast.globex()
        house.office = cast.office(house)
        return house


@pytest.fixture
def flow(acme: cast.House) -> Flow:
    """Matt's assistant, confidential."""
    with transaction.atomic():
        from tenants.rls import set_tenant

        set_tenant(acme.tenant.id)
        agent = cast.assistant(acme)
        _, secret = add_secret(agent, by=acme.owner)
    return Flow(acme, agent, secret).sign_in()


@pytest.fixture
def public(acme: cast.House) -> Flow:
    """Matt's assistant as a public client."""
    from tenants.rls import in_tenant

    with in_tenant(acme.tenant.id):
        agent = cast.assistant(acme, auth_method="none")
    return Flow(acme, agent).sign_in()


@pytest.fixture
def served(acme: cast.House) -> Iterator[Serving]:
    """The control plane's lane and Django, on a loop of their own; what changed until now was heard."""
    with serving() as here:
        await_hearing(here)
        yield here
