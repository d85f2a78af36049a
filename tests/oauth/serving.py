"""The control plane's ASGI applications on an event loop of their own, asked from a test as a server would ask them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import unquote, urlencode

import jwt
import orjson
from django.core.wsgi import get_wsgi_application
from django.db import connections

from agentauth.oauth.lane import Lane
from agentauth.oauth.lane_token import Issuing
from agentauth.web.threads import Threads
from audit.models import Event
from tenants.rls import in_tenant
from tests.oauth.browser import Flow

FORM = "application/x-www-form-urlencoded"
T = TypeVar("T")
_THREADS = 4


class Answer:
    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self.status, self.body = status, body
        self.headers = {name.decode(): value.decode() for name, value in headers}
        assert len(self.headers) == len(headers)
        assert self.headers.pop("content-length") == str(len(body))

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


class Serving:
    """`lane` with Django behind it, and Django alone (`ordinary`), on a loop in a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.ordinary = Threads(get_wsgi_application(), _THREADS)
        self.lane = self.run(_made(self.ordinary))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def do(self, act: Any, *arguments: Any) -> Any:
        """A plain call, on the loop."""

        async def done() -> Any:
            return act(*arguments)

        return self.run(done())

    def stop(self) -> None:
        self.run(self.lane.stop())
        together = threading.Barrier(_THREADS)

        def close() -> None:
            together.wait(10)
            connections.close_all()

        async def close_all() -> None:
            await asyncio.gather(*(self.ordinary.run(close) for _ in range(_THREADS)))

        self.run(close_all())
        self.ordinary.stop()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)
        self.loop.close()


async def _made(ordinary: Threads) -> Lane:
    lane = Lane(ordinary)
    await lane.start()
    return lane


@contextmanager
def serving() -> Iterator[Serving]:
    here = Serving()
    try:
        yield here
    finally:
        here.stop()


async def asked(application: Any, path: str, form: Any, method: str = "POST", **headers: str) -> Answer:
    """One request, whole, as `web.short` would hand it over. Header names with underscores for hyphens."""
    body = form if isinstance(form, bytes) else urlencode(form, doseq=True).encode()
    named = {"host": "localhost:8000", "content_type": FORM, "content_length": str(len(body))} | headers
    path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in named.items()],
        "client": ("192.0.2.7", 50000),
        "server": ("127.0.0.1", 8000),
    }
    if isinstance(application, Lane) and (said := await at_once(application, scope, body)) is not None:
        return Answer(said.status, [*said.headers, (b"content-length", b"%d" % len(said.content))], said.content)
    told: list[dict[str, Any]] = []
    pieces = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> dict[str, Any]:
        return next(pieces)

    async def send(message: dict[str, Any]) -> None:
        told.append(message)

    await application(scope, receive, send)
    assert [message["type"] for message in told] == ["http.response.start"] + ["http.response.body"] * (len(told) - 1)
    return Answer(told[0]["status"], list(told[0]["headers"]), b"".join(one.get("body", b"") for one in told[1:]))


async def at_once(lane: Lane, scope: dict[str, Any], body: bytes) -> Any:
    """What the lane says before anybody makes a task of it, if it does."""
    target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
    if not lane.takes(scope["method"].encode(), target, scope["headers"]):
        return None
    said = lane.at_once(target, scope["headers"], body, scope["client"][0])
    if not isinstance(said, Issuing):
        return said
    told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    said.tell = lambda answer: None if told.done() else told.set_result(answer)
    return await told


def ask(served: Serving, path: str, form: Any, *, ordinary: bool = False, **request: Any) -> Answer:
    return served.run(asked(served.ordinary if ordinary else served.lane, path, form, **request))


def await_hearing(served: Serving) -> None:
    """Until a beat that began after now: whatever was committed before has then been heard."""
    served.do(served.lane.hearing.doubt)
    assert served.run(served.lane.hearing.becomes_fresh(10)), "the lane does not hear"


def warmed(served: Serving, path: str, form: Any, **request: Any) -> Answer:
    """The answer of the lane itself, after the ordinary way gave one."""
    await_hearing(served)  # what is on its way now is not about the answer to come
    ask(served, path, form, **request)
    await_hearing(served)
    before = served.lane.answered
    answer = ask(served, path, form, **request)
    assert served.lane.answered == before + 1, "the ordinary way answered"
    return answer


def shape(answer: Answer) -> Any:
    """All of an answer but what is new in each token."""
    said = dict(answer.json) if answer.body else None
    if said and "access_token" in said:
        token = said["access_token"]
        claims = jwt.decode(token, options={"verify_signature": False})
        claims |= {"jti": "", "exp": claims["exp"] - claims["iat"], "iat": 0}
        said["access_token"] = (jwt.get_unverified_header(token), claims)
    return answer.status, answer.headers, said


def events(flow: Flow) -> list[Event]:
    with in_tenant(flow.house.tenant.id):
        return flow.house.events()


def told(event: Event) -> Any:
    """All of an event but its id, its time and the token's own."""
    body = orjson.loads(event.body)
    assert body.pop("id") == str(event.id) and body.pop("at")
    details = {name: value for name, value in body.get("details", {}).items() if name not in ("jti", "expires")}
    columns = Event.objects.model._meta.concrete_fields
    row = {f.attname: getattr(event, f.attname) for f in columns if f.name not in ("id", "at", "details", "body")}
    return body | {"details": details}, row
