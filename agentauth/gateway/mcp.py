"""Calls of an MCP server over Streamable HTTP: the tool is the operation, its arguments are the arguments.

What lists and introduces passes under any live grant, filtered to what this agent may do; a tool passes if its scope is
granted; everything that is not mapped to a scope (resources, prompts, completions, tasks) is refused.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import aiohttp
from django.conf import settings

from agentauth.gateway.answers import Answer, Headers, Refusal, problem, rpc_error
from agentauth.gateway.calls import Call
from agentauth.gateway.forward import UpstreamProblem, asking, own_headers, whole
from agentauth.gateway.headers import Pairs, inbound, one, outbound
from agentauth.gateway.intent import Intent, Verdict
from agentauth.gateway.mcp_answer import Transform, events, looked_at, whole_answer, without_what_we_refuse
from agentauth.gateway.mcp_message import INVALID_PARAMS, INVALID_REQUEST, Message, Rejected, read_message
from agentauth.gateway.mcp_session import SESSION, opened, sealed
from agentauth.gateway.passage import Done, pass_through
from agentauth.gateway.request import Request
from agentauth.gateway.snapshot import Resource, Tenant
from agentauth.gateway.whether import gather
from agentauth.gateway.who import Principal
from agentauth.gateway.worker import Worker
from agentauth.grants.arguments import LONGEST_SHOWN, canonical, hash_of
from agentauth.oauth.authorization_details import Details, details_of
from agentauth.policy.decision import Decision, Reason, refuse
from agentauth.policy.evaluate import evaluate, evaluate_protocol, may_be_seen
from agentauth.policy.facts import CallFacts, Facts
from agentauth.resources.mcp_tools import digest_of
from tenants.rls import new_id

METHODS = ("GET", "POST", "DELETE")
INTERNAL_ERROR = -32603

# They do nothing at the server: introduce, list what may be called, keep alive
_HARMLESS = frozenset(
    (
        "initialize",
        "ping",
        "server/discover",
        "tools/list",
        "logging/setLevel",
        "subscriptions/listen",
        "notifications/initialized",
        "notifications/cancelled",
        "notifications/progress",
        "notifications/roots/list_changed",
    )
)
_SANDBOX: Headers = [
    (b"content-security-policy", b"default-src 'none'; sandbox"),
    (b"x-content-type-options", b"nosniff"),
]
_NOT_PLAIN = re.compile(r"[^\x21-\x7e]")


async def serve(worker: Worker, request: Request, tenant: Tenant, resource: Resource, who: Principal) -> None:
    """One exchange by a known principal."""
    conversation = _Conversation(worker, request, tenant, resource, who)
    try:
        if request.method == "POST":
            await conversation.post()
        elif request.method == "GET":
            await conversation.listen()
        else:
            await conversation.end()
    except Rejected as rejected:
        await request.answer(rejected.answer)


class _Conversation:
    def __init__(self, worker: Worker, request: Request, tenant: Tenant, resource: Resource, who: Principal) -> None:
        self.worker, self.request, self.tenant, self.resource, self.who = worker, request, tenant, resource, who

    async def post(self) -> None:
        """A message from the client."""
        kind = (one(self.request.headers, b"content-type") or "").partition(";")[0].strip().lower()
        if kind != "application/json" or one(self.request.headers, b"content-encoding"):
            raise Rejected(rpc_error(415, INVALID_REQUEST, "Send plain application/json.", None))
        body = await self.request.body(settings.KNOBS.max_body_bytes)
        message = read_message(body, self.request.headers)
        session = "" if message.is_modern else self._upstream_session(message.id)
        intent = await self._intent(message)
        if self._asks(intent.facts) and len(canonical(intent.arguments)) > LONGEST_SHOWN:
            raise Rejected(rpc_error(413, INVALID_PARAMS, "Too long to ask a person about.", message.id))

        async def exchange(call: Call) -> Done:
            headers = self._headers(session)
            headers.append(("content-type", "application/json"))
            own = own_headers(self.tenant, self.resource, intent)
            async with asking(self.worker, "POST", self._url(), headers=headers, own=own, body=body) as response:
                return await self._answer(message, intent, response)

        await self._pass(message, intent, exchange)

    async def listen(self) -> None:
        """The standing stream of eras with sessions: what the server says unasked."""
        if "text/event-stream" not in (one(self.request.headers, b"accept") or ""):
            raise Rejected(problem(406, "Not acceptable", "This answers only with text/event-stream."))
        message = Message("", None, {}, is_modern=False, version="")
        intent = await self._intent(message, operation="listen")
        session = self._upstream_session(None)

        async def exchange(call: Call) -> Done:
            headers = self._headers(session)
            last = one(self.request.headers, b"last-event-id")
            if last is not None and not _NOT_PLAIN.search(last):
                headers.append(("last-event-id", last))
            own = own_headers(self.tenant, self.resource, intent)
            async with asking(self.worker, "GET", self._url(), headers=headers, own=own, body=None) as response:
                return await self._answer(message, intent, response, is_listening=True)

        await self._pass(message, intent, exchange)

    async def end(self) -> None:
        """The client ends its session."""
        message = Message("", None, {}, is_modern=False, version="")
        session = self._upstream_session(None)
        if not session:
            raise Rejected(problem(400, "No session", "Name the session to end in Mcp-Session-Id."))
        intent = await self._intent(message, operation="end_session")

        async def exchange(call: Call) -> Done:
            own = own_headers(self.tenant, self.resource, intent)
            async with asking(
                self.worker, "DELETE", self._url(), headers=self._headers(session), own=own, body=None
            ) as response:
                return await self._answer(message, intent, response)

        await self._pass(message, intent, exchange)

    async def _intent(self, message: Message, operation: str = "") -> Intent:
        """The call in the words of `policy`: which operation, what arguments, judged how."""
        facts_of, judge, arguments = None, evaluate_protocol, None
        details: dict[str, Any] = {"protocol": "mcp", "method": message.method or operation or "response"}
        if message.method == "tools/call":
            name, arguments = _called(message)
            tool = self.resource.tools.get(name)
            facts_of, judge = tool.facts if tool else None, evaluate
            operation = tool.facts.key if tool else ""
            details["tool"] = _NOT_PLAIN.sub("?", name)[:128]
        elif message.method and not _is_harmless(message):
            judge = _unmapped
        args_hash = hash_of(arguments) if message.method == "tools/call" else ""
        call_facts = CallFacts(datetime.now(UTC), self.request.ip, arguments, args_hash=args_hash)
        facts = await gather(
            self.worker.snapshots, self.tenant, self.resource, self.who, operation=facts_of, call=call_facts
        )
        return Intent(
            tenant_id=self.tenant.id,
            principal=self.who,
            facts=facts,
            judge=judge,
            call_id=new_id(),
            resource_id=self.resource.id,
            operation=operation or message.method or details["method"],
            ip=self.request.ip,
            args_hash=args_hash,
            arguments=arguments,
            proof=self.request.proof,
            details=details,
        )

    @staticmethod
    def _asks(facts: Facts) -> bool:
        return bool(facts.grant and facts.operation and facts.grant.modes.get(facts.operation.scope or "") == "ask")

    async def _pass(self, message: Message, intent: Intent, exchange: Callable[[Call], Any]) -> None:
        async def tell_refusal(verdict: Verdict) -> None:
            refusal = Refusal(
                tenant=self.tenant.slug,
                resource=self.resource.slug,
                decision=verdict.decision,
                call_id=intent.call_id,
                agent_id=self.who.agent_id,
                approval_id=verdict.approval_id,
                resource_id=self.resource.id,
                scopes=" ".join(sorted(self.resource.scopes)),
                # Clients of 2025 ask for just what a challenge names; those since 2026-07-28 join it to what they have
                held=() if message.is_modern else self.who.scopes,
                protocol="mcp",
                is_dpop=self.request.is_dpop,
                details=self._details(intent),
            )
            await self.request.answer(refusal.as_rpc(message.id))

        async def tell_problem(status: int, title: str, detail: str) -> None:
            answer = rpc_error(
                status, INTERNAL_ERROR, detail, message.id, {"title": title, "call": str(intent.call_id)}
            )
            answer.headers.append((b"agentauth-call", str(intent.call_id).encode()))
            await self.request.answer(answer)

        await pass_through(
            self.worker,
            self.request,
            self.tenant.slug,
            intent,
            exchange=exchange,
            tell_problem=tell_problem,
            tell_refusal=tell_refusal,
        )

    def _details(self, intent: Intent) -> Details:
        """What a person could be asked for instead."""
        if not self.who.member_id or intent.facts.operation is None:
            return ()
        return details_of(self.resource.url, intent.operation, intent.arguments)

    def _url(self) -> str:
        return self.resource.upstream.geturl()

    def _headers(self, session: str) -> Pairs:
        """Mirrors of the body were compared with it and pass; encodings are ours, since we read the answer."""
        raw = self.request.headers
        own = {*(self.resource.credential or ()), "content-type", "accept", "accept-encoding", "last-event-id"}
        found = [pair for pair in inbound(raw, own=own) if not pair[0].startswith("mcp-param-")]
        found += [
            (name.decode().lower(), value.decode("ascii", "replace"))
            for name, value in raw
            if name.lower().startswith(b"mcp-param-") and value.isascii() and value.decode().isprintable()
        ]
        found += [("accept", "application/json, text/event-stream"), ("accept-encoding", "identity")]
        if session:
            found.append(("mcp-session-id", session))
        return found

    def _upstream_session(self, message_id: Any) -> str:
        held = one(self.request.headers, SESSION)
        if not held:
            return ""
        upstream = opened(held, self._owner())
        if not upstream:
            raise Rejected(rpc_error(404, INVALID_REQUEST, "There is no such session.", message_id))
        return upstream

    def _owner(self) -> str:
        return "\0".join((str(self.tenant.id), str(self.resource.id), self.who.name))

    # Answers

    async def _answer(
        self, message: Message, intent: Intent, response: aiohttp.ClientResponse, *, is_listening: bool = False
    ) -> Done:
        headers = self._answer_headers(response, intent)
        outcome = "ok" if response.status < 500 else "upstream_error"
        if 300 <= response.status < 400:
            raise UpstreamProblem(502, "Redirect refused", "The upstream redirects to another address.")
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise UpstreamProblem(
                502, "Upstream answered badly", "The upstream's answer is encoded and cannot be read."
            )
        kind = response.content_type
        transform = await self._transform(message, is_listening=is_listening)
        if kind == "text/event-stream" and response.status == 200:
            return await self._stream(message, response, headers, transform, is_listening=is_listening)
        body = await whole(response, settings.KNOBS.max_body_bytes)
        if not body:
            await self.request.answer(Answer(response.status, b"", headers))
            return Done(response.status, outcome)
        if kind == "application/json":
            body = whole_answer(body, message, transform)
        elif response.status < 400:
            raise UpstreamProblem(502, "Upstream answered badly", "The upstream's answer is not MCP.")
        else:  # an error page says nothing to a client that its status does not say
            headers = [pair for pair in headers if pair[0] != b"content-type"]
            body = b""
        headers = [pair for pair in headers if pair[0] != b"content-length"]
        await self.request.answer(Answer(response.status, body, headers))
        return Done(response.status, outcome)

    def _answer_headers(self, response: aiohttp.ClientResponse, intent: Intent) -> Headers:
        dropped = (SESSION, b"content-length", b"content-encoding")
        found = [pair for pair in outbound(response.raw_headers) if pair[0] not in dropped]
        session = response.headers.get("Mcp-Session-Id", "")
        if session and len(session) <= 1024 and not _NOT_PLAIN.search(session):
            found.append((SESSION, sealed(session, self._owner()).encode("ascii")))
        return [*found, *_SANDBOX, (b"agentauth-call", str(intent.call_id).encode())]

    async def _stream(
        self,
        message: Message,
        response: aiohttp.ClientResponse,
        headers: Headers,
        transform: Transform,
        *,
        is_listening: bool,
    ) -> Done:
        """Hand on the events one by one, each looked at."""
        headers = [pair for pair in headers if pair[0] != b"cache-control"]
        headers += [(b"x-accel-buffering", b"no"), (b"cache-control", b"no-cache, no-transform")]
        self.request.may_end_early = True
        await self.request.start(200, headers)
        async for event in events(response, settings.KNOBS.max_body_bytes):
            passed = looked_at(event, message, transform, is_listening=is_listening)
            if passed is not None:
                await self.request.write(passed.write(), more=True)
        await self.request.write(b"", more=False)
        return Done(200)

    async def _transform(self, message: Message, *, is_listening: bool) -> Transform:
        """What is done to a result on its way back: nothing, except to lists of tools and introductions."""
        if message.method in ("initialize", "server/discover"):
            return without_what_we_refuse
        if message.method != "tools/list" and not is_listening:
            return lambda result: result
        now = CallFacts(datetime.now(UTC), self.request.ip)
        facts = await gather(self.worker.snapshots, self.tenant, self.resource, self.who, operation=None, call=now)
        return lambda result: self._only_seen(result, facts, is_modern=message.is_modern)

    def _only_seen(self, result: Any, facts: Facts, *, is_modern: bool) -> Any:
        """A page of tools with only those that this agent may call for this person, as an admin has reviewed them."""
        if not isinstance(result, dict) or not isinstance(result.get("tools"), list):
            return result
        seen = [tool for tool in result["tools"] if isinstance(tool, dict) and self._is_seen(tool, facts)]
        return {**result, "tools": seen} | ({"cacheScope": "private"} if is_modern else {})

    def _is_seen(self, tool: dict[str, Any], facts: Facts) -> bool:
        name = tool.get("name")
        operation = self.resource.tools.get(name) if isinstance(name, str) else None
        if operation is None or not may_be_seen(replace(facts, operation=operation.facts)):
            return False
        return not operation.digest or operation.digest == digest_of(tool)


def _called(message: Message) -> tuple[str, dict[str, Any]]:
    name, arguments = message.params.get("name"), message.params.get("arguments", {})
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise Rejected(
            rpc_error(400, INVALID_PARAMS, "A call names a tool and has an object of arguments.", message.id)
        )
    return name, arguments


def _is_harmless(message: Message) -> bool:
    if message.method == "subscriptions/listen":
        wanted = message.params.get("notifications")
        return not (isinstance(wanted, dict) and any(wanted.get(key) for key in wanted if key.startswith("resource")))
    return message.method in _HARMLESS


def _unmapped(facts: Facts) -> Decision:
    stopped = evaluate_protocol(facts)
    return stopped if not stopped.allowed else refuse(Reason.OPERATION_UNMAPPED)
