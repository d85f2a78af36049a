"""Every challenge with every verifier, by both ways to a code (RFC 7636, OAuth 2.1 §4.1.1, RFC 9700 §2.1.1)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any
from unittest import mock

import pytest

from agentauth.oauth import authorization_request
from agentauth.oauth.grants import authorization_code
from agentauth.oauth.pkce import challenge_of
from tests.cast import events_of
from tests.oauth.browser import Flow, answer_in
from tests.oauth.entry_points import reading
from tests.oauth.test_par import bring

RIGHT = "v" * 42 + "~"  # 43 characters, of those that may be in one
CHALLENGE = challenge_of(RIGHT)
CHALLENGES: dict[str, dict[str, Any]] = {
    "right": {"code_challenge": CHALLENGE, "code_challenge_method": "S256"},
    "none": {"code_challenge": None, "code_challenge_method": None},
    "method alone": {"code_challenge": None, "code_challenge_method": "S256"},
    "empty": {"code_challenge": "", "code_challenge_method": "S256"},
    "no method": {"code_challenge": CHALLENGE, "code_challenge_method": None},
    "plain": {"code_challenge": RIGHT, "code_challenge_method": "plain"},
    "S256 by another name": {"code_challenge": CHALLENGE, "code_challenge_method": "s256"},
    "SHA-512": {"code_challenge": CHALLENGE, "code_challenge_method": "S512"},
    "padded": {"code_challenge": CHALLENGE + "=", "code_challenge_method": "S256"},
    "short": {"code_challenge": CHALLENGE[:42], "code_challenge_method": "S256"},
    "long": {"code_challenge": CHALLENGE + "A", "code_challenge_method": "S256"},
    "other letters": {"code_challenge": "+" + CHALLENGE[1:], "code_challenge_method": "S256"},
    "twice": {"code_challenge": [CHALLENGE, CHALLENGE], "code_challenge_method": "S256"},
    "two methods": {"code_challenge": CHALLENGE, "code_challenge_method": ["S256", "plain"]},
}
VERIFIERS: dict[str, Any] = {
    "right": RIGHT,
    "none": None,
    "empty": "",
    "the challenge": CHALLENGE,
    "cut": RIGHT[:42],
    "with more": RIGHT + "v",
    "another": "w" + RIGHT[1:],
    "in capitals": RIGHT.upper(),
    "with a space": RIGHT + " ",
    "with a line end": RIGHT + "\n",
    "long": RIGHT * 3,
    "not ASCII": "é" * 43,
}


def by_browser(flow: Flow, challenge: dict[str, Any]) -> dict[str, str]:
    answer = flow.authorize(**challenge)
    return answer_in(answer if answer.status_code == 303 else flow.answer(answer))


def by_par(flow: Flow, challenge: dict[str, Any]) -> dict[str, str]:
    pushed = flow.post("par", flow.request(**challenge) | flow.proof())
    said: dict[str, str] = pushed.json()
    if pushed.status_code != 201:
        return said
    answer = bring(flow, said["request_uri"])
    return answer_in(answer if answer.status_code == 303 else flow.answer(answer))


WAYS: dict[str, Callable[[Flow, dict[str, Any]], dict[str, str]]] = {"oauth/authorize": by_browser, "oauth/par": by_par}


def opened(flow: Flow, way: str) -> list[tuple[str, str]]:
    """The combinations that gave a token."""
    found = []
    for challenge, verifier in product(CHALLENGES, VERIFIERS):
        if challenge != "right" and verifier not in ("right", "none", "the challenge"):
            continue  # there is no code to bring a verifier with, whatever it is
        answer = WAYS[way](flow, CHALLENGES[challenge])
        if "code" not in answer:
            assert answer["error"] == "invalid_request", (challenge, answer)
            continue
        answered = flow.redeem(answer["code"], code_verifier=VERIFIERS[verifier])
        if answered.status_code == 200:
            found.append((challenge, verifier))
        else:
            assert answered.json()["error"] in ("invalid_grant", "invalid_request"), (challenge, verifier)
    return found


def test_every_way_to_a_code_is_tried() -> None:
    assert {one.path for one in reading("challenge")} == set(WAYS)
    assert [one.path for one in reading("verifier")] == ["oauth/token"]


@pytest.mark.parametrize("way", WAYS)
def test_the_whole_matrix_lets_one_combination_through(flow: Flow, way: str) -> None:
    assert opened(flow, way) == [("right", "right")]
    tenant = flow.house.tenant.id
    refused = events_of(tenant, "authorization.refused")
    assert len(refused) == 3 * (len(CHALLENGES) - 1)  # each of them on record
    assert len(events_of(tenant, "token.refused")) == len(VERIFIERS) - 1


def test_a_public_client_gets_no_more(public: Flow) -> None:
    assert opened(public, "oauth/authorize") == [("right", "right")]


@pytest.mark.parametrize(
    ("room", "name", "instead"),
    [
        (authorization_request, "require_challenge", lambda challenge, _: challenge or CHALLENGE),
        (authorization_code, "matches", lambda *_: True),
    ],
)
def test_the_sweep_notices_a_check_that_is_gone(flow: Flow, room: Any, name: str, instead: Any) -> None:
    with mock.patch.object(room, name, side_effect=instead):
        assert opened(flow, "oauth/authorize") != [("right", "right")]


def test_a_code_says_nothing_of_its_challenge(flow: Flow) -> None:
    """RFC 7636 §4.4."""
    code = by_browser(flow, CHALLENGES["right"])["code"]
    assert CHALLENGE not in code and len(code) < len(CHALLENGE) * 2
