"""An app in a page of its own origin: a strict library in a real browser, with and without a key."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser

from tests.browser.eyes import Eyes
from tests.flows.parts import NODE_MODULES
from tests.stack import Stack

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

LIBRARY = NODE_MODULES / "oidc-client-ts" / "dist" / "browser" / "oidc-client-ts.min.js"
PAGE = """<!doctype html><html lang="en"><title>Room board</title><script src="/library.js"></script><script>
const { UserManager, WebStorageStateStore, IndexedDbDPoPStore } = oidc;
function begin({ issuer, client_id, resource, bound }) {
  const bind = bound ? { dpop: { bind_authorization_code: true, store: new IndexedDbDPoPStore() } } : {};
  window.resource = resource;
  window.manager = new UserManager({
    authority: issuer, client_id, redirect_uri: `${location.origin}/back`, scope: "openid rooms:read",
    extraQueryParams: { resource }, userStore: new WebStorageStateStore({ store: localStorage }), ...bind,
  });
}
async function call(bound) {
  const user = await manager.getUser(), url = `${resource}/rooms`;
  const send = async (nonce) => {
    const proof = bound ? { DPoP: await manager.dpopProof(url, user, "GET", nonce) } : {};
    return fetch(url, { headers: { Authorization: `${user.token_type} ${user.access_token}`, ...proof } });
  };
  const first = await send();
  const again = first.status === 401 && first.headers.get("DPoP-Nonce");
  const last = again ? await send(again) : first;
  return { status: last.status, told: last.headers.get("WWW-Authenticate"), rooms: (await last.json()).rooms };
}
async function end(bound) { // every gateway hears of it within a second
  await manager.revokeTokens(["access_token", "refresh_token"]);
  for (const until = Date.now() + 2000; ; await new Promise((done) => setTimeout(done, 50))) {
    const { status, told } = await call(bound);
    if (status === 401 || Date.now() > until) return told;
  }
}
async function reads(url) { try { return (await fetch(url)).status; } catch { return "kept away"; } }
</script></html>"""


@contextmanager
def app_of_its_own() -> Iterator[str]:
    """Served from an origin that is neither the issuer's nor the gateway's."""

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_script = self.path == "/library.js"
            body = LIBRARY.read_bytes() if is_script else PAGE.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/javascript" if is_script else "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def app() -> Iterator[str]:
    with app_of_its_own() as origin:
        yield origin


@pytest.fixture
def matt(stack: Stack, chromium: Browser) -> Iterator[Eyes]:
    eyes = Eyes(chromium, stack.base_url)
    yield eyes.sign_in("matt@acme.example", stack.demo_password)
    eyes.context.close()
    assert not eyes.found, "\n".join(eyes.found)


@pytest.mark.parametrize("bound", [False, True], ids=["bearer", "bound to a key"])
def test_an_app_in_a_page_signs_its_person_in_calls_goes_on_and_ends(
    stack: Stack, app: str, matt: Eyes, bound: bool
) -> None:
    """Discovery, code with PKCE, id token, call, refresh and revocation, each from a script of another origin."""
    issuer, resource = f"{stack.base_url}/t/acme", f"{stack.gateway_url}/acme/office"
    document = {
        "client_name": "Room board",
        "redirect_uris": [f"{app}/back"],
        "grant_types": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_method": "none",
        "application_type": "native",
    }
    client_id = httpx2.post(f"{issuer}/oauth/register", json=document).raise_for_status().json()["client_id"]
    known = {"issuer": issuer, "client_id": client_id, "resource": resource, "bound": bound}

    def run(script: str) -> Any:
        return matt.page.evaluate(script, known)

    matt.open(f"{app}/")
    run("known => begin(known)")
    assert run(f"() => reads('{issuer}/oauth/authorize')") == "kept away"  # RFC 9700 §2.6: no CORS there
    with matt.page.expect_navigation(url=f"{stack.base_url}/**"):
        run("() => void manager.signinRedirect()")
    matt.press("Allow")
    matt.page.wait_for_url(f"{app}/back?**")
    run("known => begin(known)")
    user = run("() => manager.signinRedirectCallback()")
    assert user["token_type"] == ("DPoP" if bound else "Bearer") and user["scope"] == "rooms:read"
    assert user["profile"]["iss"] == issuer and user["profile"]["aud"] == client_id
    assert [room["room"] for room in run("known => call(known.bound)")["rooms"]]
    renewed = run("() => manager.signinSilent()")
    assert renewed["refresh_token"] != user["refresh_token"]
    assert [room["room"] for room in run("known => call(known.bound)")["rooms"]]
    assert 'error="invalid_token"' in run("known => end(known.bound)")
    issued = stack.sql(
        "SELECT e.body::json->'details'->>'grant_type', e.body::json->'details'->>'jkt' FROM audit_event e "
        "JOIN agents_agent a ON a.id = e.agent_id WHERE e.action = 'token.issued' AND a.client_id = %s ORDER BY e.id",
        (client_id,),
    )
    assert [grant_type for grant_type, _ in issued] == ["authorization_code", "refresh_token"]
    keys = {key for _, key in issued}
    assert len(keys) == 1 and (keys != {None}) is bound
