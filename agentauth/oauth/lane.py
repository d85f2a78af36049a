"""The short lane: a request that was just answered is answered again without Django, while nothing has changed.

The ordinary way decides everything first. Of a token for an agent itself (OAuth 2.1 §4.2, client secret) and of an
access token introspected by its client (RFC 7662) the lane remembers what was said to exactly these bytes; the next one
gets the same, a token with times, `jti` and event of its own. Of a refresh (§4.3) it remembers what the same request
with the next token of the family would get. Whatever is announced ends what it may be about; while nothing is heard,
after a while, and for every refusal, the ordinary way answers. No token before its event's commit.

An ASGI application on one event loop: between a request and its commit no thread waits. A server that has a whole
request at hand may ask `at_once` before it makes a task of it (`agentauth/web/short.py`).
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Protocol, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

import jwt
from django.conf import settings
from django.core.exceptions import ObjectDoesNotExist
from django.db import DatabaseError, close_old_connections

from agentauth.keys.ring import RingError
from agentauth.keys.signing import NoSigningKey
from agentauth.oauth.errors import OAuthError
from agentauth.oauth.hearing import Hearing
from agentauth.oauth.lane_request import (
    Headers,
    Message,
    Receive,
    Request,
    Scope,
    Send,
    Unread,
    again,
    is_for_us,
    length_of,
    read,
    whole,
)
from agentauth.oauth.lane_token import Issuing, Rotating
from agentauth.oauth.ledger import Ledger
from agentauth.oauth.memory import Introspected, Issuable, Memory, Remembered, Rotatable
from agentauth.oauth.remembering import Answer, worth_remembering
from tenants.access import find_tenant

log = logging.getLogger(__name__)

T = TypeVar("T")
_CHANGES_NOTHING = ("GET", "HEAD", "OPTIONS")
_KEEP_CLEAR = 2.0  # seconds before an end at which the ordinary way takes over
_DOUBT_ENDS = 0.05  # seconds to wait for the proof that nothing changed, which takes a round trip


class Ordinary(Protocol):
    """An ASGI application whose threads may be used."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...

    async def run(self, work: Callable[[], T]) -> T:
        """Raises TimeoutError when no thread is free in time."""
        ...

    def stop(self) -> None: ...


