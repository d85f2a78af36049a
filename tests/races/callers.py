"""Callers who are released together: each has sent all of its request but the last byte, and then sends that.

A barrier of threads would let them go milliseconds apart; this does it within some ten microseconds each.
"""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.parse import urlencode

Address = tuple[str, int]
PATIENCE = 60.0  # seconds for an answer, on a machine that is busy with other things


@dataclass(frozen=True)
class Answer:
    """What came back. `headers` have small names."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


def written(
    method: str,
    path: str,
    host: str,
    *,
    headers: Mapping[str, str] | None = None,
    form: Mapping[str, Any] | None = None,
    document: Any = None,
) -> bytes:
    """A request as it goes over the wire (RFC 9112)."""
    body, kind = b"", ""
    if form is not None:
        body, kind = urlencode(form, doseq=True).encode(), "application/x-www-form-urlencoded"
    elif document is not None:
        body, kind = json.dumps(document).encode(), "application/json"
    said = {"Host": host, **(headers or {})}
    if kind:
        said |= {"Content-Type": kind, "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in said.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


class Caller:
    """One connection, kept alive from race to race."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._socket: socket.socket | None = None
        self._last = b""

    def load(self, request: bytes) -> None:
        """Send all but the last byte."""
        if self._socket is None or _has_news(self._socket):  # on an idle connection, its end
            self.close()
            self._socket = socket.create_connection(self._address, timeout=PATIENCE)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(request[:-1])
        self._last = request[-1:]

    def fire(self) -> None:
        if self._socket is not None:
            try:
                self._socket.sendall(self._last)
            except OSError:  # the other end was killed
                self.close()

    @property
    def is_answered(self) -> bool:
        """The first bytes are here, or nothing will come."""
        return self._socket is None or _has_news(self._socket)

    def answer(self) -> Answer | None:
        """None if the connection was lost before the whole answer was here."""
        if self._socket is None:
            return None
        try:
            came = HTTPResponse(self._socket)
            came.begin()
            body = came.read()
        except (OSError, HTTPException):
            self.close()
            return None
        if came.will_close:
            self.close()
        return Answer(came.status, {name.lower(): value for name, value in came.getheaders()}, body)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _has_news(connection: socket.socket) -> bool:
    return bool(select.select([connection], [], [], 0)[0])
