"""A tenant's issuer at a host of its own, in Chromium against the running thing: sign-in, consent, token, call."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from playwright.sync_api import Browser, expect

from agentauth.oauth.pkce import challenge_of
from tests.stack import Stack

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]
HOST = "acme-issuer.localhost"  # a name that leads to this machine in every browser
BACK = "http://127.0.0.1:9/cb"
VERIFIER = "v" * 50


@dataclass
class There:
    """The host, as who asks there sees it."""

    stack: Stack

    @property
    def issuer(self) -> str:
        return f"http://{HOST}:{urlsplit(self.stack.base_url).port}"

    def ask(self, url: str, data: bytes | None = None, kind: str = "", bearer: str = "") -> tuple[int, Any]:
        """Over a connection to this machine, whatever the resolver thinks of the name."""
        parts = urlsplit(url)
        local = parts._replace(netloc=f"127.0.0.1:{parts.port}").geturl()
        headers = {"Host": parts.netloc, "Content-Type": kind, "Authorization": f"Bearer {bearer}" if bearer else ""}
        request = urllib.request.Request(local, data, {name: value for name, value in headers.items() if value})
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read()


@pytest.fixture(scope="module")
def there(stack: Stack) -> Iterator[There]:
    """Acme's issuer moved, and back afterwards: the stack is everybody's."""
    import subprocess
    import sys

    from tests.database import CHECKOUT

    environ = {**stack.environ, "AGENTAUTH_BASE_URL": stack.base_url, "AGENTAUTH_GATEWAY_URL": stack.gateway_url}

    def move(*to: str) -> None:
        command = [sys.executable, str(CHECKOUT / "manage.py"), "move_issuer", "acme", *to]
        subprocess.run(command, env=environ, check=True, capture_output=True)

    move(HOST)
    yield There(stack)
    move("--back")


def test_a_person_signs_in_and_allows_at_the_issuers_own_host(there: There, chromium: Browser) -> None:
    status, said = there.ask(f"{there.issuer}/.well-known/oauth-authorization-server")
    assert status == 200 and said["issuer"] == there.issuer
    assert there.ask(f"{there.stack.base_url}/.well-known/oauth-authorization-server/t/acme")[0] == 404
    _, resource = there.ask(f"{there.stack.gateway_url}/.well-known/oauth-protected-resource/acme/office")
    assert resource["authorization_servers"] == [there.issuer]

    client = {"client_name": "Own host probe", "redirect_uris": [BACK], "token_endpoint_auth_method": "none"}
    status, registered = there.ask(said["registration_endpoint"], json.dumps(client).encode(), "application/json")
    assert status == 201
    asked = {
        "response_type": "code", "client_id": registered["client_id"], "redirect_uri": BACK, "state": "s",
        "code_challenge": challenge_of(VERIFIER), "code_challenge_method": "S256", "resource": resource["resource"],
    }  # fmt: skip
    context = chromium.new_context()
    page = context.new_page()
    page.goto(f"{said['authorization_endpoint']}?{urlencode(asked)}")
    assert page.url.startswith(f"{there.issuer}/account/login/")
    page.fill("#id_login", "matt@acme.example")
    page.fill("#id_password", there.stack.demo_password)
    page.get_by_role("button", name="Sign in").first.click()
    expect(page.get_by_role("heading", name="Own host probe asks for a badge")).to_be_visible()
    assert page.url.startswith(f"{there.issuer}/oauth/authorize")
    with page.expect_request(lambda request: request.url.startswith(BACK)) as back:
        page.get_by_role("button", name="Allow").click()
    answer = {name: values[0] for name, values in parse_qs(urlsplit(back.value.url).query).items()}
    assert answer["iss"] == there.issuer and answer["state"] == "s"
    assert {cookie["domain"] for cookie in context.cookies()} == {HOST}  # the console's host knows nothing of it
    context.close()

    form = {"grant_type": "authorization_code", "code": answer["code"], "redirect_uri": BACK, "code_verifier": VERIFIER}
    form |= {"client_id": registered["client_id"], "resource": resource["resource"]}
    kind = "application/x-www-form-urlencoded"
    status, token = there.ask(said["token_endpoint"], urlencode(form).encode(), kind)
    assert status == 200
    status, passed = there.ask(f"{resource['resource']}/rooms", bearer=token["access_token"])
    assert status == 200, passed


def test_nothing_of_another_tenant_or_of_the_console_is_at_that_host(there: There) -> None:
    for path in ("/t/globex/oauth/jwks.json", "/.well-known/oauth-authorization-server/t/globex", "/operator/"):
        assert there.ask(f"{there.issuer}{path}")[0] == 404, path
    base = there.stack.base_url
    assert there.ask(f"{base}/.well-known/oauth-authorization-server/t/globex")[1]["issuer"] == f"{base}/t/globex"
