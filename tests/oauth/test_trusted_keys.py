"""The keys of a trusted issuer: discovered, at an address or pasted; asked for again when needed, kept when not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from agentauth.agents.models import TrustedIssuer
from agentauth.oauth import kept
from agentauth.oauth.trust import keys
from agentauth.outbound.fetch import Fetched, FetchFailed, FetchRefused
from tests import cast
from tests.cast import House
from tests.oauth.browser import Flow
from tests.oauth.provider import DOMAIN, IDP, Provider
from tests.oauth.test_id_jag import TYPE, bring, claims_for, read, redeem, refused

CONFIGURATION = f"{IDP}/.well-known/openid-configuration"
KEYS = f"{IDP}/keys"


class Web:
    """What stands at which address; `asked` says what was fetched."""

    def __init__(self) -> None:
        self.pages: dict[str, tuple[int, bytes, dict[str, str]]] = {}
        self.asked: list[str] = []
        self.fails: Exception | None = None
        self.clock = 1000.0

    def put(self, url: str, document: Any, status: int = 200, **headers: str) -> None:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.pages[url] = (status, body, {name.replace("_", "-"): value for name, value in headers.items()})

    def fetch(self, url: str, **_: Any) -> Fetched:
        self.asked.append(url)
        if self.fails is not None:
            raise self.fails
        status, body, headers = self.pages.get(url, (404, b"", {}))
        return Fetched(status, headers, body, url)


@pytest.fixture
def acme(db: None) -> House:
    return cast.acme()


@pytest.fixture
def idp() -> Provider:
    return Provider()


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch, idp: Provider) -> Any:
    found = Web()
    found.put(CONFIGURATION, {"issuer": IDP, "jwks_uri": KEYS}, cache_control="max-age=600")
    found.put(KEYS, idp.jwks, cache_control="max-age=600")
    monkeypatch.setattr(kept, "fetch", found.fetch)
    monkeypatch.setattr(kept, "monotonic", lambda: found.clock)
    keys.forget()
    yield found
    keys.forget()


@pytest.fixture
def trust(acme: House, idp: Provider) -> TrustedIssuer:
    return idp.trusted_by(acme, keys_from="discovery", jwks=None)


def test_keys_are_discovered_and_kept_while_fresh(flow: Flow, idp: Provider, web: Web, trust: TrustedIssuer) -> None:
    read(bring(flow, idp))
    read(bring(flow, idp))
    assert web.asked == [CONFIGURATION, KEYS]
    web.clock += 601  # OpenID Connect Core §10.1.1, RFC 9111 §4.2
    read(bring(flow, idp))
    assert web.asked == [CONFIGURATION, KEYS] * 2


def test_a_new_key_is_asked_for_but_not_again_and_again(
    flow: Flow, idp: Provider, web: Web, trust: TrustedIssuer
) -> None:
    read(bring(flow, idp))
    rolled = Provider(kid="two")
    web.put(KEYS, {"keys": [idp.jwk, rolled.jwk]})
    refused(flow, bring(flow, rolled), "assertion_signature")  # asked a moment ago
    web.clock += 61
    read(bring(flow, rolled))
    asked = len(web.asked)
    for _ in range(3):
        refused(flow, bring(flow, Provider(kid="nobody")), "assertion_signature")
    assert len(web.asked) == asked
    web.clock += 61
    refused(flow, bring(flow, Provider(kid="nobody")), "assertion_signature")
    assert len(web.asked) == asked + 1


def test_a_key_that_was_withdrawn_counts_no_more(flow: Flow, idp: Provider, web: Web, trust: TrustedIssuer) -> None:
    read(bring(flow, idp))
    web.put(KEYS, Provider(kid="two").jwks)
    web.clock += 601
    refused(flow, bring(flow, idp), "assertion_signature")


@pytest.mark.parametrize("problem", [FetchFailed("down"), FetchRefused("private")])
def test_the_last_good_copy_is_kept_while_nobody_answers(
    flow: Flow, idp: Provider, web: Web, trust: TrustedIssuer, problem: Exception
) -> None:
    web.fails = problem
    refused(flow, bring(flow, idp), "issuer_keys_unavailable")
    web.fails = None
    read(bring(flow, idp))  # errors are not kept
    web.fails, web.clock = problem, web.clock + 601
    read(bring(flow, idp))


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"keys": 5}',
        b'{"keys": []}',
        b'{"keys": [{"kty": "oct", "k": "AAAA"}]}',
        b'{"keys": [{"kty": "EC"}]}',
        b'{"keys": [{"kty": "RSA", "e": "AQAB"}]}',
        b'{"keys": [{"kty": "RSA", "n": "AQAB"}]}',
        b'{"keys": [5, null, {"kty": ["EC"]}]}',
    ],
)
def test_what_is_no_key_set_is_none(flow: Flow, idp: Provider, web: Web, trust: TrustedIssuer, document: bytes) -> None:
    web.put(KEYS, document)
    refused(flow, bring(flow, idp), "issuer_keys_unavailable")


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://evil.example", "jwks_uri": KEYS},  # OpenID Connect Discovery §4.3
        {"issuer": f"{IDP}/", "jwks_uri": KEYS},
        {"jwks_uri": KEYS},
        {"issuer": IDP},
        {"issuer": IDP, "jwks_uri": 5},
        [],
    ],
)
def test_a_configuration_of_somebody_else_is_not_followed(
    flow: Flow, idp: Provider, web: Web, trust: TrustedIssuer, document: Any
) -> None:
    web.put(CONFIGURATION, document)
    refused(flow, bring(flow, idp), "issuer_keys_unavailable")
    assert KEYS not in web.asked


def test_a_key_is_for_its_own_algorithm_and_for_signing(
    flow: Flow, idp: Provider, web: Web, trust: TrustedIssuer
) -> None:
    """RFC 8725 §3.1, RFC 7517 §4.2."""
    for wrong in ({"alg": "RS256"}, {"use": "enc"}):
        keys.forget()
        web.put(KEYS, {"keys": [idp.jwk | wrong]})
        assert bring(flow, idp).json()["error"] == "invalid_grant", wrong


def test_a_key_that_is_too_short_is_none(flow: Flow, idp: Provider, web: Web, trust: TrustedIssuer) -> None:
    """RFC 7518 §3.3: RSA of 2048 bits or more, however good the signature is."""
    short, long = (Provider(key=rsa.generate_private_key(65537, bits)) for bits in (1024, 2048))
    web.put(KEYS, short.jwks)
    refused(flow, bring(flow, short), "issuer_keys_unavailable")
    web.put(KEYS, long.jwks)
    keys.forget()
    read(bring(flow, long))


def test_of_two_members_of_one_name_the_last_counts(flow: Flow, idp: Provider, web: Web, trust: TrustedIssuer) -> None:
    """RFC 7517 §4, §5: one of the two ways that are left."""
    other = Provider(kid="two")
    web.put(KEYS, f'{{"keys": {json.dumps([other.jwk])}, "keys": {json.dumps([idp.jwk])}}}'.encode())
    read(bring(flow, idp))
    refused(flow, bring(flow, other), "assertion_signature")
    twice = json.dumps(idp.jwk).replace('"kty"', '"kty": "RSA", "kty"')
    web.put(KEYS, f'{{"keys": [{twice}]}}'.encode())
    keys.forget()
    read(bring(flow, idp))


def test_what_nobody_knows_is_passed_over(flow: Flow, idp: Provider, web: Web, trust: TrustedIssuer) -> None:
    """RFC 7517 §4 and §5 in keys and their set, RFC 7515 §4 in a header, RFC 7519 §4 among claims."""
    unknown = {"of_tomorrow": {"a": [1]}}
    of_another_kind = {"kty": "LATTICE", "kid": "two", "lattice": "AAAA"}
    web.put(KEYS, {"keys": [of_another_kind, idp.jwk | unknown]} | unknown)
    read(redeem(flow, idp.sign(claims_for(flow, **unknown), TYPE | unknown)))


def test_keys_are_not_asked_for_while_a_transaction_is_open_or_for_who_is_not_trusted(
    flow: Flow, idp: Provider, web: Web
) -> None:
    refused(flow, bring(flow, idp), "issuer_not_trusted")
    assert web.asked == []


def test_a_bundle_of_a_trust_domain_has_an_address(acme: House, web: Web) -> None:
    domain = Provider(DOMAIN, use="jwt-svid")
    web.put("https://spire.acme.example/bundle", domain.jwks | {"spiffe_sequence": 1})
    trust = domain.trusted_by(
        acme, "spiffe", keys_from="address", jwks=None, jwks_uri="https://spire.acme.example/bundle"
    )
    keys.learn(trust)
    assert [key["kid"] for key in keys.known(trust)] == ["one"]
