"""Somebody else's organisation looks exactly like none."""

from __future__ import annotations

import re

import pytest

from tests import cast

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("tail", ["", "agents/", "members/", "audit/", "my/inbox/"])
def test_another_organisation_and_none_are_the_same_page(tail: str) -> None:
    cast.acme()
    gus = cast.signed_in(cast.globex().owner)

    def page(slug: str) -> tuple[int, str]:
        answer = gus.get(f"/t/{slug}/{tail}")
        text = re.sub(r'csrfmiddlewaretoken" value="\w+"', "", answer.content.decode())
        return answer.status_code, text.replace(slug, "…")

    assert page("acme") == page("no-such-place")
