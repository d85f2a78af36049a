"""DPoP proofs (RFC 9449 §4): what makes one good, and each thing that makes it none."""

from __future__ import annotations

import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as some

from agentauth.oauth.dpop import (
    ALGORITHMS,
    CLOCKS_APART,
    NONCE_SECONDS,
    Proof,
    fresh_nonce,
    nonce_ends,
    read_proof,
)
from agentauth.oauth.errors import InvalidDPoPProof, OAuthError, UseDPoPNonce
from tests.oauth.proofs import Holder

URL = "https://as.example/t/acme/oauth/token"
TOKEN = "aaa.bbb.ccc"
holder = Holder()


def read(presented: str, **changes: Any) -> Proof:
    asked: dict[str, Any] = {"method": "POST", "url": URL, "now": time.time()} | changes
    return read_proof(presented, **asked)


def refused(presented: str, reason: str, **changes: Any) -> None:
    with pytest.raises(InvalidDPoPProof) as wrong:
        read(presented, **changes)
    assert wrong.value.reason == reason


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_a_good_proof_names_its_key(alg: str) -> None:
    mine = Holder(alg)
    proof = read(mine.proof("POST", URL))
    assert (proof.jkt, proof.alg) == (mine.jkt, alg)


@pytest.mark.parametrize("typ", ["application/dpop+jwt", "DPoP+JWT"])
def test_a_type_is_that_of_a_medium(typ: str) -> None:
    """RFC 7515 §4.1.9: `application/` may be left out, and may stand there; capitals do not count."""
    assert read(holder.proof("POST", URL, header={"typ": typ})).jkt == holder.jkt


@pytest.mark.parametrize(
    "htu",
    [
        URL,
        "HTTPS://AS.example:443/t/acme/oauth/token",
        f"{URL}?a=b#c",  # §4.3 no. 9: ignoring query and fragment
        "https://as.example/t/%61cme/oauth/token",
    ],
)
def test_the_address_is_compared_after_normalisation(htu: str) -> None:
    """§4.3: RFC 3986 §6.2.2 and §6.2.3."""
    assert read(holder.proof("POST", htu)).jkt == holder.jkt


def test_an_escaped_slash_is_not_a_slash() -> None:
    """RFC 3986 §2.2: reserved characters differ from their escapes; case of the hex digits does not (§6.2.2.1)."""
    refused(holder.proof("POST", "https://as.example/t%2Facme/oauth/token"), "proof_address")
    assert read(holder.proof("GET", "https://rs.example/a%2fb"), method="GET", url="https://rs.example/a%2Fb")


def private_jwk() -> dict[str, Any]:
    return holder.jwk | {"d": "AAAA"}


def weak_rsa() -> str:
    return Holder("PS256", rsa.generate_private_key(65537, 1024)).proof("POST", URL)


def of_another_type(typ: Any) -> str:
    return holder.proof("POST", URL, header={"typ": typ})


def signed_by_another() -> str:
    return Holder(key=ec.generate_private_key(ec.SECP256R1())).proof("POST", URL, header={"jwk": holder.jwk})


def none_signed() -> str:
    return jwt.encode({"jti": "x"}, "", "none", headers={"typ": "dpop+jwt", "jwk": holder.jwk})


def with_a_secret() -> str:
    return jwt.encode({"jti": "x"}, "k" * 64, "HS256", headers={"typ": "dpop+jwt", "jwk": holder.jwk})


def another_curve() -> str:
    key = ec.generate_private_key(ec.SECP384R1())
    return jwt.encode({"jti": "x"}, key, "ES384", headers={"typ": "dpop+jwt", "jwk": holder.jwk})


def wrong(**claims: Any) -> str:
    return holder.proof("POST", URL, **claims)


