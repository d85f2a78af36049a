"""The short lane: a request that was just answered is answered again without Django, while nothing has changed.

The ordinary way decides everything first. Of a token for an agent itself (OAuth 2.1 §4.2, client secret) and of an
access token introspected by its client (RFC 7662) the lane remembers what was said to exactly these bytes; the next one
gets the same, a token with times, `jti` and event of its own. Of a refresh (§4.3) it remembers what the same request
with the next token of the family would get. Whatever is announced ends what it may be about; while nothing is heard,
after a while, and for every refusal, the ordinary way answers. No token before its event's commit.

ASGI, on one event loop: between a request and its commit no thread waits.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

import jwt
import orjson
from django.conf import settings
from django.core.exceptions import ObjectDoesNotExist
from django.db import DatabaseError, close_old_connections

from agentauth.keys.ring import RingError
from agentauth.keys.signing import NoSigningKey, signed_by
from agentauth.oauth.errors import OAuthError, TemporarilyUnavailable
from agentauth.oauth.hearing import Hearing
from agentauth.oauth.lane_request import Message, Receive, Request, Scope, Send, Unread, read
from agentauth.oauth.ledger import Ledger, Unrecorded
from agentauth.oauth.memory import Introspected, Issuable, Memory, Remembered, Rotatable
from agentauth.oauth.remembering import Answer, worth_remembering
from agentauth.oauth.statements import Rotation, Row
from audit.actions import Action
from audit.record import event_row
from tenants.access import find_tenant
from tenants.models import secret_hash
from tenants.rls import new_id

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


@dataclass(frozen=True, slots=True)
class Next:
    """The refresh token that takes the place of one."""

    spent_hash: bytes
    secret: str

    def rotation(self, entry: Rotatable, jti: str) -> Rotation:
        latest = datetime.now(UTC) + timedelta(days=settings.KNOBS.refresh_token_days)
        return Rotation(
            token_hash=self.spent_hash,
            next_hash=secret_hash(self.secret),
            family=entry.family,
            family_scope=entry.family_scope,
            auth_time=entry.auth_time,
            acr=entry.acr,
            family_ends=entry.family_ends,
            next_ends=min(latest, entry.family_ends, entry.grant_ends),
            next_id=str(new_id()),
            jti=jti,
        )


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
        self.answered = 0  # by the lane itself

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._live(receive, send)
            return
        try:
            request = await read(scope, receive, self._ours)
        except Unread:
            return
        if request is None:
            await self._pass_on(scope, receive, send)
            return
        answer = await self._again(request)
        if answer is None:
            await self._ask_and_remember(request, scope, send)
            return
        self.answered += 1
        headers = [*answer.headers, (b"content-length", str(len(answer.content)).encode())]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.content})

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
        entry = self.memory.get(request.key)
        if entry is None:
            return None
        if not self.hearing.is_fresh:
            await self.hearing.becomes_fresh(_DOUBT_ENDS)
            entry = self.memory.get(request.key)
            if entry is None or not self.hearing.is_fresh:
                return None
        if entry.until < time.monotonic():
            self.memory.drop(request.key)
            return None
        if isinstance(entry, Introspected):
            return Answer(200, entry.headers, entry.body) if time.time() < entry.expires else None
        if isinstance(entry, Rotatable):
            return await self._rotate(entry, request)
        return await self._issue(entry, request) if isinstance(entry, Issuable) else None

    async def _rotate(self, entry: Rotatable, request: Request) -> Answer | None:
        """As `grants/refresh_token.py` does: this one is used up, the next one may be asked with as this one was."""
        spent, fresh = request.refresh_token, secrets.token_urlsafe(32)
        key = request.key_after(spent, fresh)
        if key is None:
            return None
        tenant_id = entry.event["tenant_id"]
        self.memory.drop(request.key)
        before = self.memory.mark(tenant_id)
        answer = await self._issue(entry, request, Next(secret_hash(spent), fresh))
        if answer is not None and answer.status == 200:
            self.memory.keep(key, entry, tenant_id=tenant_id, unchanged_since=before)
        return answer

    async def _issue(self, entry: Issuable, request: Request, after: Next | None = None) -> Answer | None:
        """As `token.issue` does. None when something it stands on has ended: the ordinary way says what."""
        at = int(time.time())
        if at + _KEEP_CLEAR > min(entry.ends, entry.credential_ends):
            return None
        jti, expires = str(new_id()), min(at + self._seconds, entry.ends)
        scope = entry.claims["scope"]
        details = {
            "jti": jti,
            "scope": scope,
            "expires": datetime.fromtimestamp(expires, UTC).isoformat(),
            "grant_type": entry.grant_type,
        }
        event = event_row(Action.TOKEN_ISSUED, ip=request.ip, details=details, **entry.event)
        rotation = after.rotation(entry, jti) if after is not None and isinstance(entry, Rotatable) else None
        outcome = self.ledger.enter(Row(event, entry.credential_id, rotation))
        await asyncio.sleep(0)  # it is on its way to the database while the token is signed
        said = {
            "access_token": signed_by(entry.signer, entry.claims | {"exp": expires, "iat": at, "jti": jti}, "at+jwt"),
            "token_type": "Bearer",
            "expires_in": expires - at,
            "scope": scope,
        }
        if after is not None:
            said["refresh_token"] = after.secret
        try:
            stands = await outcome
        except Unrecorded:  # no record, no token
            gone = TemporarilyUnavailable("No token can be recorded here now.")
            return Answer(gone.status, entry.headers, orjson.dumps(gone.document()))
        return Answer(200, entry.headers, orjson.dumps(said)) if stands else None

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
            await self._ordinary(scope, request.receive, listen)
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
