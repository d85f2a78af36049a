"""Client ids that no client has, in every way that a client can name itself: 401, never a failure."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from typing import Any
from urllib.parse import urlencode

import pytest
from django.test import Client

from agentauth.oauth.client_assertion import ASSERTION_TYPE
from tests import cast

pytestmark = pytest.mark.django_db
FORM = "application/x-www-form-urlencoded"
NO_IDS = ("a\0b", "\ud800", "x" * 3000, "ü", " ", "a\nb")


def part(value: Any) -> str:
    return urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize("endpoint", ["token", "revoke", "introspect"])
@pytest.mark.parametrize("name", NO_IDS)
def test_an_assertion_about_nobody_is_refused(endpoint: str, name: str) -> None:
    house = cast.acme()
    said = {
        "grant_type": "client_credentials",
        "token": "x",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": f"{part({'alg': 'ES256'})}.{part({'sub': name, 'iss': name})}.AAAA",
    }
    answer = Client().post(f"/t/acme/oauth/{endpoint}", urlencode(said), content_type=FORM)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    (event,) = house.events("client.refused")
    assert event.reasons == ["unknown_client"]


def test_a_basic_name_that_decodes_to_nul_is_refused() -> None:
    cast.acme()
    basic = "Basic " + b64encode(b"%00%ED%A0%80:x").decode()
    browser = Client(headers={"Authorization": basic})
    answer = browser.post("/t/acme/oauth/token", "grant_type=client_credentials", content_type=FORM)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
