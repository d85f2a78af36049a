"""The sign-in part (OpenID Connect Core): what an id token is, whose it is, and hints of who should answer."""

from __future__ import annotations

import jwt
import pytest

from tests.cast import House, events_of
from tests.oauth.browser import Flow, answer_in


def test_without_openid_there_is_no_id_token(flow: Flow) -> None:
    """§3.1.2.1."""
    assert "id_token" not in flow.tokens(scope="rooms:read")


@pytest.mark.parametrize(
    "wish",
    [
        {"display": "popup"},
        {"display": "wap of another time"},
        {"ui_locales": "fr-CA fr en"},
        {"claims_locales": "de"},
        {"claims": '{"id_token":{"email":{"essential":true}}}'},
    ],
    ids=lambda wish: next(iter(wish)),
)
def test_a_wish_for_how_pages_look_or_what_is_told_is_no_error(flow: Flow, wish: dict[str, str]) -> None:
    """§15.1: the least that every server must do with it; §5.5: what is not told is no error."""
    tokens = flow.tokens(scope="openid rooms:read", **wish)
    assert "email" not in jwt.decode(tokens["id_token"], options={"verify_signature": False})


def test_no_id_token_comes_with_a_refresh(flow: Flow) -> None:
    """§12.2 leaves it open; so nothing old can be taken for a new sign-in."""
    tokens = flow.tokens(scope="openid rooms:read")
    assert "id_token" in tokens and "id_token" not in flow.refresh(tokens["refresh_token"]).json()


def test_an_id_token_is_signed_by_the_tenants_key(flow: Flow) -> None:
    """§2: with a key that the issuer publishes; `none` is never used."""
    token = flow.tokens(scope="openid rooms:read")["id_token"]
    header = jwt.get_unverified_header(token)
    (key,) = (one for one in flow.browser.get(flow.path("jwks.json")).json()["keys"] if one["kid"] == header["kid"])
    said = jwt.decode(token, jwt.PyJWK(key), algorithms=["ES256"], audience=flow.agent.client_id, issuer=flow.issuer)
    assert header["alg"] == "ES256" and said["exp"] > said["iat"] and len(said["sub"]) <= 255


def test_sub_is_the_persons_for_good(flow: Flow) -> None:
    """§8: the same at every client's next visit, and an id rather than an address that could go to somebody else."""
    found = [
        jwt.decode(flow.tokens(scope="openid rooms:read")["id_token"], options={"verify_signature": False})["sub"]
        for _ in range(2)
    ]
    assert set(found) == {str(flow.house.members["matt"].id)}


def test_a_hint_of_the_person_who_is_there_changes_nothing(flow: Flow) -> None:
    hint = flow.tokens(scope="openid rooms:read")["id_token"]
    assert "code" in answer_in(flow.authorize(scope="openid rooms:read", id_token_hint=hint, prompt="none"))


@pytest.mark.parametrize("prompt", [None, "none", "consent"])
def test_a_hint_of_somebody_else_gives_no_answer_for_them(flow: Flow, prompt: str | None) -> None:
    """§3.1.2.1: MUST be an error where another person than the hinted one has signed in."""
    hint = flow.tokens(scope="openid rooms:read")["id_token"]
    flow.sign_in("ada")
    answer = answer_in(flow.authorize(scope="openid rooms:read", id_token_hint=hint, prompt=prompt))
    assert answer["error"] == "login_required" and answer["iss"] == flow.issuer and "code" not in answer
    assert events_of(flow.house.tenant.id, "authorization.refused")[-1].reasons == ["another_person"]


def test_a_hint_that_is_none_is_refused(flow: Flow, acme: House) -> None:
    tokens = flow.tokens(scope="openid rooms:read")
    for hint in ("x", tokens["access_token"], tokens["id_token"][:-4] + "AAAA"):
        assert answer_in(flow.authorize(id_token_hint=hint))["error"] == "invalid_request", hint
    assert events_of(acme.tenant.id, "authorization.refused")[-1].reasons == ["id_token_hint"]
