"""No secret and no token is kept in the clear, written to a log, sent to the queue or shown in an error."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx2
import pytest
import redis

from agentauth.embedded import paths
from tests.flows.admin import register_agent, scopes_of
from tests.flows.agent import CALLBACK, AgentProgram
from tests.flows.installation import Installation
from tests.stack import Stack

pytestmark = [pytest.mark.flow, pytest.mark.timeout(180)]


@contextmanager
def overheard(stack: Stack) -> Iterator[list[str]]:
    """Every command that the queue gets meanwhile, word by word."""
    address = str(paths.runtime_dir_of(stack.home) / "valkey.sock")
    said: list[str] = []
    queue = redis.Redis(unix_socket_path=address, decode_responses=False)
    with queue.monitor() as monitor:
        done = threading.Event()

        def listen() -> None:
            with suppress(redis.ConnectionError, ValueError):  # it is closed while waiting
                while not done.is_set():
                    said.append(str(monitor.next_command()["command"]))

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield said
        done.set()
        queue.ping()  # one more to wake it
        thread.join(10)


def rows_with(stack: Stack, secret: str) -> list[str]:
    """The tables in which it stands, as text or as the bytes of it."""
    found = stack.sql(
        "SELECT format('%%I.%%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition "
        "AND n.nspname NOT IN ('pg_catalog', 'information_schema')"
    )
    assert len(found) > 30
    as_bytes = secret.encode().hex()
    return [
        table
        for (table,) in found
        if stack.sql(
            f"SELECT 1 FROM {table} t WHERE position(%s in t::text) > 0 OR position(%s in t::text) > 0 LIMIT 1",
            (secret, as_bytes),
        )
    ]


def logs_of(stack: Stack) -> dict[str, str]:
    found = {path.name: path.read_text(errors="replace") for path in (stack.home / "logs").glob("*")}
    assert len(found) > 3
    return found | {"what was printed": stack.output()}


def through_all(here: Installation) -> tuple[dict[str, str], list[str]]:
    """Each kind of secret by its name, after it was made, used, used wrongly and sent where it does not belong."""
    scopes = scopes_of(here.stack, "office", "read")
    client_id, secret = register_agent(here.stack, here.ada, "Leaves no trace", scopes, redirect=CALLBACK)
    agent = AgentProgram(client_id, secret, here.office)
    known = {"client secret": secret, "code": agent.ask(here.matt, scope="openid rooms:read")["code"]}
    known |= {f"first {name}": agent.tokens[name] for name in ("access_token", "refresh_token", "id_token")}
    assert agent.call("GET", "/rooms").status_code == 200
    agent.tokens = agent.refresh().json()
    known |= {name: agent.tokens[name] for name in ("access_token", "refresh_token")}
    shown: list[str] = []

    def send(endpoint: str, data: Any, **more: Any) -> Any:
        answer = agent.http.post(f"{here.issuer}/oauth/{endpoint}", data=data, **more)
        shown.append(answer.text if answer.status_code >= 400 else "")
        return answer

    me = (client_id, secret)
    send("introspect", {"token": known["access_token"]}, auth=me)
    send("introspect", {"token": known["refresh_token"]}, auth=me)
    asked = {"scope": "openid rooms:read", "resource": here.office, "login_hint": "matt@acme.example"}
    asking = send("bc-authorize", asked, auth=me).json()
    known |= {"auth_req_id": asking["auth_req_id"]} if "auth_req_id" in asking else {}
    metadata = {
        "redirect_uris": [CALLBACK],
        "client_name": "Nobody",
        "token_endpoint_auth_method": "client_secret_post",
    }
    grants = ["authorization_code", "urn:ietf:params:oauth:grant-type:device_code"]
    made = agent.http.post(f"{here.issuer}/oauth/register", json=metadata | {"grant_types": grants}).json()
    known |= {"registered secret": made["client_secret"], "registration token": made["registration_access_token"]}
    other = {"client_id": made["client_id"], "client_secret": made["client_secret"]}
    device = send("device_authorization", other | {"resource": here.office, "scope": "rooms:read"}).json()
    known["device_code"] = device["device_code"]
    bearer = {"Authorization": f"Bearer {known['registration token']}"}
    assert agent.http.get(made["registration_client_uri"], headers=bearer).status_code == 200
    # Wrongly
    for name, value in list(known.items()):
        wrong: dict[str, Any] = {"grant_type": "authorization_code", "code": value, "redirect_uri": CALLBACK}
        send("token", wrong, auth=me)
        send(
            "token", {"grant_type": "refresh_token", "refresh_token": value, "resource": value}, auth=(client_id, value)
        )
        send("token", json.dumps({name: value}), headers={"Content-Type": "application/json"})
        send("introspect", {"token": value, "client_assertion": value, "client_assertion_type": value})
        send(
            "register",
            json.dumps({"client_name": value, "redirect_uris": value}),
            headers={"Content-Type": "application/json"},
        )
        for url in (
            f"{here.office}/rooms",
            f"{here.stack.base_url}/api/v1/tenants/acme/agents",
            f"{here.issuer}/oauth/userinfo",
        ):
            for scheme in ("Bearer", "DPoP"):
                headers = {"Authorization": f"{scheme} {value}x", "DPoP": value}
                shown.append(agent.http.get(url, headers=headers).text)
    known["a made-up secret"] = f"aas_{secrets.token_urlsafe(32)}"
    send("token", {"grant_type": "client_credentials"}, auth=(client_id, known["a made-up secret"]))
    send("revoke", {"token": known["refresh_token"]}, auth=me)
    return known, shown


def test_no_secret_is_kept_or_told_where_it_should_not_be(here: Installation) -> None:
    with overheard(here.stack) as queue:
        known, shown = through_all(here)
        agent = httpx2.Client(timeout=30)
        assert agent.get(f"{here.stack.base_url}/readyz").status_code == 200
    logs = logs_of(here.stack)
    assert {"device_code", "auth_req_id", "registration token"} <= set(known)
    leaks = []
    for name, value in known.items():
        leaks += [f"{name} in {table}" for table in rows_with(here.stack, value)]
        leaks += [f"{name} in the log of {log}" for log, text in logs.items() if value in text]
        leaks += [f"{name} in the queue" for said in queue if value in said]
        leaks += [f"{name} in an answer that refuses" for text in shown if value in text]
    assert sorted(set(leaks)) == []
    assert queue, "nothing was overheard"


def test_the_search_finds_what_lies_about(here: Installation) -> None:
    """What is known to be kept, by the way it is looked for: an agent's id, and the address in a log."""
    register_agent(here.stack, here.ada, "Found everywhere", scopes_of(here.stack, "office", "read"))
    assert "public.agents_agent" in [
        f"public.{table.rpartition('.')[2]}" for table in rows_with(here.stack, "Found everywhere")
    ]
    assert any(text for text in logs_of(here.stack).values())
