"""HTTP/1.1 as uvicorn speaks it, with an end to patience: nobody holds a connection by saying slowly what they want.

uvicorn itself waits without end for a request's head, of any size (measured with 0.54).
"""

import asyncio
import re
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

LARGEST_HEAD = 64 * 1024
HEAD_SECONDS = 20.0  # from the first moment of a connection, or the first byte of its next request
REQUEST_SECONDS = 300.0  # until its last byte
_NOTHING = (0, 0.0)
_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]+)(:[0-9]*)?")


class Patience(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timer: asyncio.TimerHandle | None = None
        self._timed = _NOTHING
        self._begun = 0  # messages
        self._awaiting = _NOTHING  # the number of a message and how long the rest of its head or body may take
        self._in_head = True
        self._head = 0  # bytes of a head that is not complete yet

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._awaiting = (0, HEAD_SECONDS)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._awaiting = _NOTHING
        self._watch()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._go_on_as_we_are(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(400)
            return
        if self._awaiting is not self._timed:
            self._watch()
        if self._in_head:
            self._head += len(data)
            if self._head > LARGEST_HEAD:
                self._refuse(431)

    def on_message_begin(self) -> None:
        self._begun, self._head = self._begun + 1, 0
        self._in_head, self._awaiting = True, (self._begun, HEAD_SECONDS)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head, self._awaiting = False, (self._begun, REQUEST_SECONDS)
        self._require_host()
        if not self.parser.should_upgrade():
            self.begin()

    def begin(self) -> None:
        """The head is there."""
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._awaiting = _NOTHING
        if not self.parser.should_upgrade():
            self.complete()

    def complete(self) -> None:
        """All of the body is there."""
        super().on_message_complete()

    def _go_on_as_we_are(self, rest: bytes) -> None:
        """Who offers another protocol is answered in this one (RFC 9110 §7.8); the parser would leave the body out."""
        head = [self.parser.get_method(), b" ", self.url, b" HTTP/1.1\r\n"]
        for name, value in self.headers:
            if name != b"upgrade":
                head += [name, b": ", value, b"\r\n"]
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"".join([*head, b"\r\n", rest]))

    def _require_host(self) -> None:
        """RFC 9112 §3.2: one, and a good one. HTTP/1.0 may go without. The parser tells our error as one of its own."""
        hosts = [value for name, value in self.headers if name == b"host"]
        if not hosts and self.parser.get_http_version() == "1.0":
            return
        if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
            raise ValueError("no good Host")

    def _watch(self) -> None:
        """Once all that came is read: most requests come whole, and need no timer."""
        if self._timer is not None:
            self._timer.cancel()
        self._timed = self._awaiting
        self._timer = self.loop.call_later(self._timed[1], self._refuse, 408) if self._timed[1] else None

    def _refuse(self, status: int) -> None:
        """RFC 9110 §15.5.9, RFC 6585 §5. What was begun for this connection ends with it."""
        if self.transport.is_closing():
            return
        if self._hears_us():
            self.transport.write(STATUS_LINE[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()

    def _hears_us(self) -> bool:
        """Whether what we say now would be taken for the answer to what is wrong, and not to a request before it."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return True
        return cycle.more_body and not cycle.response_started and not self.pipeline
