"""No place where a JWT is read takes one that is not exactly right (RFC 8725): every case at every door."""

from __future__ import annotations

import ast
import socket
from pathlib import Path
from typing import Any

import jwt
import pytest

from agentauth.keys.signing import thumbprint
from audit.models import Event
from tenants.rls import in_tenant
from tests import cast
from tests.cast import House
from tests.oauth.browser import Flow
from tests.oauth.forging import CASES, Good, made
from tests.oauth.jwt_doors import DOORS, Door

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def acme(db: None) -> House:
    """In one transaction that is taken back: thousands of requests, and nothing to clean up."""
    return cast.acme()


def concerns(door: Door, case: dict[str, Any], good: Good) -> bool:
    """Is this case wrong at this door, and can it be sent there?"""
    if door.family not in case.get("for", [door.family]) or case["name"].startswith(door.passes):
        return False
    if "typ" in case.get("header", {}) and (case["header"]["typ"] or "") in door.types_in_any_case:
        return False
    if case.get("only", "iss") not in good.claims and "only" in case:
        return False
    return not (
        door.in_header and case.get("shape") in ("newline within", *(("empty",) if door.family == "proof" else ()))
    )


def cases_at(door: Door, good: Good) -> list[dict[str, Any]]:
    return [case for case in CASES if concerns(door, case, good)][:: door.every]


def refusals(house: House) -> int:
    with in_tenant(house.tenant.id):
        return Event.objects.filter(tenant=house.tenant, decision="refuse").count()


def sweep(door: Door, house: House) -> list[str]:
    """What went wrong, case by case; empty if each was refused, in the right words and on record."""
    visit, wrong = door.opened(house), []
    if (first := visit.send(visit.good().token())) != visit.accepted:
        wrong.append(f"a good one: {first}")
    before = refusals(house)
    for case in cases_at(door, visit.good()):
        answer = visit.send(made(visit.good(), case))
        after = refusals(house)
        if not answer.startswith(visit.refused) or answer.startswith("5"):
            wrong.append(f"{case['name']}: {answer}")
        elif door.on_record and after == before and "nonce" not in answer:
            wrong.append(f"{case['name']}: not on record")
        before = after
    if (last := visit.send(visit.good().token())) != visit.accepted:
        wrong.append(f"a good one afterwards: {last}")
    return wrong


@pytest.mark.parametrize("door", DOORS, ids=[door.name for door in DOORS])
def test_what_is_not_exactly_right_is_refused_everywhere(acme: House, door: Door) -> None:
    wrong = sweep(door, acme)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("door", [door for door in DOORS if door.family in ("client", "jag", "workload", "spiffe")],
                         ids=lambda door: door.name)  # fmt: skip
def test_what_nobody_needs_to_understand_in_a_header_is_passed_over(acme: House, door: Door) -> None:
    """RFC 7515 §4: MUST be ignored. Nothing of it is believed."""
    visit = door.opened(acme)
    header = {"x5t": "AA", "cty": "JWT", "client_id": "somebody", "org.example.trace": {"id": [1]}}
    assert visit.send(made(visit.good(), {"header": header})) == visit.accepted


READS = ("read_own_token", "read_proof", "find_issuer", "get_unverified_header", "decode", "verify", "signed_claims")


def readers() -> set[str]:
    """Modules of ours in which a JWT from outside is read, going by what they call."""
    found = set()
    for path in sorted((CHECKOUT / "agentauth").rglob("*.py")):
        if "embedded" in path.parts:  # the demo's own office, no part of this server
            continue
        names = {
            call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            for call in ast.walk(ast.parse(path.read_text()))
            if isinstance(call, ast.Call)
            and (not isinstance(call.func, ast.Attribute) or getattr(call.func.value, "id", "") in ("jwt", "_JWS"))
        }
        if names & set(READS):
            found.add(".".join(path.relative_to(CHECKOUT).with_suffix("").parts))
    return found


# Where a token is read on behalf of one of the doors
BEHIND: dict[str, str] = {
    "agentauth.keys.verifying": "verifies for client_assertion, dpop and trust.reading",
    "agentauth.oauth.own_token": "read by every door of our own access tokens",
    "agentauth.oauth.dpop": "read by every door of proofs",
    "agentauth.oauth.trust.reading": "read by every door of foreign tokens",
    "agentauth.oauth.trust.issuers": "read by every door of foreign tokens",
    "agentauth.oauth.client_authentication": "reads with client_assertion",
    "agentauth.oauth.resource_server": "reads with client_assertion",
    "agentauth.oauth.remembering": "looks at tokens that were made or verified a moment ago",
    "agentauth.gateway.app": "reads with gateway.who",
}


