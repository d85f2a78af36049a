"""Server-sent events, read line by line and written anew, so that what we looked at is what the client reads."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_NEWLINE = re.compile(rb"\r\n|\n|\r(?!\Z)")


class TooLong(ValueError):
    """An event longer than it may be."""


@dataclass(slots=True)
class Event:
    data: list[bytes] = field(default_factory=list)
    name: bytes = b""
    id: bytes | None = None
    retry: bytes = b""
    is_comment: bool = False

    def text(self) -> bytes:
        return b"\n".join(self.data)

    def write(self) -> bytes:
        lines = []
        if self.name:
            lines.append(b"event: " + self.name)
        if self.id is not None:
            lines.append(b"id: " + self.id)
        if self.retry:
            lines.append(b"retry: " + self.retry)
        lines += [b"data: " + line for line in self.data]
        if not lines:
            lines.append(b":")
        return b"\n".join(lines) + b"\n\n"


class Reader:
    """Feed it pieces of a stream, get the events that are complete."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._rest = b""
        self._event = Event()
        self._is_empty = True
        self._size = 0

    def feed(self, piece: bytes) -> Iterator[Event]:
        buffer = self._rest + piece
        at = 0
        for newline in _NEWLINE.finditer(buffer):
            event = self._line(buffer[at : newline.start()])
            at = newline.end()
            if event is not None:
                yield event
        self._rest = buffer[at:]
        if len(self._rest) + self._size > self._most:
            raise TooLong

    def _line(self, line: bytes) -> Event | None:
        if not line:
            if self._is_empty:
                return None
            event, self._event, self._is_empty, self._size = self._event, Event(), True, 0
            return event
        self._size += len(line)
        self._is_empty = False
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._event.data.append(value)
        elif name == b"event":
            self._event.name = value
        elif name == b"id" and b"\0" not in value:
            self._event.id = value
        elif name == b"retry" and value.isdigit():
            self._event.retry = value
        elif not name:
            self._event.is_comment = True
        return None