class Lane:
    """In front of `ordinary`, a whole application."""

    def __init__(self, ordinary: Ordinary) -> None:
        self._ordinary = ordinary
        self.memory = Memory()
        self.ledger = Ledger()
        self.hearing = Hearing(self.memory.on_notice, self._on_gap)
        self._tenants: dict[str, str] = {}
        self._ours = urlsplit(settings.KNOBS.base_url).netloc
        self._seconds = settings.KNOBS.access_token_seconds
        self.answered = 0  # by the lane itself, or begun to be

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._live(receive, send)
            return
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        if not self.takes(scope["method"].encode(), target, scope["headers"]):
            await self._pass_on(scope, receive, send)
            return
        try:
            body = await whole(receive)
        except Unread:
            return
        request = read(target, scope["headers"], body, (scope.get("client") or ("",))[0], self._ours)
        if request is None:
            await self._pass_on(scope, again(body), send)
            return
        answer = await self._again(request)
        if answer is None:
            await self._ask_and_remember(request, scope, send)
            return
        headers = [*answer.headers, (b"content-length", str(len(answer.content)).encode())]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.content})

    @staticmethod
    def takes(method: bytes, target: bytes, headers: Headers) -> bool:
        """Whether `at_once` may know what to say."""
        return is_for_us(method, target) and length_of(headers) is not None

    def at_once(self, target: bytes, headers: Headers, body: bytes, ip: str) -> Answer | Issuing | None:
        """What is said to this request that it takes, if nothing but a commit need be waited for; else None."""
        request = read(target, headers, body, ip, self._ours)
        return self._say(request) if request is not None and self.hearing.is_fresh else None

    async def start(self) -> None:
        self.hearing.start()

    async def stop(self) -> None:
        await self.hearing.stop()
        self._on_gap()
        self.ledger.stop()

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self.start()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.stop()
                self._ordinary.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    def _on_gap(self) -> None:
        """The database was away, or we were: what it was connected to and what was remembered are worth nothing."""
        self.memory.clear()
        self.ledger.reconnect()

    # -- the same again

    async def _again(self, request: Request) -> Answer | None:
        if self.memory.get(request.key) is None or not await self.hearing.becomes_fresh(_DOUBT_ENDS):
            return None
        said = self._say(request)
        if isinstance(said, Issuing):
            told: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
            said.tell = lambda answer: None if told.done() else told.set_result(answer)  # done: the client went away
            return await told
        return said

    def _say(self, request: Request) -> Answer | Issuing | None:
        """While nothing can have been missed."""
        entry = self.memory.get(request.key)
        if entry is None:
            return None
        if entry.until < time.monotonic():
            self.memory.drop(request.key)
            return None
        if isinstance(entry, Introspected):
            if time.time() >= entry.expires:
                return None
            self.answered += 1
            return Answer(200, entry.headers, entry.body)
        return self._issue(entry, request) if isinstance(entry, Issuable) else None

    def _issue(self, entry: Issuable, request: Request) -> Issuing | None:
        at = int(time.time())
        if at + _KEEP_CLEAR > min(entry.ends, entry.credential_ends):
            return None
        expires = min(at + self._seconds, entry.ends)
        if isinstance(entry, Rotatable):
            spent, fresh = request.refresh_token, secrets.token_urlsafe(32)
            key = request.key_after(spent, fresh)
            if key is None:
                return None
            self.memory.drop(request.key)
            tenant_id = entry.event.tenant_id
            keep = partial(
                self.memory.keep, key, entry, tenant_id=tenant_id, unchanged_since=self.memory.mark(tenant_id)
            )
            issuing: Issuing = Rotating(entry, request.ip, at, expires, spent=spent, fresh=fresh, keep=keep)
        else:
            issuing = Issuing(entry, request.ip, at, expires)
        self.ledger.enter(issuing)
        self.answered += 1
        return issuing

    # -- the ordinary way

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Whatever this changes counts here too before its answer is out, though no notice has come yet."""
        if scope["method"] in _CHANGES_NOTHING:
            await self._ordinary(scope, receive, send)
            return

        async def doubting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.hearing.doubt()
            await send(message)

        try:
            await self._ordinary(scope, receive, doubting)
        finally:
            self.hearing.doubt()

    async def _ask_and_remember(self, request: Request, scope: Scope, send: Send) -> None:
        tenant_id = await self._tenant_of(request.slug)
        before = self.memory.mark(tenant_id)
        told: list[Message] = []

        async def listen(message: Message) -> None:
            told.append(message)

        try:
            await self._ordinary(scope, again(request.body), listen)
        finally:
            if not told or told[0]["status"] != 200:
                self.hearing.doubt()  # a refusal may have ended something: a code used twice, a family
        for message in told:
            await send(message)
        if not told or told[0]["status"] != 200 or not tenant_id:
            return
        content = b"".join(message.get("body", b"") for message in told)
        answer = Answer(200, tuple(told[0]["headers"]), content)
        found = None
        with suppress(TimeoutError):
            found = await self._ordinary.run(lambda: _remembered(request, UUID(tenant_id), answer))
        if found is not None:
            self.memory.keep(*found, tenant_id=tenant_id, unchanged_since=before)

    async def _tenant_of(self, slug: str) -> str:
        """Its id, which never changes; empty when there is none or nobody can say."""
        if slug not in self._tenants:
            found = ""
            with suppress(TimeoutError):
                found = await self._ordinary.run(lambda: _tenant(slug))
            if not found:
                return ""
            self._tenants[slug] = found
        return self._tenants[slug]


def _tenant(slug: str) -> str:
    try:
        close_old_connections()
        tenant = find_tenant(slug)
    except DatabaseError:
        return ""
    return str(tenant.id) if tenant else ""


def _remembered(request: Request, tenant_id: UUID, answer: Answer) -> tuple[bytes, Remembered] | None:
    try:
        close_old_connections()
        return worth_remembering(request, tenant_id, answer)
    except (DatabaseError, ObjectDoesNotExist, OAuthError, NoSigningKey, RingError, jwt.PyJWTError):
        log.exception("an answer that cannot be remembered")
        return None
