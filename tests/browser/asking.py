"""An agent's program whose person answers in a real browser, and the address on their computer where it waits."""

from __future__ import annotations

import hashlib
import secrets
import threading
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

from tests.flows.agent import AgentProgram
from tests.stack import Stack


class Asking(AgentProgram):
    """Opens the person's browser at `address()`, and goes on with what came back to `callback`."""

    callback = ""

    def address(self, **more: str) -> str:
        self._verifier, self._state = secrets.token_urlsafe(48), secrets.token_urlsafe(8)
        challenge = urlsafe_b64encode(hashlib.sha256(self._verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.callback,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "resource": self.resource,
            "state": self._state,
        }
        return f"{self.server['authorization_endpoint']}?{urlencode(asked | more)}"

    def came_back(self, url: str) -> dict[str, str]:
        """What the browser brought; a code is exchanged at once."""
        assert url.startswith(self.callback), url
        answer = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        assert (answer["state"], answer["iss"]) == (self._state, self.server["issuer"])
        if "code" in answer:
            asked = {"grant_type": "authorization_code", "code": answer["code"], "code_verifier": self._verifier}
            asked["redirect_uri"] = self.callback
            got = self.http.post(self.server["token_endpoint"], data=asked, auth=(self.client_id, self.secret))
            self.tokens = got.raise_for_status().json()
        return answer


@contextmanager
def waiting_program() -> Iterator[str]:
    """A program on the person's own computer that waits for the browser to come back. Yields its address."""

    class Thanks(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>Back</title><p>You can close this window.")

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Thanks)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/callback"
    finally:
        server.shutdown()
        server.server_close()


def of_the_demo(stack: Stack, name: str) -> dict[str, str]:
    """What the demo's file says about an agent, as its program would read it."""
    lines = (Path(stack.home) / "demo" / f"{name}.env").read_text().splitlines()
    return {key: value.strip("'") for key, _, value in (line.partition("=") for line in lines)}
