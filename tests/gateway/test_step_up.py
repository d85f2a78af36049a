"""Step-up at the gateway (RFC 9470): a sign-in too old or too weak is told what would do."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from agentauth.grants.models import Grant
from tenants.notice import announce
from tenants.rls import in_tenant
from tests.gateway.conftest import Answer, Stage, eventually


def demand(stage: Stage, **rule: Any) -> None:
    with in_tenant(stage.id):
        Grant.objects.filter(pk=stage.grant.pk).update(constraints={"sign_in": rule})
        announce(stage.id, "config", f"grants:{stage.grant.id}")


def enter(stage: Stage, **claims: Any) -> Answer:
    return stage.call("POST", "/rooms/meeting/enter", **claims)


@pytest.mark.parametrize(
    ("rule", "claims", "challenge"),
    [
        ({"acr": "2fa"}, {"acr": "1fa"}, 'acr_values="2fa phr"'),
        ({"acr": "2fa"}, {}, 'acr_values="2fa phr"'),
        ({"acr": "phr"}, {"acr": "2fa"}, 'acr_values="phr"'),
        ({"acr": "1fa"}, {"acr": "gold"}, 'acr_values="1fa 2fa phr"'),
        ({"max_age": 300}, {"auth_time": 301}, 'max_age="300"'),
        ({"max_age": 300}, {}, 'max_age="300"'),
        ({"acr": "2fa", "max_age": 60}, {"acr": "2fa", "auth_time": 100}, 'acr_values="2fa phr", max_age="60"'),
        ({"acr": "2fa", "max_age": 60}, {"acr": "1fa", "auth_time": 10}, 'acr_values="2fa phr", max_age="60"'),
    ],
)
def test_too_little_is_challenged_with_what_would_do(
    stage: Stage, rule: dict[str, Any], claims: dict[str, Any], challenge: str
) -> None:
    """§3: 401, insufficient_user_authentication, acr_values and max_age."""
    demand(stage, **rule)
    if "auth_time" in claims:
        claims = claims | {"auth_time": int(time.time()) - claims["auth_time"]}
    answer = enter(stage, **claims)
    assert (answer.status, answer.codes) == (401, ["constraint_sign_in"])
    said = answer.header("www-authenticate")
    assert 'error="insufficient_user_authentication"' in said and challenge in said
    assert 'scope="meeting:enter"' in said and "resource_metadata=" in said
    body = answer.json()
    assert body.get("acr_values", "").split() == (["2fa", "phr"] if rule.get("acr") == "2fa" else []) or "acr" in rule
    [event] = stage.events("call.refused")
    assert (event.reasons, event.status) == (["constraint_sign_in"], 401)
    assert stage.upstream.seen == []


@pytest.mark.parametrize(
    ("rule", "claims"),
    [
        ({"acr": "2fa"}, {"acr": "2fa"}),
        ({"acr": "2fa"}, {"acr": "phr"}),
        ({"max_age": 300}, {"auth_time": 250}),
        ({"acr": "1fa", "max_age": 300}, {"acr": "2fa", "auth_time": 0}),
    ],
)
def test_enough_is_enough(stage: Stage, rule: dict[str, Any], claims: dict[str, Any]) -> None:
    demand(stage, **rule)
    if "auth_time" in claims:
        claims = claims | {"auth_time": int(time.time()) - claims["auth_time"]}
    eventually(lambda: enter(stage, **claims).status == 200)


def test_with_another_reason_beside_it_a_better_sign_in_is_not_what_is_asked_for(stage: Stage) -> None:
    demand(stage, acr="2fa")
    answer = enter(stage, acr="1fa", scope="rooms:read")
    assert (answer.status, answer.codes) == (403, ["scope_missing", "constraint_sign_in"])
    assert "insufficient_user_authentication" not in answer.header("www-authenticate")


def test_an_agent_for_itself_cannot_meet_it(stage: Stage) -> None:
    with in_tenant(stage.id):
        Grant.objects.filter(pk=stage.grant.pk).update(member=None, constraints={"sign_in": {"max_age": 300}})
        announce(stage.id, "config", f"grants:{stage.grant.id}")
    answer = enter(stage, sub=str(stage.agent.id), act=None)
    assert answer.codes == ["constraint_sign_in"]


@pytest.mark.parametrize("rule", [{"acr": "gold"}, {"max_age": -1}, {"max_age": True}, {"amr": "otp"}, {}])
def test_a_rule_that_cannot_be_read_refuses(stage: Stage, rule: dict[str, Any]) -> None:
    demand(stage, **rule)
    answer = enter(stage, acr="phr", auth_time=int(time.time()))
    assert (answer.status, answer.codes) == (403, ["constraint_unknown"])


@pytest.mark.parametrize("claims", [{"acr": 2}, {"acr": ["2fa"]}, {"auth_time": "now"}, {"auth_time": True}])
def test_a_token_that_says_it_oddly_is_no_token(stage: Stage, claims: dict[str, Any]) -> None:
    assert enter(stage, **claims).codes == ["token_malformed"]


def test_a_tool_call_is_challenged_the_same_way_and_lists_are_not(tools: Stage) -> None:
    from agentauth.keys.addresses import resource_url

    with in_tenant(tools.id):
        Grant.objects.filter(pk=tools.tools_grant.pk).update(constraints={"sign_in": {"acr": "2fa"}})
        announce(tools.id, "config", f"grants:{tools.tools_grant.id}")
    claims = {"aud": resource_url(tools.slug, "office-mcp"), "grant_id": str(tools.tools_grant.id), "acr": "1fa"}
    headers = [
        *tools.bearer(**claims),
        ("Content-Type", "application/json"),
        ("Accept", "application/json, text/event-stream"),
    ]
    called = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "see_rooms", "arguments": {}}}
    answer = tools.door.call("POST", tools.path("", "office-mcp"), headers, json.dumps(called).encode())
    assert answer.status == 401 and 'error="insufficient_user_authentication"' in answer.header("www-authenticate")
    assert answer.json()["error"]["data"]["acr_values"] == "2fa phr"
    listed = {"jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": {}}
    answer = tools.door.call("POST", tools.path("", "office-mcp"), headers, json.dumps(listed).encode())
    assert answer.status != 401


def test_what_a_resource_demands_holds_from_a_risk_class_on(stage: Stage) -> None:
    from agentauth.grants.sign_in_rules import demand_sign_in, lift_demand

    with in_tenant(stage.id):
        demand_sign_in(stage.house.office, from_risk="change", acr="2fa", max_age=None, by=stage.house.owner)
    eventually(lambda: enter(stage, acr="1fa").codes == ["constraint_sign_in"])
    assert stage.call("GET", "/rooms", acr="1fa").status == 200
    assert enter(stage, acr="2fa").status == 200
    with in_tenant(stage.id):
        lift_demand(stage.house.office, by=stage.house.owner)
    eventually(lambda: enter(stage, acr="1fa").status == 200)


def test_of_two_demands_the_stricter_counts_in_each_part(stage: Stage) -> None:
    from agentauth.grants.sign_in_rules import demand_sign_in

    demand(stage, acr="phr", max_age=3600)
    with in_tenant(stage.id):
        demand_sign_in(stage.house.office, from_risk="read", acr="2fa", max_age=60, by=stage.house.owner)
    answer = eventually(
        lambda: found if 'max_age="60"' in (found := enter(stage, acr="2fa")).header("www-authenticate") else None
    )
    assert 'acr_values="phr", max_age="60"' in answer.header("www-authenticate")
    just_now = int(time.time())
    assert enter(stage, acr="phr", auth_time=just_now).status == 200