def test_every_reader_of_jwts_is_behind_a_door_of_the_sweep() -> None:
    """Whoever reads a JWT in a new place names its door, and is fed the corpus."""
    from tests.gateway.test_jwts import DOORS as AT_THE_GATEWAY  # it imports from here

    named = {door.reads for door in (*DOORS, *AT_THE_GATEWAY)}
    assert readers() - set(BEHIND) - named == set()
    assert len(readers()) > 10


def test_the_corpus_covers_what_it_should() -> None:
    assert len(CASES) >= 200 and len({case["name"] for case in CASES}) == len(CASES)
    assert all(case["about"].startswith("RFC ") for case in CASES)


# The sweep finds what is taken out


def without_signature(original: Any) -> Any:
    def decode(token: Any, *args: Any, **options: Any) -> Any:
        options.pop("options", None)
        return original(token, options={"verify_signature": False})

    return decode


MUTANTS: dict[str, tuple[str, str, Any]] = {
    "signature": ("introspect, by its client", "agentauth.oauth.own_token.jwt.decode", without_signature(jwt.decode)),
    "types": ("JWT-SVID", "agentauth.oauth.trust.reading.type_of", lambda token: "jwt"),
    "audience": ("ID-JAG", "agentauth.oauth.trust.reading._require_for_us", lambda aud, audiences: None),
    "issuer": ("JWT-SVID", "agentauth.oauth.trust.reading._signed_by_one", None),
    "compact form": ("introspect, by its client", "agentauth.oauth.own_token.is_compact", lambda token: True),
    "times": ("ID-JAG", "agentauth.oauth.trust.reading._require_now", lambda claims, accepts, now: None),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_sweep_notices_what_is_taken_out(acme: House, monkeypatch: pytest.MonkeyPatch, mutant: str) -> None:
    name, where, instead = MUTANTS[mutant]
    if instead is None:

        def instead(token: str, *_: Any) -> Any:
            return jwt.decode(token, options={"verify_signature": False})

    monkeypatch.setattr(where, instead)
    (door,) = (one for one in DOORS if one.name == name)
    monkeypatch.setattr("tests.oauth.test_jwts.CASES", [case for case in CASES if case["about"] != "RFC 7519 §7.2"])
    try:
        assert sweep(door, acme)
    except (KeyError, TypeError, ValueError):  # what no check stopped broke something: that is noticed too
        pass


# What we issue ourselves


def test_our_access_tokens_say_all_that_they_must(flow: Flow) -> None:
    """RFC 9068 §2.2; §5: persons and agents are never called the same; RFC 7519 §4.1.7."""
    made = [flow.tokens()["access_token"] for _ in range(2)]
    claims = [jwt.decode(token, options={"verify_signature": False}) for token in made]
    for one in claims:
        assert {"iss", "exp", "aud", "sub", "client_id", "iat", "jti", "scope"} <= set(one)
        assert one["sub"] not in (one["client_id"], str(flow.agent.id)) and one["exp"] - one["iat"] <= 900
    assert claims[0]["jti"] != claims[1]["jti"]
    assert {jwt.get_unverified_header(token)["typ"] for token in made} == {"at+jwt"}


def test_the_thumbprint_is_that_of_the_rfc() -> None:
    """RFC 7638 §3.1: the example there, with members that do not count beside it."""
    n = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3ok"
        "njhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu"
        "6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8a"
        "wapJzKnqDKgw"
    )
    jwk = {"kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"}
    assert thumbprint(jwk) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def test_no_address_in_a_header_is_asked(acme: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 8725 §3.10: whatever jku or x5u name, nobody goes there."""
    asked: list[object] = []
    monkeypatch.setattr(socket, "create_connection", lambda *where, **_: asked.append(where))
    monkeypatch.setattr(socket.socket, "connect", lambda self, where: asked.append(where))
    for name in ("client_assertion at token", "ID-JAG", "proof at token", "introspect, by its client"):
        (door,) = (one for one in DOORS if one.name == name)
        visit = door.opened(acme)
        for header in ({"jku": "https://evil.example/k"}, {"x5u": "https://evil.example/c"}):
            visit.send(made(visit.good(), {"header": header}))
    assert asked == []
