"""What the authorization endpoint refuses by a redirect, always with `iss` and `state`."""

from typing import Any

import pytest
from django.db import transaction

from agentauth.resources.models import Resource
from tenants.rls import in_tenant, set_tenant
from tests import cast
from tests.cast import events_of
from tests.oauth.browser import Flow, answer_in


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),  # OAuth 2.1 §10.1: no implicit grant
        ({"response_type": "code token"}, "unsupported_response_type"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"scope": "rooms:read nothing:here"}, "invalid_scope"),
        ({"scope": 'rooms:read "'}, "invalid_scope"),
        ({"resource": "https://elsewhere.example/api"}, "invalid_target"),  # RFC 8707 §2
        ({"resource": "http://localhost:8001/acme/office/"}, "invalid_target"),
        ({"resource": "http://localhost:8001/acme/office#x"}, "invalid_target"),
        ({"resource": "http://localhost:8001/globex/office"}, "invalid_target"),
        ({"resource": "not a url"}, "invalid_target"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"prompt": "dance"}, "invalid_request"),
        ({"max_age": "soon"}, "invalid_request"),
        ({"request": "x.y.z"}, "request_not_supported"),
        ({"request_uri": "urn:x"}, "request_uri_not_supported"),
        ({"nonce": "n" * 300}, "invalid_request"),
        ({"scope": ["rooms:read", "rooms:book"]}, "invalid_request"),
        ({"login_hint": "x" * 3000}, "invalid_request"),
    ],
)
def test_a_wrong_request_goes_back_with_its_error_iss_and_state(
    flow: Flow, changes: dict[str, Any], error: str
) -> None:
    answer = answer_in(flow.authorize(**changes))
    assert answer["error"] == error
    assert answer["iss"] == flow.issuer and answer["state"] == "s t&=é"  # RFC 9207 §2, OAuth 2.1 §4.1.2.1
    assert "code" not in answer
    assert len(events_of(flow.house.tenant.id, "authorization.refused")) == 1


def test_a_repeated_state_is_not_sent_back(flow: Flow) -> None:
    answer = answer_in(flow.authorize(state=["a", "b"]))
    assert answer["error"] == "invalid_request" and "state" not in answer


def test_without_a_resource_only_the_one_that_is_possible_is_meant(flow: Flow) -> None:
    assert flow.authorize(resource=None).status_code == 200
    with transaction.atomic():
        set_tenant(flow.house.tenant.id)
        second = cast.office(flow.house, slug="annex")
        from agentauth.resources.ceilings import set_ceiling
        from agentauth.resources.models import Scope

        set_ceiling(flow.agent, list(Scope.objects.filter(tenant=flow.house.tenant)), by=flow.house.owner)
        assert second.state == Resource.State.PUBLISHED
    assert answer_in(flow.authorize(resource=None))["error"] == "invalid_target"


def test_what_is_above_the_agents_ceiling_is_not_offered(flow: Flow) -> None:
    from agentauth.resources.ceilings import set_ceiling

    with in_tenant(flow.house.tenant.id):
        set_ceiling(flow.agent, [flow.house.scope("rooms:read")], by=flow.house.owner)
    assert flow.tokens(scope="rooms:read meeting:enter")["scope"] == "rooms:read"
    answer = answer_in(flow.authorize(scope="meeting:enter"))
    assert answer["error"] == "invalid_scope" and answer["iss"] == flow.issuer
    assert events_of(flow.house.tenant.id, "authorization.refused")[-1].reasons == ["above_ceiling"]


def test_a_client_that_names_no_scope_is_offered_all_there_is(flow: Flow) -> None:
    html = flow.authorize(scope=None).content.decode()
    assert all(name in html for name in ("rooms:read", "rooms:book", "meeting:enter", "finance:enter"))


def test_our_own_api_is_a_resource_like_any_other(flow: Flow) -> None:
    from agentauth.resources.ceilings import set_ceiling
    from agentauth.resources.models import Scope

    with in_tenant(flow.house.tenant.id):
        set_ceiling(flow.agent, [Scope.objects.get(tenant=flow.house.tenant, name="agents:read")], by=flow.house.owner)
    flow.sign_in("ada")
    url = "http://localhost:8000/api/v1/tenants/acme"
    tokens = flow.tokens(resource=url, scope="agents:read")
    assert tokens["scope"] == "agents:read"
