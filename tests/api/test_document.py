"""The OpenAPI document is valid, complete, and true: generated requests find no answer that it does not describe."""

import json

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, transaction
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import validate
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from agentauth.agents.registering import add_secret
from agentauth.api import problems
from agentauth.wsgi import application
from tests import cast
from tests.api.tokens import WRITE, robot
from tests.oauth.provider import Provider

load_all_checks()
positive_data_acceptance = CHECKS.get_one("positive_data_acceptance")  # 409 and 422 are fair answers


def document():
    answer = Client().get("/api/v1/openapi.json")
    assert answer.status_code == 200
    return json.loads(answer.content)


def test_the_document_is_valid_openapi_3_1():
    found = document()
    assert found["openapi"].startswith("3.1")
    validate(found)


def test_every_operation_has_a_name_a_summary_its_problems_and_the_token():
    names = []
    for path, item in document()["paths"].items():
        assert path.startswith("/api/v1/tenants/{tenant}/")
        for method, operation in item.items():
            names.append(operation["operationId"])
            assert operation["summary"], (method, path)
            assert operation["security"] == [{"token": []}]
            assert {"401", "403", "404"} <= operation["responses"].keys()
    assert len(names) == len(set(names)) >= 20


def test_every_problem_has_a_place_that_explains_it():
    page = Client().get("/api/v1/problems/").content.decode()
    for code in problems.KINDS:
        assert f'id="{code}"' in page


def test_the_reference_needs_nothing_from_elsewhere_and_nothing_inline():
    answer = Client().get("/api/v1/docs/")
    page = answer.content.decode()
    assert "https://" not in page and "<style" not in page and "style=" not in page
    assert "script-src 'self'" in answer["Content-Security-Policy"]


OPERATIONS = [
    f"{method.upper()} {path}" for path, item in document()["paths"].items() for method in item
]  # fmt: skip


@pytest.mark.parametrize("label", OPERATIONS)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
@given(data=st.data())
def test_no_generated_request_breaks_it_or_gets_an_undescribed_answer(described, label, data):
    """Half of the requests are as described, half are not; half of them name rows that exist."""
    schema, rows = described
    mode = data.draw(st.sampled_from([GenerationMode.POSITIVE, GenerationMode.NEGATIVE]))
    case = data.draw(schema.find_operation_by_label(label.replace("{tenant}", "acme")).as_strategy(mode))
    if mode is GenerationMode.POSITIVE and data.draw(st.booleans()):
        case.path_parameters = {name: str(rows[name]) for name in case.path_parameters}
    with transaction.atomic():  # an agent stopped by one request would refuse all that follow
        case.call_and_validate(excluded_checks=[positive_data_acceptance])
        transaction.set_rollback(True)


@pytest.fixture
def described(db):
    """The API of Acme as a robot with every right sees it, and a row of Acme for each id in a path."""
    acme = cast.acme()
    agent = cast.assistant(acme)
    grant = cast.matts_grant(acme, agent)
    credential, _ = add_secret(agent, by=acme.owner)
    found = document()
    for item in found["paths"].values():  # generated tenants would find nothing but 404
        for operation in item.values():
            operation["parameters"] = [one for one in operation["parameters"] if one["name"] != "tenant"]
    found["paths"] = {path.replace("{tenant}", "acme"): item for path, item in found["paths"].items()}
    loaded = schemathesis.openapi.from_dict(found)
    loaded.app = application
    loaded.config.update(headers=robot(acme, *WRITE).headers)
    rows = {
        "agent": agent.id,
        "grant": grant.id,
        "credential": credential.id,
        "resource": acme.office.id,
        "event": acme.events()[0].id,
        "export": agent.id,
        "issuer": Provider().trusted_by(acme).id,
    }
    signals = (request_started, request_finished)
    for signal in signals:  # as Django's own test client does: all requests share this test's transaction
        signal.disconnect(close_old_connections)
    yield loaded, rows
    for signal in signals:
        signal.connect(close_old_connections)
