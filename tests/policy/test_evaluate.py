"""The decision, from facts alone: what is enough, what each missing piece means; nothing passes by accident."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentauth.policy.decision import Effect, Reason
from agentauth.policy.evaluate import evaluate, evaluate_protocol, may_be_seen
from agentauth.policy.facts import AgentFacts, CallFacts, Facts, GrantFacts, OperationFacts

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)  # a Friday
HOUR = timedelta(hours=1)
GOOD = Facts(
    call=CallFacts(NOW, ip="192.0.2.7"),
    agent=AgentFacts("active"),
    operation=OperationFacts("POST /rooms/meeting/enter", "meeting:enter", "change"),
    grant=GrantFacts(NOW + HOUR, modes={"meeting:enter": "always"}),
    token_scopes=frozenset({"meeting:enter"}),
    member_active=True,
)


def agent(**changes: object) -> Facts:
    return replace(GOOD, agent=replace(GOOD.agent, **changes))  # type: ignore[type-var]


def operation(**changes: object) -> Facts:
    return replace(GOOD, operation=replace(GOOD.operation, **changes))  # type: ignore[type-var]


def grant(**changes: object) -> Facts:
    return replace(GOOD, grant=replace(GOOD.grant, **changes))  # type: ignore[type-var]


REFUSED: dict[Reason, Facts] = {
    Reason.TENANT_SUSPENDED: replace(GOOD, tenant_suspended=True),
    Reason.AGENT_UNKNOWN: replace(GOOD, agent=None),
    Reason.AGENT_NOT_ACTIVE: agent(state="draft"),
    Reason.AGENT_SUSPENDED: agent(state="suspended"),
    Reason.AGENT_RETIRED: agent(state="retired"),
    Reason.AGENT_EXPIRED: agent(valid_until=NOW),
    Reason.MEMBER_INACTIVE: replace(GOOD, member_active=False),
    Reason.RESOURCE_NOT_PUBLISHED: replace(GOOD, resource_published=False),
    Reason.OPERATION_UNKNOWN: replace(GOOD, operation=None),
    Reason.OPERATION_UNMAPPED: operation(scope=None),
    Reason.OPERATION_HELD: operation(held=True),
    Reason.GRANT_MISSING: replace(GOOD, grant=None),
    Reason.GRANT_ENDED: grant(ended=True),
    Reason.GRANT_EXPIRED: grant(expires_at=NOW),
    Reason.GRANT_LACKS_SCOPE: grant(modes={"rooms:read": "always"}),
    Reason.GRANT_SAYS_NEVER: grant(modes={"meeting:enter": "never"}),
    Reason.SCOPE_MISSING: replace(GOOD, token_scopes=frozenset({"rooms:read"})),
    Reason.ABOVE_CEILING: agent(ceiling_risk="read"),
    Reason.TOKEN_OTHER_CALL: replace(GOOD, token_calls=frozenset({("GET /rooms", "")})),
}


def test_a_call_with_everything_passes() -> None:
    assert evaluate(GOOD).effect is Effect.ALLOW


@pytest.mark.parametrize("reason", REFUSED)
def test_each_thing_that_is_missing_refuses_for_its_own_reason(reason: Reason) -> None:
    decision = evaluate(REFUSED[reason])
    assert (decision.effect, decision.reasons) == (Effect.REFUSE, (reason,))
    assert not may_be_seen(REFUSED[reason])


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_says_what_is_wrong_and_what_would_fix_it(reason: Reason) -> None:
    assert reason.words.endswith(".") and reason.fix.endswith(".")


def test_a_ceiling_with_a_list_holds_only_what_is_listed() -> None:
    assert evaluate(agent(ceiling=frozenset({"meeting:enter"}))).allowed
    assert evaluate(agent(ceiling=frozenset())).reasons == (Reason.ABOVE_CEILING,)


@pytest.mark.parametrize("risk", ["", "harmless", "DANGEROUS"])
def test_a_risk_class_that_is_not_known_is_above_every_ceiling(risk: str) -> None:
    assert evaluate(operation(risk=risk)).reasons == (Reason.ABOVE_CEILING,)
    assert not evaluate(agent(ceiling_risk=risk)).allowed


def test_ask_asks_until_approved() -> None:
    asked = grant(modes={"meeting:enter": "ask"})
    assert evaluate(asked).asked and evaluate(asked).reasons == (Reason.NEEDS_APPROVAL,)
    assert evaluate(replace(asked, call=replace(asked.call, approved=True))).allowed
    assert may_be_seen(asked)


def test_a_yes_does_not_replace_a_grant() -> None:
    for facts in REFUSED.values():
        assert not evaluate(replace(facts, call=replace(facts.call, approved=True))).allowed


def test_a_mode_that_is_not_known_is_never() -> None:
    assert evaluate(grant(modes={"meeting:enter": "sometimes"})).reasons == (Reason.GRANT_SAYS_NEVER,)


def test_an_agent_for_itself_needs_no_person() -> None:
    assert evaluate(replace(GOOD, member_active=None)).allowed


def test_protocol_messages_need_a_live_grant_and_no_scope() -> None:
    assert evaluate_protocol(replace(GOOD, operation=None, token_scopes=frozenset())).allowed
    assert evaluate_protocol(grant(expires_at=NOW)).reasons == (Reason.GRANT_EXPIRED,)
    assert evaluate_protocol(grant(constraints={"ip": ["198.51.100.0/24"]})).reasons == (Reason.CONSTRAINT_IP,)
    assert evaluate_protocol(grant(constraints={"calls_per_day": 0})).allowed


def test_a_constraint_that_is_not_understood_refuses() -> None:
    bad: tuple[dict[str, object], ...] = (
        {"moon": "full"},
        {"ip": "everywhere"},
        {"calls_per_day": "many"},
        {"time_window": []},
    )
    for constraints in bad:
        assert evaluate(grant(constraints=constraints)).reasons == (Reason.CONSTRAINT_UNKNOWN,)


flags = st.booleans()


@given(st.data())
def test_nothing_passes_unless_everything_holds(data: st.DataObject) -> None:
    """Any mixture of faults: allowed exactly if none was chosen."""
    chosen = data.draw(st.sets(st.sampled_from(sorted(REFUSED))))
    facts = GOOD
    for reason in chosen:
        broken = REFUSED[reason]
        changed = {
            name: getattr(broken, name)
            for name in (
                "agent",
                "operation",
                "grant",
                "token_scopes",
                "token_calls",
                "member_active",
                "resource_published",
            )
            if getattr(broken, name) != getattr(GOOD, name)
        }
        facts = replace(facts, **changed, tenant_suspended=facts.tenant_suspended or broken.tenant_suspended)
    assert evaluate(facts).allowed == (not chosen)


def test_a_token_for_one_call_is_for_its_arguments_too() -> None:
    only = replace(GOOD, token_calls=frozenset({("POST /rooms/meeting/enter", "a1")}))
    assert evaluate(replace(only, call=replace(only.call, args_hash="a1"))).allowed
    assert evaluate(replace(only, call=replace(only.call, args_hash="a2"))).reasons == (Reason.TOKEN_OTHER_CALL,)
    assert may_be_seen(only)
    assert evaluate_protocol(replace(only, operation=None)).allowed


def test_what_an_operation_and_a_grant_demand_of_the_sign_in_both_hold() -> None:
    at = int(NOW.timestamp())
    facts = replace(operation(sign_in={"acr": "2fa"}), grant=grant(constraints={"sign_in": {"max_age": 60}}).grant)
    assert evaluate(replace(facts, call=replace(facts.call, acr="2fa", auth_time=at - 60))).allowed
    for acr, auth_time in (("1fa", at), ("", at), ("2fa", at - 61), ("2fa", None)):
        decision = evaluate(replace(facts, call=replace(facts.call, acr=acr, auth_time=auth_time)))
        assert decision.reasons == (Reason.CONSTRAINT_SIGN_IN,)
        assert decision.sign_in == {"acr": "2fa", "max_age": 60}


@pytest.mark.parametrize("rule", [{"acr": "gold"}, {"max_age": "soon"}, {"amr": "otp"}])
def test_a_demand_that_cannot_be_read_refuses(rule: dict[str, object]) -> None:
    facts = operation(sign_in=rule)
    facts = replace(facts, call=replace(facts.call, acr="phr", auth_time=int(NOW.timestamp())))
    assert evaluate(facts).reasons == (Reason.CONSTRAINT_UNKNOWN,)
    assert evaluate(facts).sign_in == {}
