"""Parameters as nobody should send them, fed to every endpoint that reads them: refused, never dropped, on record."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import quote_plus, urlencode

import pytest
from django.test import Client

from agentauth.oauth.parameters import Parameters
from audit.models import Event
from tenants.rls import in_tenant
from tests.cast import House, events_of
from tests.oauth import test_device as device
from tests.oauth.asking import asking_flow
from tests.oauth.browser import CALLBACK, Flow
from tests.oauth.entry_points import ENTRY_POINTS, EntryPoint, reading

CORPUS = json.loads((Path(__file__).parents[1] / "corpora" / "parameters.json").read_text())
FORM = "application/x-www-form-urlencoded"
MAY_REPEAT = ("resource", "audience")  # RFC 8707 §2, RFC 8693 §2.1
DESCRIPTION = re.compile(r"[\x20-\x21\x23-\x5b\x5d-\x7e]*\Z")  # RFC 6749 §5.2

Form = dict[str, str]
Sent = Callable[[str], Any]


def authorize(flow: Flow) -> Form:
    return {name: str(value) for name, value in flow.request(state="s").items()}


def par(flow: Flow) -> Form:
    return authorize(flow) | flow.proof()


def device_authorization(flow: Flow) -> Form:
    return {"scope": "rooms:read", "resource": flow.resource} | flow.proof()


def backchannel(flow: Flow) -> Form:
    return device_authorization(flow) | {"scope": "openid rooms:read", "login_hint": "matt@acme.example"}


def token(flow: Flow) -> Form:
    return {
        "grant_type": "authorization_code",
        "code": flow.code(),
        "redirect_uri": CALLBACK,
        "code_verifier": flow.verifier,
        "resource": flow.resource,
    } | flow.proof()


def presented(flow: Flow) -> Form:
    return {"token": flow.tokens()["refresh_token"], "token_type_hint": "refresh_token"} | flow.proof()


def plain(house: House, flow: Flow) -> Flow:
    return flow


def on_a_device(house: House, flow: Flow) -> Flow:
    return device.device_flow(house, name="A device")


def by_itself(house: House, flow: Flow) -> Flow:
    return asking_flow(house, name="An asker")


# Whose request, and what would be taken
GOOD: dict[str, tuple[Callable[[House, Flow], Flow], Callable[[Flow], Form]]] = {
    "oauth/authorize": (plain, authorize),
    "oauth/par": (plain, par),
    "oauth/device_authorization": (on_a_device, device_authorization),
    "oauth/bc-authorize": (by_itself, backchannel),
    "oauth/token": (plain, token),
    "oauth/revoke": (plain, presented),
    "oauth/introspect": (plain, presented),
}
READERS = [one for one in ENTRY_POINTS if one.reads & {"form", "query"}]


def sender(entry: EntryPoint, flow: Flow) -> Sent:
    path = f"/t/{flow.house.tenant.slug}/{entry.path}"
    if "query" in entry.reads:
        return lambda query: flow.browser.get(f"{path}?{query}")
    return lambda query: Client().post(path, query.encode(), content_type=FORM)


def odd_queries(good: Form) -> Iterator[tuple[str, str]]:
    filling = {"long": "y" * 8193, "many": "&z" * 65}
    for case in CORPUS:
        for name in good if case.get("each") else ("",):
            if name in MAY_REPEAT and "twice" in case["why"]:
                continue
            kept = {n: v for n, v in good.items() if n != name} if case.get("instead") else good
            value = quote_plus(good.get(name, ""))
            yield (
                f"{case['why']}: {name}",
                case["query"].format(form=urlencode(kept), name=name, value=value, **filling),
            )


def refusals_of(house: House) -> int:
    with in_tenant(house.tenant.id):
        return Event.objects.filter(tenant=house.tenant, action__endswith=".refused").count()


def let_through(entry: EntryPoint, flow: Flow) -> list[str]:
    """What was not refused as it should be, or not on record, or said again what it must not."""
    whose, form_of = GOOD[entry.path]
    flow = whose(flow.house, flow)
    good = form_of(flow)
    send = sender(entry, flow)
    wrong = []
    for why, query in odd_queries(good):
        before = refusals_of(flow.house)
        answer = send(query)
        if not is_refused(answer, flow) or refusals_of(flow.house) != before + 1:
            wrong.append(f"{why}: {answer.status_code} {answer.get('Location', '')[:80]} {answer.content[:80]!r}")
    return wrong


def is_refused(answer: Any, flow: Flow) -> bool:
    where = answer.get("Location", "")
    said = where + answer.content.decode()
    if (flow.secret and flow.secret in said) or "yyyyyyyy" in said:
        return False
    if answer.status_code == 303:  # only where the client had registered, and with the error
        return where.startswith(f"{CALLBACK}?error=invalid_request") and "&code=" not in where
    if answer["Content-Type"].startswith("text/html"):
        return answer.status_code == 400 and not where and "no-store" in answer["Cache-Control"]
    error = answer.json()
    return (
        answer.status_code == 400
        and error["error"] in ("invalid_request", "invalid_client")
        and DESCRIPTION.match(error["error_description"]) is not None
        and "no-store" in answer["Cache-Control"]
    )


def test_every_endpoint_that_reads_parameters_is_fed() -> None:
    assert {one.path for one in READERS} == set(GOOD)
    assert len(reading("form")) >= 6


@pytest.mark.parametrize("entry", READERS, ids=str)
def test_parameters_as_nobody_should_send_them_are_refused(flow: Flow, entry: EntryPoint) -> None:
    """OAuth 2.1 §3.1 and §3.2: MUST NOT be included more than once; RFC 6749 appendix B: UTF-8."""
    assert let_through(entry, flow) == []


def test_the_sweep_notices_what_is_dropped_instead_of_refused(flow: Flow) -> None:
    (entry,) = (one for one in READERS if one.path == "oauth/par")
    with mock.patch.object(Parameters, "_flaw", lambda self, name, *_: self._values.pop(name, None)):
        assert let_through(entry, flow) != []


@pytest.mark.parametrize("entry", READERS, ids=str)
def test_what_is_unknown_or_empty_counts_as_left_out(flow: Flow, entry: EntryPoint) -> None:
    """OAuth 2.1 §3.1, §3.2: unrecognized parameters MUST be ignored, empty ones treated as if omitted."""
    whose, form_of = GOOD[entry.path]
    flow = whose(flow.house, flow)
    answer = sender(entry, flow)(urlencode(form_of(flow)) + "&unheard_of=%3Cscript%3E&nothing=")
    assert answer.status_code in (200, 201), answer.content
    assert b"<script>" not in answer.content


@pytest.mark.parametrize("entry", reading("form"), ids=str)
@pytest.mark.parametrize(
    "kind",
    ["", "application/json", "multipart/form-data; boundary=x", "text/plain", "application/x-www-form-urlencodedx"],
)
def test_a_body_of_another_type_is_refused(flow: Flow, entry: EntryPoint, kind: str) -> None:
    """OAuth 2.1 §3.2.2: the request is form-encoded."""
    path = f"/t/acme/{entry.path}"
    answer = Client().generic("POST", path, urlencode(flow.proof()), CONTENT_TYPE=kind)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    (event,) = events_of(flow.house.tenant.id, entry.refused)
    assert event.reasons == ["wrong_content_type"]


@pytest.mark.parametrize("entry", reading("form"), ids=str)
def test_what_stands_in_the_address_is_not_read(flow: Flow, entry: EntryPoint) -> None:
    """OAuth 2.1 §2.4.1: credentials MUST NOT be in the URI; §3.2.2: parameters are in the body."""
    whose, form_of = GOOD[entry.path]
    flow = whose(flow.house, flow)
    answer = Client().post(f"/t/acme/{entry.path}?{urlencode(form_of(flow))}", b"", content_type=FORM)
    assert answer.status_code in (400, 401) and answer.json()["error"] in ("invalid_request", "invalid_client")


@pytest.mark.parametrize("entry", reading("form"), ids=str)
def test_a_body_that_is_too_large_or_is_no_text_is_refused(flow: Flow, entry: EntryPoint) -> None:
    path, before = f"/t/acme/{entry.path}", refusals_of(flow.house)
    large = Client().post(path, b"zz=" + b"a" * 70_000, content_type=FORM)
    assert (large.status_code, large.json()["error"]) == (413, "invalid_request")
    raw = Client().post(path, b"client_id=\xff\xfe", content_type=FORM)
    assert (raw.status_code, raw.json()["error"]) == (400, "invalid_request")
    assert refusals_of(flow.house) == before + 2
