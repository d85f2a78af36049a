"""Protected resource metadata (RFC 9728) and health."""

from __future__ import annotations

from agentauth.keys.addresses import resource_url
from agentauth.resources.models import Operation, Resource
from tenants.issuer import issuer_at, move_issuer
from tenants.notice import announce
from tenants.rls import in_tenant
from tests.cast import CAST
from tests.gateway.conftest import Stage, eventually


def test_metadata_says_whose_tokens_are_good_here(stage: Stage) -> None:
    answer = stage.door.call("GET", f"/.well-known/oauth-protected-resource/{stage.slug}/office")
    assert answer.status == 200
    assert answer.json() == {
        "resource": resource_url(stage.slug, "office"),
        "authorization_servers": [issuer_at(stage.slug, "")],
        "scopes_supported": ["finance:enter", "meeting:enter", "rooms:book", "rooms:read"],
        "bearer_methods_supported": ["header"],
        "resource_name": "Office",
        "dpop_signing_alg_values_supported": ["ES256", "Ed25519", "EdDSA", "PS256", "RS256"],
        "dpop_bound_access_tokens_required": False,
        "authorization_details_types_supported": ["operation"],
    }
    assert answer.header("access-control-allow-origin") == "*"


def test_metadata_leaves_out_what_has_no_values(stage: Stage) -> None:
    """RFC 9728 §3.2: a resource whose operations need no scope yet names none."""
    known = f"/.well-known/oauth-protected-resource/{stage.slug}/office"
    with in_tenant(stage.id):
        Operation.objects.filter(tenant_id=stage.id, resource=stage.house.office).delete()
        announce(stage.id, "config", f"resources:{stage.house.office.pk}")
    assert eventually(lambda: "scopes_supported" not in stage.door.call("GET", known).json(), timeout=1)
    assert [] not in stage.door.call("GET", known).json().values()


def test_metadata_is_only_read_and_any_page_may_read_it(stage: Stage) -> None:
    path = f"/.well-known/oauth-protected-resource/{stage.slug}/office"
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        answer = stage.door.call(method, path)
        assert (answer.status, answer.header("allow")) == (405, "GET, HEAD, OPTIONS"), method  # RFC 9110 §15.5.6
    preflight = stage.door.call("OPTIONS", path, [("Origin", "https://app.example")])
    assert (preflight.status, preflight.header("access-control-allow-origin")) == (204, "*")
    named = str(preflight.header("access-control-allow-headers")).split(", ")
    assert {"*", "Authorization", "DPoP", "MCP-Protocol-Version"} <= set(named)  # Fetch: no star covers the first


def test_metadata_of_what_is_not_published_does_not_exist(stage: Stage) -> None:
    known = f"/.well-known/oauth-protected-resource/{stage.slug}"
    for path in (f"{known}/nothing", f"{known}/agentauth", known, f"{known}/office/", f"{known}/office/more"):
        assert stage.door.call("GET", path).status == 404, path
    with in_tenant(stage.id):
        Resource.objects.filter(pk=stage.house.office.pk).update(state="draft")
        announce(stage.id, "config", f"resources:{stage.house.office.pk}")
    assert eventually(lambda: stage.door.call("GET", f"{known}/office").status == 404, timeout=1)
    assert stage.door.call("GET", stage.path("/rooms")).status == 404


def test_health_needs_no_token_and_says_nothing_else(stage: Stage) -> None:
    for path in ("/livez", "/readyz"):
        answer = stage.door.call("GET", path, [("User-Agent", "kube-probe/1.30")])
        assert (answer.status, answer.json()) == (200, {"status": "ok"})
    answer = stage.door.call("GET", stage.path("/rooms"), [("User-Agent", "kube-probe/1.30")])
    assert answer.status == 401


def test_an_issuer_at_a_host_of_its_own_is_named_at_once_and_tokens_of_the_former_name_end(stage: Stage) -> None:
    former = stage.token()
    assert stage.call("GET", "/rooms", token=former).status == 200
    with in_tenant(stage.id):
        move_issuer(stage.house.tenant, "auth.stage.example", by=CAST)
    try:
        known = f"/.well-known/oauth-protected-resource/{stage.slug}/office"
        here = issuer_at(stage.slug, "auth.stage.example")
        assert eventually(lambda: stage.door.call("GET", known).json()["authorization_servers"] == [here], timeout=1)
        assert stage.call("GET", "/rooms", token=former).status == 401
        assert stage.call("GET", "/rooms", iss=here).status == 200
    finally:
        with in_tenant(stage.id):
            move_issuer(stage.house.tenant, "", by=CAST)
