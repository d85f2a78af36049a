"""What browsers are told: nothing inline, nothing from elsewhere, nobody frames us."""

import re

import pytest
from django.http import HttpResponse

from agentauth.console.headers import POLICY, policy, widen
from tests import cast

pytestmark = pytest.mark.django_db


def test_every_page_carries_the_policy_and_is_not_kept():
    acme = cast.acme()
    cast.assistant(acme)
    for path in ("/t/acme/", "/t/acme/agents/", "/t/acme/agents/new/", "/t/acme/nothing/"):
        answer = cast.signed_in(acme.owner).get(path)
        said = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in said and "script-src 'self';" in said and "unsafe" not in said
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert "no-store" in answer.headers["Cache-Control"]


def test_no_page_has_inline_script_or_style():
    acme = cast.acme()
    agent = cast.assistant(acme)
    cast.matts_grant(acme, agent)
    browser = cast.signed_in(acme.owner)
    for path in ("/t/acme/", "/t/acme/agents/", f"/t/acme/agents/{agent.id}/", "/t/acme/agents/new/", "/account/2fa/"):
        page = browser.get(path).content.decode()
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=\"|javascript:", page), path
        assert not re.search(r"<script(?![^>]*\b(src=|type=\"application/json\"))", page), path


def test_a_page_may_name_where_its_form_leads_and_nothing_more():
    page = HttpResponse()
    widen(page, "form-action", ["https://client.example", "https://evil.example; script-src *"])
    said = policy(getattr(page, "csp_wider"))  # noqa: B009
    assert "form-action 'self' https://client.example" in said
    assert "script-src *" not in said
    assert policy({}) == "; ".join(f"{name} {value}" for name, value in POLICY.items())
