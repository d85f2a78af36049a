"""Every refusal: its status, its challenge, its reason, its event; nothing of it reaches the upstream."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from django.utils.timezone import now

from agentauth.agents.models import Agent
from agentauth.grants.models import Grant, Permission
from agentauth.keys.addresses import resource_url
from agentauth.resources.models import Ceiling, Operation, Resource
from tenants.models import Member, Tenant
from tenants.notice import announce
from tenants.rls import in_tenant
from tests.gateway.conftest import Answer, Stage, eventually


def the_refusal(stage: Stage, answer: Answer, *reasons: str, earlier: int = 0) -> None:
    """The answer says why, the event too, and nothing went upstream."""
    assert answer.codes == list(reasons)
    assert all(reason["words"] and reason["fix"] for reason in answer.json()["reasons"])
    assert stage.upstream.seen == []
    *before, event = stage.events("call.refused")
    assert len(before) == earlier
    assert (event.decision, event.reasons, event.status) == ("refuse", list(reasons), answer.status)
    assert answer.header("content-type") == "application/problem+json"


def test_without_a_token_the_challenge_says_where_to_get_one(stage: Stage) -> None:
    answer = stage.door.call("GET", stage.path("/rooms"))
    where = f"http://localhost:8001/.well-known/oauth-protected-resource/{stage.slug}/office"
    assert answer.status == 401
    assert answer.header("www-authenticate") == f'Bearer scope="rooms:read", resource_metadata="{where}"'
    assert stage.upstream.seen == []


def test_a_token_in_the_query_is_no_token(stage: Stage) -> None:
    answer = stage.door.call("GET", stage.path(f"/rooms?access_token={stage.token()}"))
    assert answer.status == 401
    answer = stage.call("GET", f"/rooms?access_token={stage.token()}")
    assert answer.status == 400
    assert stage.upstream.seen == []


def test_two_authorization_headers_are_refused(stage: Stage) -> None:
    answer = stage.door.call("GET", stage.path("/rooms"), stage.bearer() * 2)
    assert answer.status == 400
    assert 'error="invalid_request"' in answer.header("www-authenticate")


CLAIMS: dict[str, tuple[str, Callable[[Stage], dict[str, Any]]]] = {
    "another resource": (
        "token_wrong_audience",
        lambda stage: {"aud": resource_url(stage.slug, "office-mcp")},
    ),
    "a list of audiences": (
        "token_malformed",
        lambda stage: {"aud": [resource_url(stage.slug, "office"), "https://else.example"]},
    ),
    "another issuer": ("token_untrusted", lambda stage: {"iss": "http://localhost:8000/t/globex"}),
    "expired": ("token_expired", lambda stage: {"iat": int(time.time()) - 400, "exp": int(time.time()) - 1}),
    "issued tomorrow": ("token_not_yet_valid", lambda stage: {"iat": int(time.time()) + 86400}),
    "valid tomorrow": ("token_not_yet_valid", lambda stage: {"nbf": int(time.time()) + 86400}),
    "no subject": ("token_untrusted", lambda stage: {"sub": None}),
    "a subject that is no id": ("token_malformed", lambda stage: {"sub": "matt"}),
    "no grant": ("token_untrusted", lambda stage: {"grant_id": None}),
    "no id": ("token_untrusted", lambda stage: {"jti": None}),
    "a chain too deep": ("token_malformed", lambda stage: {"act": deep_chain(stage)}),
    "scope that is no text": ("token_malformed", lambda stage: {"scope": ["rooms:read"]}),
}


def deep_chain(stage: Stage) -> dict[str, Any]:
    act: dict[str, object] = {"sub": str(stage.agent.id)}
    for _ in range(5):
        act = {"sub": str(stage.agent.id), "act": act}
    return act


@pytest.mark.parametrize("case", CLAIMS)
def test_a_token_that_does_not_say_the_right_thing_is_refused(stage: Stage, case: str) -> None:
    reason, changes = CLAIMS[case]
    answer = stage.call("GET", "/rooms", **changes(stage))
    assert answer.status == 401
    assert 'error="invalid_token"' in answer.header("www-authenticate")
    the_refusal(stage, answer, reason)


def test_a_token_that_is_not_signed_by_the_tenant_as_an_access_token_is_refused(stage: Stage) -> None:
    claims = stage.claims()
    own = ec.generate_private_key(ec.SECP256R1())
    genuine = stage.token()
    kid = jwt.get_unverified_header(genuine)["kid"]
    head, body, _ = genuine.split(".")
    forged = {
        "foreign key": jwt.encode(claims, own, "ES256", headers={"kid": kid, "typ": "at+jwt"}),
        "unknown kid": jwt.encode(claims, own, "ES256", headers={"kid": "x", "typ": "at+jwt"}),
        "no algorithm": jwt.encode(claims, "", "none", headers={"kid": kid, "typ": "at+jwt"}),
        "a shared secret": jwt.encode(claims, "x" * 64, "HS256", headers={"kid": kid, "typ": "at+jwt"}),
        "no type": stage.token(typ="JWT"),
        "an id token": stage.token(typ="id+jwt"),
        "no signature": f"{head}.{body}.",
        "another's signature": f"{head}.{body}.{stage.token().split('.')[2]}",
        "an extension that must be known": jwt.encode(
            claims, own, "ES256", headers={"kid": kid, "typ": "at+jwt", "crit": ["exp"]}
        ),
        "rubbish": "garbage",
        "long rubbish": "a" * 9000 + ".b.c",
    }
    for case, token in forged.items():
        answer = stage.call("GET", "/rooms", token=token)
        assert answer.status == 401, case
        assert answer.codes in (["token_untrusted"], ["token_malformed"]), case
    assert stage.upstream.seen == []
    assert all(event.actor_kind == "anonymous" for event in stage.events("call.refused"))


def test_a_token_of_another_tenant_is_refused(stage: Stage) -> None:
    from django.db import transaction

    from agentauth.keys.signing import sign
    from tests import cast

    with transaction.atomic():
        other = cast.acme(f"{stage.slug}-b")
        token = sign(other.tenant.id, stage.claims(), "at+jwt")
    answer = stage.call("GET", "/rooms", token=token)
    assert answer.status == 401
    the_refusal(stage, answer, "token_untrusted")


def change(stage: Stage, model: type, pk: object, what: str, **fields: object) -> None:
    """A row as it is after something happened; processes hear of it as they do of the verbs."""
    with in_tenant(stage.id):
        model.objects.filter(pk=pk).update(**fields)  # type: ignore[attr-defined]
        announce(stage.id, "config", f"{what}:{pk}")


def agent(**fields: object) -> Callable[[Stage], None]:
    return lambda stage: change(stage, Agent, stage.agent.id, "agents", **fields)


def grant(**fields: object) -> Callable[[Stage], None]:
    return lambda stage: change(stage, Grant, stage.grant.id, "grants", **fields)


def mode(scope: str, value: str) -> Callable[[Stage], None]:
    def apply(stage: Stage) -> None:
        with in_tenant(stage.id):
            Permission.objects.filter(grant=stage.grant, scope__name=scope).update(mode=value)
            announce(stage.id, "config", f"grants:{stage.grant.id}")

    return apply


def operation(**fields: object) -> Callable[[Stage], None]:
    def apply(stage: Stage) -> None:
        with in_tenant(stage.id):
            Operation.objects.filter(resource=stage.house.office, key="GET /rooms").update(**fields)
            announce(stage.id, "config", f"resources:{stage.house.office.id}")

    return apply


def no_permission(stage: Stage) -> None:
    with in_tenant(stage.id):
        Permission.objects.filter(grant=stage.grant, scope__name="rooms:read").delete()
        announce(stage.id, "config", f"grants:{stage.grant.id}")


def smaller_ceiling(stage: Stage) -> None:
    with in_tenant(stage.id):
        Ceiling.objects.filter(agent=stage.agent, scope__name="rooms:read").delete()
        announce(stage.id, "config", f"agents:{stage.agent.id}")


def suspended_tenant(stage: Stage) -> None:
    with in_tenant(stage.id):
        Tenant.objects.filter(pk=stage.id).update(suspended_at=now())
        announce(stage.id, "config", "tenants:x")


def inactive_member(stage: Stage) -> None:
    with in_tenant(stage.id):
        Member.objects.filter(pk=stage.house.members["matt"].id).update(deactivated_at=now())
        announce(stage.id, "member", str(stage.house.members["matt"].id))


OTHER_DAY = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")[(now().weekday() + 3) % 7]
STATES: dict[str, tuple[int, Callable[[Stage], None]]] = {
    "agent_not_active": (403, agent(state="draft")),
    "agent_suspended": (403, agent(state="suspended")),
    "agent_retired": (403, agent(state="retired")),
    "agent_expired": (403, agent(valid_until=now() - timedelta(seconds=1))),
    "member_inactive": (403, inactive_member),
    "tenant_suspended": (403, suspended_tenant),
    "resource_not_published": (
        404,
        lambda stage: change(stage, Resource, stage.house.office.id, "resources", state="retired"),
    ),
    "operation_held": (403, operation(changed_at=now())),
    "operation_unmapped": (403, operation(scope=None)),
    "operation_unknown": (404, operation(path="/elsewhere")),
    "grant_ended": (401, grant(ended_at=now())),
    "grant_expired": (401, grant(expires_at=now() - timedelta(seconds=1))),
    "grant_lacks_scope": (403, no_permission),
    "grant_says_never": (403, mode("rooms:read", "never")),
    "above_ceiling": (403, smaller_ceiling),
    "constraint_time_window": (403, grant(constraints={"time_window": {"days": [OTHER_DAY]}})),
    "constraint_ip": (403, grant(constraints={"ip": ["192.0.2.0/24"]})),
    "constraint_argument": (403, grant(constraints={"arguments": [{"at": "/query/floor", "is": "2"}]})),
    "constraint_unknown": (403, grant(constraints={"moon": "full"})),
    "constraint_call_budget": (429, grant(constraints={"calls_per_day": 0})),
}


@pytest.mark.parametrize("reason", STATES)
def test_what_speaks_against_a_call_refuses_it_within_a_second(stage: Stage, reason: str) -> None:
    status, apply = STATES[reason]
    assert stage.call("GET", "/rooms").status == 200
    apply(stage)
    refusals: list[Answer] = []

    def refused() -> Answer | None:
        stage.upstream.forget()
        answer = stage.call("GET", "/rooms")
        if answer.status != 200:
            refusals.append(answer)
        return refusals[-1] if refusals else None

    def settled() -> Answer | None:
        answer = refused()
        assert answer is not None and answer.status != 200, "it passed again"
        return None if answer.codes == ["token_revoked"] else answer

    answer = eventually(refused, timeout=1)
    if answer.codes == ["token_revoked"]:  # `iat` counts seconds: a token of that very second is void for that alone
        answer = eventually(settled, timeout=3)
    assert (answer.status, answer.codes) == (status, [reason])
    the_refusal(stage, answer, reason, earlier=len(refusals) - 1)


def test_a_scope_that_the_token_lacks_is_named_in_the_challenge(stage: Stage) -> None:
    answer = stage.call("POST", "/rooms/meeting/enter", body=b"", scope="rooms:read")
    assert answer.status == 403
    challenge = answer.header("www-authenticate")
    assert 'error="insufficient_scope"' in challenge and 'scope="meeting:enter"' in challenge
    assert "resource_metadata=" in challenge
    assert answer.json()["scope"] == "meeting:enter"
    where = f"/t/{stage.slug}/my/agents/new/?agent={stage.agent.id}&resource={stage.house.office.id}"
    assert answer.json()["ask_at"] == f"http://localhost:8000{where}"
    the_refusal(stage, answer, "scope_missing")


def test_what_is_above_the_ceiling_is_not_for_the_person_to_give(stage: Stage) -> None:
    smaller_ceiling(stage)

    def refused() -> Answer | None:
        answer = stage.call("GET", "/rooms", scope="meeting:enter")
        return answer if "above_ceiling" in answer.codes else None

    answer = eventually(refused, timeout=1)
    assert (answer.status, answer.codes) == (403, ["above_ceiling", "scope_missing"])
    assert "ask_at" not in answer.json() and not answer.all("www-authenticate")
    assert stage.events("call.refused")[-1].reasons == ["above_ceiling", "scope_missing"]


GRANTS: dict[str, Callable[[Stage], dict[str, Any]]] = {
    "that nobody gave": lambda stage: {"grant_id": str(uuid4())},
    "of another person": lambda stage: {"sub": str(stage.house.members["cora"].id)},
    "for a person, used without one": lambda stage: {"sub": str(stage.agent.id), "act": None},
}


@pytest.mark.parametrize("case", GRANTS)
def test_a_grant_counts_only_for_those_it_is_between(stage: Stage, case: str) -> None:
    answer = stage.call("GET", "/rooms", **GRANTS[case](stage))
    assert answer.status == 401
    the_refusal(stage, answer, "grant_missing")


def test_an_agent_that_does_not_exist_is_refused(stage: Stage) -> None:
    answer = stage.call("GET", "/rooms", act={"sub": str(uuid4())})
    the_refusal(stage, answer, "agent_unknown", "grant_missing")


def test_a_suspended_agent_earlier_in_the_chain_stops_the_call(stage: Stage) -> None:
    from tests import cast

    with in_tenant(stage.id):
        first = cast.assistant(stage.house, name="The first one")
        first.suspend(by=stage.house.owner)
    chain = {"sub": str(stage.agent.id), "act": {"sub": str(first.id)}}
    answer = stage.call("GET", "/rooms", act=chain)
    assert "agent_suspended" in answer.codes


def test_a_path_with_another_method_is_unknown(stage: Stage) -> None:
    answer = stage.call("DELETE", "/rooms")
    assert answer.status == 404
    the_refusal(stage, answer, "operation_unknown")


def test_what_is_not_there_looks_the_same_for_everyone(stage: Stage) -> None:
    for path in ("/", "/nobody/office/rooms", stage.path("/rooms", "nothing"), stage.path("/x", "agentauth"), "/t"):
        assert stage.door.call("GET", path, stage.bearer()).status == 404, path
    assert stage.events("call.refused") == []


def test_strangers_do_not_fill_the_record(stage: Stage) -> None:
    for _ in range(120):
        assert stage.call("GET", "/rooms", token="a.b.c").status == 401
    assert 20 <= len(stage.events("call.refused")) < 110


def test_no_more_calls_a_day_than_granted_whichever_worker_is_asked(stage: Stage, doors: list) -> None:
    from concurrent.futures import ThreadPoolExecutor

    grant(constraints={"calls_per_day": 5})(stage)
    token = stage.token()
    bearer = [("Authorization", f"Bearer {token}")]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda i: doors[i % 2].call("GET", stage.path("/rooms"), bearer), range(24)))
    assert sorted(answer.status for answer in answers) == [200] * 5 + [429] * 19
    assert len(stage.upstream.seen) == 5
    assert next(a for a in answers if a.status == 429).header("retry-after").isdigit()
