"""HTTP/1.1 with a short way: what the application can say to a whole request at once needs no task and no messages.

A task costs more than finding an answer in memory does. Everything else goes the way of uvicorn: what the application
does not know, what is sent while an answer is due, who reads slowly, and who closes afterwards.
"""

import logging
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from agentauth.web.protocol import Patience

log = logging.getLogger(__name__)


class Answer(Protocol):
    status: int
    headers: tuple[tuple[bytes, bytes], ...]  # all but how long it is
    content: bytes


class Later(Protocol):
    """An answer that will be told; None: not after all."""

    tell: Callable[[Any], None]


class Short(Patience):
    """One connection. The application offers `takes(method, target, headers)` and `at_once(target, headers, body, ip)`,
    which gives an Answer, a Later or None."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._kept: list[bytes] | None = None  # the body so far of a request that may be short
        self._begins = True

    def begin(self) -> None:
        if self._is_free() and self.app.takes(self.parser.get_method(), self.url, self.headers):
            self._kept = []
        else:
            super().begin()

    def on_body(self, body: bytes) -> None:
        if self._kept is None:
            super().on_body(body)
        else:
            self._kept.append(body)

    def complete(self) -> None:
        if self._kept is None:
            super().complete()
            return
        body, self._kept = b"".join(self._kept), None
        said: Any = None
        try:
            said = self.app.at_once(self.url, self.headers, body, self.client[0] if self.client else "")
        except Exception:
            log.exception("what was to be said at once")
        if said is None:
            self._hand_over(body)
        elif hasattr(said, "content"):
            self._write(said)
            self.on_response_complete()
        else:
            self._begins = False
            self._hand_over(body)
            self._begins = True
            said.tell = partial(self._told, self.cycle)

    def _is_free(self) -> bool:
        busy = self.cycle is not None and not self.cycle.response_complete
        if busy or self.flow.write_paused or self.expect_100_continue:
            return False
        return self.parser.should_keep_alive() and self.parser.get_http_version() == "1.1"

    def _hand_over(self, body: bytes) -> None:
        """To uvicorn, as if it came now."""
        super().begin()
        super().on_body(body)
        super().complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if self._begins:
            super()._start_asgi_task(cycle, app)

    def _told(self, cycle: RequestResponseCycle, answer: Answer | None) -> None:
        if cycle.disconnected:
            return
        if answer is None:
            self._start_asgi_task(cycle, self.app)
            return
        cycle.response_complete = True
        self._write(answer, cycle.keep_alive)
        self.on_response_complete()

    def _write(self, answer: Answer, keep_alive: bool = True) -> None:
        head = _head(answer.status, answer.headers, keep_alive)
        self.transport.write(head + b"%d\r\n\r\n" % len(answer.content) + answer.content)
        if not keep_alive:  # we are stopping
            self.transport.close()


@lru_cache(1024)
def _head(status: int, headers: tuple[tuple[bytes, bytes], ...], keep_alive: bool) -> bytes:
    """Up to its length."""
    lines = [STATUS_LINE[status], *(b"%b: %b\r\n" % header for header in headers)]
    return b"".join([*lines, b"" if keep_alive else b"connection: close\r\n", b"content-length: "])
