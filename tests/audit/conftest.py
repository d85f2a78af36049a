"""Acme and Globex, committed: the sequencer reads them through a connection of its own."""

from __future__ import annotations

import pytest
from django.db import transaction

from tests import cast


@pytest.fixture
def acme(transactional_db: None) -> cast.House:
    with transaction.atomic():
        return cast.acme()


@pytest.fixture
def globex(transactional_db: None) -> cast.House:
    with transaction.atomic():
        return cast.globex()
