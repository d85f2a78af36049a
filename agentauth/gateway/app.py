"""The gateway's map: which path leads where, and what every request is checked for before anybody looks at it.

A call walks one way: door (here) → who → whether → record → forward → record. Raw ASGI: a framework's request cycle
costs more than all of these together.
"""

import logging
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import psycopg
from django.conf import settings
from psycopg_pool import PoolTimeout

from agentauth.gateway import mcp, rest
from agentauth.gateway.answers import Answer, Refusal, bad_request, json_answer, no_token, nonce_needed, problem
from agentauth.gateway.headers import BadHeader, one
from agentauth.gateway.ledger import Unrecorded
from agentauth.gateway.metadata import PREFIX, describe
from agentauth.gateway.paths import BadPath, read_path, read_query
from agentauth.gateway.possession import require_possession
from agentauth.gateway.request import Gone, Receive, Request, Scope, Send, TooLarge
from agentauth.gateway.snapshot import Resource, Tenant
from agentauth.gateway.who import BadRequest, NoToken, Principal, TokenRefused, read_authorization, verify
from agentauth.gateway.worker import Worker
from agentauth.grants.arguments import BadJSON
from agentauth.oauth.errors import UseDPoPNonce
from agentauth.policy.decision import Reason, refuse
from audit.actions import Action
from audit.record import ANONYMOUS, Actor, event_row
from tenants.rls import new_id

log = logging.getLogger(__name__)

STRANGERS_RECORDED = 20  # refusals of unknown callers a second and tenant; the record is not theirs to fill
_PLACE = re.compile(rb"/([a-z][a-z0-9-]{1,38}[a-z0-9])/([a-z0-9][a-z0-9-]{0,38})(/.*)?\Z", re.DOTALL)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_ANYONE = [(b"access-control-allow-origin", b"*")]
_READING = ("GET", "HEAD", "OPTIONS")
_ASKED_WITH = b"*, Authorization, Content-Type, DPoP, MCP-Protocol-Version"  # Fetch: a star leaves Authorization out


