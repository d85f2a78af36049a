"""Django, a WSGI application (PEP 3333), behind a server on an event loop: each request in one of few threads.

Django under ASGI costs five times as much. A thread is held only while Django works: a request is there whole before it
begins, and a file is sent without it. So who sends or reads slowly holds nobody else up.
"""

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from tempfile import SpooledTemporaryFile
from typing import IO, Any, TypeVar
from urllib.parse import unquote_to_bytes

THREADS = 8
MOST_WAITING = 1000
LONGEST_WAIT = 20.0  # seconds for a thread to be free
LARGEST_BODY = 512 * 1024  # more than any form of ours; it stays in memory
LARGEST_DOCUMENT = 10 * 1024 * 1024  # a form with an OpenAPI document in it
# Where those are taken
_DOCUMENTS = re.compile(rb"/t/[^/]+/resources/|/operator/catalogue/|/api/v1/tenants/[^/]+/resources")
# Who refuses a body by its length, unread, in words and on a record of their own
_REFUSE_BY_LENGTH = re.compile(rb"(/t/[^/]+)?/oauth/")
_PIECE = 256 * 1024
_FRAMING = (b"content-length", b"transfer-encoding")  # how it travelled: it is whole now
_SLOWEST_PIECE = 60.0  # seconds for a client to take one piece of what a thread makes

T = TypeVar("T")
Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Environ = dict[str, Any]
Wsgi = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


class File:
    """`wsgi.file_wrapper`: what is sent from a file, piece by piece."""

    def __init__(self, file: IO[bytes], _piece: int = 0) -> None:
        self._file = file
        self._first = b""  # read already, not sent yet

    def whole_if_small(self) -> bytes | None:
        """All of it, and it is closed; None where it is more than a piece."""
        self._first = self.read()
        if len(self._first) >= _PIECE:
            return None
        self.close()
        return self._first

    def read(self) -> bytes:
        first, self._first = self._first, b""
        return first or self._file.read(_PIECE)

    def close(self) -> None:
        self._file.close()

    def __iter__(self) -> "File":
        return self

    def __next__(self) -> bytes:
        piece = self.read()
        if not piece:
            raise StopIteration
        return piece


@dataclass(slots=True)
class Answer:
    """What goes out. `rest` is all that was not sent already."""

    status: int
    headers: list[tuple[bytes, bytes]]
    rest: "bytes | File"
    begun: bool = False  # its head was sent already
    gone: "asyncio.Future[Message] | None" = None  # done when the client of a stream is


class Busy(TimeoutError):
    """No thread is free, nor will one be soon."""