# Made when they are tried: a proof is good for minutes only
WRONG: dict[str, tuple[Callable[[], str], str]] = {
    # §4.3 no. 1, 3: one header, a well-formed JWT
    "nothing": (lambda: "", "proof_malformed"),
    "rubbish": (lambda: "a.b.c", "proof_malformed"),
    "two of them": (lambda: f"{wrong()}, {wrong()}", "proof_malformed"),
    "too long": (lambda: wrong(more="a" * 5000), "proof_malformed"),
    # no. 4: typ
    "an ordinary JWT": (lambda: of_another_type("JWT"), "proof_type"),
    "an access token": (lambda: of_another_type("at+jwt"), "proof_type"),
    "an extension": (lambda: holder.proof("POST", URL, header={"crit": ["exp"]}), "proof_malformed"),
    # no. 5: asymmetric, not none
    "no algorithm": (none_signed, "proof_algorithm"),
    "a shared secret": (with_a_secret, "proof_algorithm"),
    "another curve": (another_curve, "proof_algorithm"),
    # no. 6, 7: signed by the public key in jwk, which is not private
    "another's signature": (signed_by_another, "proof_signature"),
    "a private key": (lambda: holder.proof("POST", URL, header={"jwk": private_jwk()}), "proof_private_key"),
    "no key": (lambda: holder.proof("POST", URL, header={"jwk": None}), "proof_key"),
    "a key that is text": (lambda: holder.proof("POST", URL, header={"jwk": "key"}), "proof_key"),
    "a key of another kind": (lambda: holder.proof("POST", URL, header={"jwk": Holder("EdDSA").jwk}), "proof_key"),
    "half a key": (lambda: holder.proof("POST", URL, header={"jwk": holder.jwk | {"y": None}}), "proof_malformed"),
    "a key of numbers": (lambda: holder.proof("POST", URL, header={"jwk": holder.jwk | {"y": [1]}}), "proof_malformed"),
    "a point off the curve": (
        lambda: holder.proof("POST", URL, header={"jwk": holder.jwk | {"y": "AAAA"}}),
        "proof_malformed",
    ),
    "a key that is too short": (weak_rsa, "proof_malformed"),
    # no. 8, 9: this method, this address
    "another method": (lambda: wrong(htm="GET"), "proof_method"),
    "the method in lower case": (lambda: wrong(htm="post"), "proof_method"),
    "no method": (lambda: wrong(htm=None), "proof_method"),
    "another path": (lambda: wrong(htu=URL + "/"), "proof_address"),
    "another host": (lambda: wrong(htu=URL.replace("as.", "as2.")), "proof_address"),
    "another port": (lambda: wrong(htu=URL.replace("example/", "example:8443/")), "proof_address"),
    "another scheme": (lambda: wrong(htu=URL.replace("https", "http")), "proof_address"),
    "a user in the address": (lambda: wrong(htu=URL.replace("as.", "x@as.")), "proof_address"),
    "no address": (lambda: wrong(htu=None), "proof_address"),
    "an address that is none": (lambda: wrong(htu="https://[x"), "proof_address"),
    # no. 11: from now
    "long ago": (lambda: wrong(iat=int(time.time()) - CLOCKS_APART - 60), "proof_time"),
    "the future": (lambda: wrong(iat=int(time.time()) + CLOCKS_APART + 60), "proof_time"),
    "no time": (lambda: wrong(iat=None), "proof_time"),
    "a time that is text": (lambda: wrong(iat=str(int(time.time()))), "proof_time"),
    "a time beyond all": (lambda: wrong(iat=10**400), "proof_time"),
    "endless": (lambda: wrong(iat=float("inf")), "proof_malformed"),
    # §4.2: jti
    "no jti": (lambda: wrong(jti=None), "proof_malformed"),
    "an empty jti": (lambda: wrong(jti=""), "proof_malformed"),
    "a jti that is a number": (lambda: wrong(jti=7), "proof_malformed"),
    "an endless jti": (lambda: wrong(jti="a" * 256), "proof_malformed"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_refused(case: str) -> None:
    make, reason = WRONG[case]
    refused(make(), reason)


def test_an_exponent_that_keeps_us_busy_is_refused() -> None:
    mine = Holder("RS256")
    refused(mine.proof("POST", URL, header={"jwk": mine.jwk | {"e": mine.jwk["n"]}}), "proof_key")


@pytest.mark.parametrize("ath", [None, "", "x", urlsafe_b64encode(b"0" * 32).decode(), 7, "é"])
def test_at_a_resource_it_is_for_this_token(ath: Any) -> None:
    """§4.3 no. 12."""
    refused(holder.proof("POST", URL, token=TOKEN, ath=ath), "proof_token", token=TOKEN)
    assert read(holder.proof("POST", URL, token=TOKEN), token=TOKEN).jkt == holder.jkt


@pytest.mark.parametrize("nonce", [None, "", "x", 7, "é", fresh_nonce(time.time() - 3 * NONCE_SECONDS)])
def test_without_a_nonce_of_now_the_client_is_told_one(nonce: Any) -> None:
    """§8, §4.3 no. 10; only where nothing else is wrong."""
    with pytest.raises(UseDPoPNonce):
        read(wrong(nonce=nonce))
    refused(wrong(nonce=nonce, htm="GET"), "proof_method")


def test_a_nonce_is_good_for_its_time_and_as_long_again() -> None:
    start = 1_000 * NONCE_SECONDS
    nonce = fresh_nonce(start)
    assert nonce == fresh_nonce(start + NONCE_SECONDS - 1) != fresh_nonce(start + NONCE_SECONDS)
    assert nonce_ends(nonce, start) == nonce_ends(nonce, start + 2 * NONCE_SECONDS - 1) == start + 2 * NONCE_SECONDS
    assert nonce_ends(nonce, start + 2 * NONCE_SECONDS) is None
    assert nonce_ends(nonce, start - 1) is None  # nobody has it before its time


def test_the_mark_is_of_key_address_and_jti() -> None:
    """§11.1: once in the context of its address; another's proof with the same jti is another proof."""
    first = read(wrong(jti="same"))
    assert first.mark == read(wrong(jti="same", iat=int(time.time()) - 5)).mark
    assert first.expires == read(wrong(jti="same")).expires
    others = [wrong(jti="other"), Holder().proof("POST", URL, jti="same")]
    assert all(read(one).mark != first.mark for one in others)
    elsewhere = read(holder.proof("POST", URL + "2", jti="same"), url=URL + "2")
    assert elsewhere.mark != first.mark


@given(some.text(max_size=200))
def test_no_text_breaks_it(text: str) -> None:
    with pytest.raises(OAuthError):
        read(text)


@given(
    some.dictionaries(
        some.sampled_from(["jti", "htm", "htu", "iat", "nonce", "ath"]),
        some.none() | some.integers() | some.text() | some.lists(some.integers()),
    )
)
def test_no_claim_breaks_it(claims: dict[str, Any]) -> None:
    try:
        read(holder.proof("POST", URL, token=TOKEN, **claims), token=TOKEN)
    except OAuthError:
        pass