class Gateway:
    """The ASGI application of one worker."""

    def __init__(self) -> None:
        self._worker: Worker | None = None
        self._strangers: dict[UUID, tuple[int, int]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._serve(Request(scope, receive, send))
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._worker = Worker()
                await self._worker.start()
                await send({"type": "lifespan.startup.complete"})
            else:
                if self._worker is not None:
                    await self._worker.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _serve(self, request: Request) -> None:
        try:
            answer = await self._route(request)
        except Gone:
            return
        except (BadPath, BadHeader, BadJSON) as bad:
            answer = problem(400, "The request cannot be read", str(bad))
        except TooLarge:
            answer = problem(413, "Too large", "The body is longer than this gateway lets through here.")
        except (Unrecorded, PoolTimeout, psycopg.Error, TimeoutError):
            answer = problem(503, "Not available", "The record cannot be written now, so nothing passes. Try again.")
            answer.headers.append((b"retry-after", b"1"))
        if answer is not None and not request.began_answer:
            await request.answer(answer)

    async def _route(self, request: Request) -> Answer | None:
        """The answer, or None where it was given already."""
        assert self._worker is not None
        if request.raw_path in (b"/livez", b"/readyz"):
            return self._health(request)
        if request.raw_path.startswith(PREFIX):
            return await self._metadata(request)
        place = _PLACE.match(request.raw_path)
        if place is None:
            return _nothing_here()
        refused = _check_origin(request)
        if refused is not None:
            return refused
        tenant = await self._worker.snapshots.tenant(place[1].decode())
        resource = tenant.resources.get(place[2].decode()) if tenant else None
        if tenant is None or resource is None:
            return _nothing_here()
        return await self._call(request, tenant, resource, place[3] or b"")

    async def _call(self, request: Request, tenant: Tenant, resource: Resource, tail: bytes) -> Answer | None:
        worker = self._worker
        assert worker is not None
        methods = mcp.METHODS if resource.kind == "mcp" else rest.METHODS
        if request.method not in methods:
            return _not_allowed(methods)
        who = None
        try:
            token, request.is_dpop = read_authorization(request.headers)
            who = verify(token, tenant, resource.url)
            if who.jkt or request.is_dpop or resource.bound_tokens_only:
                request.proof = require_possession(request, token, who, resource)
        except UseDPoPNonce as told:
            return nonce_needed(tenant.slug, resource.slug, told.description)
        except NoToken:
            if not resource.published:
                return _nothing_here()
            scope = self._scope_for(request, resource, tail)
            return no_token(tenant.slug, resource.slug, scope, is_dpop=resource.bound_tokens_only)
        except BadRequest as bad:
            return bad_request(tenant.slug, resource.slug, str(bad))
        except TokenRefused as refused:
            return await self._refuse_token(request, tenant, resource, refused, who)
        try:
            segments, query = read_path(tail or b"/"), read_query(request.query)
            if resource.kind == "mcp" and (segments != [""] or query):
                return _nothing_here()
            if resource.kind == "mcp":
                await mcp.serve(worker, request, tenant, resource, who)
            else:
                await rest.serve(worker, request, tenant, resource, who, segments=segments, query=query)
        except BadPath as bad:
            await self._record_unreadable(request, tenant, resource, who, tail)
            return problem(400, "The request cannot be read", str(bad))
        return None

    @staticmethod
    def _scope_for(request: Request, resource: Resource, tail: bytes) -> str:
        """The scopes that the challenge names: those of the operation if it is known, else what the resource offers."""
        if resource.kind == "rest":
            with suppress(BadPath):
                match = resource.routes.match(request.method, read_path(tail or b"/"))
                if match is not None and match.operation.facts.scope:
                    return match.operation.facts.scope
        return " ".join(sorted(resource.scopes))

    async def _refuse_token(
        self, request: Request, tenant: Tenant, resource: Resource, refused: TokenRefused, who: Principal | None
    ) -> Answer:
        """A token that is not good here: on record, but not without end. `who` is known where its proof is wrong."""
        assert self._worker is not None
        call_id, decision = new_id(), refuse(refused.reason)
        scopes = " ".join(sorted(resource.scopes))
        refusal = Refusal(
            tenant.slug,
            resource.slug,
            decision,
            call_id,
            scopes=scopes,
            protocol=resource.kind,
            is_dpop=request.is_dpop or resource.bound_tokens_only,
            detail=refused.detail,
        )
        second = int(time.time())
        at, count = self._strangers.get(tenant.id, (second, 0))
        count = count + 1 if at == second else 1
        self._strangers[tenant.id] = (second, count)
        if count <= STRANGERS_RECORDED:
            row = event_row(
                Action.CALL_REFUSED,
                tenant_id=tenant.id,
                **_named(who),
                resource_id=resource.id,
                decision="refuse",
                reasons=[refused.reason.value],
                status=refusal.status,
                call_id=call_id,
                ip=request.ip,
                details={"protocol": resource.kind, "method": request.method}
                | ({"detail": refused.detail} if refused.detail else {}),
            )
            await self._worker.ledger.note(tenant.id, row)
        return refusal.as_rpc(None) if resource.kind == "mcp" else refusal.as_problem()

    async def _record_unreadable(
        self, request: Request, tenant: Tenant, resource: Resource, who: Principal, tail: bytes
    ) -> None:
        assert self._worker is not None
        path = re.sub(r"[^\x21-\x7e]", "?", tail.decode("latin-1"))[:400]
        row = event_row(
            Action.CALL_REFUSED,
            tenant_id=tenant.id,
            **_named(who),
            resource_id=resource.id,
            decision="refuse",
            reasons=[Reason.OPERATION_UNKNOWN.value],
            status=400,
            call_id=new_id(),
            ip=request.ip,
            details={"protocol": resource.kind, "method": request.method, "path": path},
        )
        await self._worker.ledger.note(tenant.id, row)

    def _health(self, request: Request) -> Answer:
        assert self._worker is not None
        if request.raw_path == b"/livez" or self._worker.hearing.is_fresh:
            return json_answer(200, {"status": "ok"})
        return json_answer(503, {"status": "the database is not heard"})

    async def _metadata(self, request: Request) -> Answer:
        assert self._worker is not None
        if request.method not in _READING:
            return _not_allowed(_READING)
        place = _PLACE.match(request.raw_path[len(PREFIX) - 1 :])
        tenant = await self._worker.snapshots.tenant(place[1].decode()) if place and not place[3] else None
        resource = tenant.resources.get(place[2].decode()) if tenant and place else None
        if tenant is None or resource is None or not resource.published or tenant.suspended:
            answer = _nothing_here()
            answer.headers += _ANYONE
            return answer
        headers = [*_ANYONE, (b"cache-control", b"max-age=60"), (b"x-content-type-options", b"nosniff")]
        if request.method == "OPTIONS":
            return Answer(204, b"", [*headers, (b"access-control-allow-headers", _ASKED_WITH)])
        return json_answer(200, describe(tenant, resource), headers)


def _named(who: Principal | None) -> dict[str, Any]:
    """Whose token it is, for the record."""
    if who is None:
        return {"actor": ANONYMOUS}
    actor = Actor("agent", str(who.agent_id))
    return {"actor": actor, "agent_id": who.agent_id, "member_id": who.member_id, "grant_id": who.grant_id}


def _not_allowed(methods: Sequence[str]) -> Answer:
    answer = problem(405, "Method not allowed", f"This answers {', '.join(methods)}.")
    answer.headers.append((b"allow", ", ".join(methods).encode()))
    return answer


def _nothing_here() -> Answer:
    return problem(404, "Not found", "There is no such resource.")


def _check_origin(request: Request) -> Answer | None:
    """Pages of other origins may not call (DNS rebinding); ours and, on one machine, local ones may (CORS)."""
    origin = one(request.headers, b"origin")
    if origin is None:
        return None
    if not _is_allowed(origin):
        return problem(403, "Origin refused", "Pages of this origin may not call this gateway.")
    cors = [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"vary", b"Origin"),
        (b"access-control-expose-headers", b"WWW-Authenticate, Mcp-Session-Id, AgentAuth-Call, DPoP-Nonce"),
    ]
    if request.method == "OPTIONS" and one(request.headers, b"access-control-request-method"):
        allowed: list[Any] = [
            *cors,
            (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE"),
            (
                b"access-control-allow-headers",
                b"Authorization, DPoP, Content-Type, Accept, Last-Event-ID, Mcp-Session-Id,"
                b" MCP-Protocol-Version, Mcp-Method, Mcp-Name, Idempotency-Key",
            ),
            (b"access-control-max-age", b"600"),
        ]
        return Answer(204, b"", allowed)
    request.more_headers = cors
    return None


def _is_allowed(origin: str) -> bool:
    ours = (settings.KNOBS.base_url, settings.KNOBS.gateway_url)
    if origin.lower() in {f"{parts.scheme}://{parts.netloc}" for parts in map(urlsplit, ours)}:
        return True
    try:
        here, there = urlsplit(settings.KNOBS.gateway_url).hostname, urlsplit(origin)
    except ValueError:
        return False
    return here in _LOOPBACK and there.hostname in _LOOPBACK and there.scheme in ("http", "https")