class Threads:
    """The ASGI application in front of `application`."""

    def __init__(self, application: Wsgi, threads: int = THREADS) -> None:
        self._application = application
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="django")
        self._files = ThreadPoolExecutor(2, thread_name_prefix="files")
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        most = LARGEST_DOCUMENT if _DOCUMENTS.match(scope["raw_path"]) else LARGEST_BODY
        with SpooledTemporaryFile(max_size=LARGEST_BODY) as body:
            length = await _whole(scope, receive, body, most)
            if length is None:
                return
            too_large = length > most
            if too_large and not _REFUSE_BY_LENGTH.match(scope["raw_path"]):
                await _say(send, 413, b"The request is too large.")
                return
            body.seek(0)
            environ = environ_of(scope, BytesIO() if too_large else body, length)
            loop = asyncio.get_running_loop()
            try:
                answer = await self.run(lambda: _answer(self._application, environ, loop, receive, send))
            except Busy:
                await _say(send, 503, b"Too many requests are waiting.", (b"retry-after", b"1"))
                return
        if too_large:
            answer.headers.append((b"connection", b"close"))
        if not answer.begun:
            await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        if isinstance(answer.rest, File):
            await self._send_file(answer.rest, receive, send)
        else:
            await send({"type": "http.response.body", "body": answer.rest})

    async def run(self, work: Callable[[], T]) -> T:
        """Do it in one of Django's threads. Raises Busy if none is free in time."""
        if self._waiting >= MOST_WAITING:
            raise Busy
        loop = asyncio.get_running_loop()
        begun = asyncio.Event()

        def begin() -> T:
            loop.call_soon_threadsafe(begun.set)
            return work()

        self._waiting += 1
        future = self._pool.submit(begin)
        try:
            async with asyncio.timeout(LONGEST_WAIT):
                await begun.wait()
        except TimeoutError:
            if future.cancel():
                raise Busy from None
        finally:
            self._waiting -= 1
        return await asyncio.wrap_future(future)

    def stop(self) -> None:
        """Nothing more is begun."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._files.shutdown(wait=False, cancel_futures=True)

    async def _send_file(self, file: File, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        gone: asyncio.Future[Message] = asyncio.ensure_future(receive())  # ends when the client goes away
        try:
            while not gone.done():
                piece = await loop.run_in_executor(self._files, file.read)
                await send({"type": "http.response.body", "body": piece, "more_body": bool(piece)})
                if not piece:
                    return
        finally:
            gone.cancel()
            await loop.run_in_executor(self._files, file.close)


def _answer(
    application: Wsgi, environ: Environ, loop: asyncio.AbstractEventLoop, receive: Receive, send: Send
) -> Answer:
    """In a thread. A stream is sent from here, at the pace of its reader."""
    answer = Answer(500, [], b"")

    def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        answer.status = int(status[:3])
        answer.headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        return _no_write

    result = application(environ, start)
    if isinstance(result, File):
        small = result.whole_if_small()
        answer.rest = result if small is None else small
        return answer
    try:
        if not getattr(result, "streaming", True):  # Django has all of it
            answer.rest = b"".join(result)
            return answer
        for piece in result:
            if not asyncio.run_coroutine_threadsafe(_send_on(answer, piece, receive, send), loop).result(
                _SLOWEST_PIECE
            ):
                break
    finally:
        close = getattr(result, "close", None)
        if close is not None:
            close()
    return answer


async def _send_on(answer: Answer, piece: bytes, receive: Receive, send: Send) -> bool:
    """One piece of a stream; False when nobody reads it any more."""
    if not answer.begun:
        answer.begun, answer.gone = True, asyncio.ensure_future(receive())
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    assert answer.gone is not None
    if answer.gone.done():
        return False
    await send({"type": "http.response.body", "body": piece, "more_body": True})
    return True


def _no_write(_data: bytes) -> None:
    """PEP 3333's `write`, for servers older than it: Django does not call it."""
    raise NotImplementedError("the answer is what the application returns")


async def _whole(scope: Scope, receive: Receive, body: IO[bytes], most: int) -> int | None:
    """Receive the body of a request; its length, None when the client went away before it was whole.

    What is longer than `most` is not read on; what says so beforehand is not read at all.
    """
    said = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    if int(said) > most:
        return int(said)
    length, more = 0, True
    while more and length <= most:
        message = await receive()
        if message["type"] != "http.request":
            return None
        piece = message.get("body", b"")
        length, more = length + len(piece), message.get("more_body", False)
        if piece:
            body.write(piece)
    return length


async def _say(send: Send, status: int, text: bytes, *more: tuple[bytes, bytes]) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(text)).encode())]
    headers += [(b"connection", b"close"), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})


def environ_of(scope: Scope, body: Any, length: int) -> Environ:
    """PEP 3333. A header with an underscore in its name is left out: it would pass for the one with a hyphen."""
    server, client = scope.get("server") or ("localhost", 80), scope.get("client") or ("", 0)
    environ: Environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(scope["raw_path"]).decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1]),
        "REMOTE_ADDR": client[0],
        "REMOTE_PORT": str(client[1]),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": body,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": File,
    }
    for raw_name, raw_value in scope["headers"]:
        if b"_" in raw_name or raw_name in _FRAMING:
            continue
        name, value = raw_name.decode("latin-1").upper().replace("-", "_"), raw_value.decode("latin-1")
        key = name if name == "CONTENT_TYPE" else f"HTTP_{name}"
        environ[key] = f"{environ[key]}{'; ' if name == 'COOKIE' else ','}{value}" if key in environ else value
    if length or any(name == b"content-length" for name, _ in scope["headers"]):
        environ["CONTENT_LENGTH"] = str(length)
    return environ
