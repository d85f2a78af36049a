"""Calls of a REST API: method and path are the operation; path, query and body are its arguments."""

import hashlib
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
from django.conf import settings

from agentauth.gateway.answers import Headers, Refusal, problem
from agentauth.gateway.calls import Call
from agentauth.gateway.forward import BUFFERED, Upload, UpstreamProblem, asking, own_headers, pieces
from agentauth.gateway.headers import inbound, one, outbound
from agentauth.gateway.intent import Intent, Verdict
from agentauth.gateway.passage import Done, pass_through
from agentauth.gateway.paths import BadPath, Match, write_path
from agentauth.gateway.request import Request, TooLarge
from agentauth.gateway.snapshot import Resource, Tenant
from agentauth.gateway.whether import gather
from agentauth.gateway.who import Principal
from agentauth.gateway.worker import Worker
from agentauth.grants.arguments import LONGEST_SHOWN, BadJSON, canonical, hash_of, query_values, read_json
from agentauth.oauth.authorization_details import details_of
from agentauth.policy.evaluate import evaluate
from agentauth.policy.facts import CallFacts, Facts
from tenants.rls import new_id

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_NOT_IN_QUERY = ("access_token", "_method")  # a credential in a log; another method than the one that is decided
_SANDBOX: Headers = [
    (b"content-security-policy", b"default-src 'none'; sandbox"),
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


async def serve(
    worker: Worker,
    request: Request,
    tenant: Tenant,
    resource: Resource,
    who: Principal,
    *,
    segments: list[str],
    query: str,
) -> None:
    """One call by a known principal. `segments` and `query` have one reading."""
    for name in _NOT_IN_QUERY:
        if name in query_values(query):
            raise BadPath(f"The query must not have {name}.")
    match = resource.routes.match(request.method, segments)
    body = await _small_body(request)
    arguments = _arguments(request, match, query, body)
    now = datetime.now(UTC)
    operation = match.operation.facts if match else None
    args_hash = hash_of(arguments)
    call_facts = CallFacts(now, request.ip, arguments, args_hash=args_hash)
    facts = await gather(worker.snapshots, tenant, resource, who, operation=operation, call=call_facts)
    if _is_about_arguments(facts):
        _require_read(arguments, body)
    intent = Intent(
        tenant_id=tenant.id,
        principal=who,
        facts=facts,
        judge=evaluate,
        call_id=new_id(),
        resource_id=resource.id,
        operation=operation.key if operation else "",
        ip=request.ip,
        args_hash=args_hash,
        arguments=arguments,
        proof=request.proof,
        details={"protocol": "rest", "method": request.method, "path": write_path(segments)[:400]},
    )
    if resource.routes.methods(segments) and match is None:
        intent.details["hint"] = "method"
    passed = inbound(request.headers, own=resource.credential or ())

    async def tell_refusal(verdict: Verdict) -> None:
        refusal = Refusal(
            tenant=tenant.slug,
            resource=resource.slug,
            decision=verdict.decision,
            call_id=intent.call_id,
            agent_id=who.agent_id,
            approval_id=verdict.approval_id,
            resource_id=resource.id,
            is_dpop=request.is_dpop,
            details=details_of(resource.url, intent.operation, arguments) if who.member_id and body is not None else (),
        )
        await request.answer(refusal.as_problem())

    async def tell_problem(status: int, title: str, detail: str) -> None:
        answer = problem(status, title, detail, call=str(intent.call_id))
        answer.headers.append((b"agentauth-call", str(intent.call_id).encode()))
        await request.answer(answer)

    async def exchange(call: Call) -> Done:
        upload = Upload(request, settings.KNOBS.max_body_bytes) if body is None else None
        url = f"{resource.origin}{resource.upstream.path}{write_path(segments)}" + (f"?{query}" if query else "")
        own = own_headers(tenant, resource, intent)
        data = upload if upload is not None else (body or None)
        if data is None and request.method in ("POST", "PUT", "PATCH"):
            own["Content-Length"] = "0"
        async with asking(worker, request.method, url, headers=passed, own=own, body=data) as response:
            return await _answer(request, resource, intent, response)

    await pass_through(
        worker,
        request,
        tenant.slug,
        intent,
        exchange=exchange,
        tell_problem=tell_problem,
        tell_refusal=tell_refusal,
    )


async def _small_body(request: Request) -> bytes | None:
    """The body if it is small, b"" if there is none, None if it is to be streamed."""
    if request.length is not None and request.length > settings.KNOBS.max_body_bytes:
        raise TooLarge
    if not request.has_body:
        return b""
    if request.length is None or request.length > BUFFERED:
        return None
    return await request.body(BUFFERED)


def _arguments(request: Request, match: Match | None, query: str, body: bytes | None) -> dict[str, Any]:
    """What decides about arguments sees, and what the hash binds. A body that is streamed is not in it."""
    found: dict[str, Any] = {}
    if match and match.values:
        found["path"] = match.values
    if query:
        found["query"] = query_values(query)
    if body is None:
        found["bytes"] = {"streamed": True}
    elif body:
        found |= _body_arguments(request, body)
    return found


def _body_arguments(request: Request, body: bytes) -> dict[str, Any]:
    """The value of a JSON body; of any other its hash, under a name of its own: no JSON body says the same."""
    digest = hashlib.sha256(body).hexdigest()
    kind = (one(request.headers, b"content-type") or "").partition(";")[0].strip().lower()
    encoded = one(request.headers, b"content-encoding")
    if not encoded and (kind == "application/json" or kind.endswith("+json")):
        try:
            return {"body": read_json(body)}
        except BadJSON as problem:
            return {"bytes": {"sha256": digest, "unread": str(problem)}}
    return {"bytes": {"sha256": digest}}


def _require_read(arguments: dict[str, Any], body: bytes | None) -> None:
    """A yes to one call, and a rule about arguments, are worth nothing for a body that nobody has read."""
    if body is None or len(canonical(arguments)) > LONGEST_SHOWN:
        raise TooLarge
    unread = arguments.get("bytes", {}).get("unread")
    if unread:
        raise BadJSON(unread)


def _is_about_arguments(facts: Facts) -> bool:
    if facts.grant is None or facts.operation is None:
        return False
    if facts.token_calls is not None:
        return True
    return facts.grant.modes.get(facts.operation.scope or "") == "ask" or "arguments" in facts.grant.constraints


async def _answer(request: Request, resource: Resource, intent: Intent, response: aiohttp.ClientResponse) -> Done:
    """Hand the upstream's answer on as it comes."""
    headers = outbound(response.raw_headers)
    location = response.headers.get("Location")
    if location is not None:
        headers.append((b"location", _own_location(resource, str(response.url), location, response.status)))
    headers += [*_SANDBOX, (b"agentauth-call", str(intent.call_id).encode())]
    streams = response.content_type == "text/event-stream"
    if streams:
        headers.append((b"x-accel-buffering", b"no"))
        request.may_end_early = True
    outcome = "ok" if response.status < 500 else "upstream_error"
    length = response.content_length
    no_body = request.method == "HEAD" or response.status in (204, 304)
    if not no_body and length is not None and length <= BUFFERED:
        collected = b"".join([piece async for piece in pieces(response)])
        await request.start(response.status, headers)
        await request.write(collected, more=False)
        return Done(response.status, outcome)
    await request.start(response.status, headers)
    if not no_body:
        async for piece in pieces(response, patient=streams):
            await request.write(piece, more=True)
    await request.write(b"", more=False)
    return Done(response.status, outcome)


def _own_location(resource: Resource, asked: str, location: str, status: int) -> bytes:
    """A redirect within the upstream, told in our own addresses. Anywhere else is refused: the token would follow."""
    away = UpstreamProblem(502, "Redirect refused", "The upstream redirects to another address.")
    try:
        target = urlsplit(urljoin(asked, location))
        same = (target.scheme, target.hostname, target.port or _port(target.scheme)) == (
            resource.upstream.scheme,
            resource.upstream.hostname,
            resource.upstream.port or _port(resource.upstream.scheme),
        )
    except ValueError:
        raise away from None
    base = resource.upstream.path.rstrip("/")
    inside = target.path == base or target.path.startswith(f"{base}/")
    if not same or not inside or target.username is not None:
        raise away
    tail = target.path[len(base) :]
    own = resource.url + tail + (f"?{target.query}" if target.query else "")
    with suppress(UnicodeEncodeError):
        if not any(ord(c) < 0x21 for c in own):
            return own.encode("ascii")
    raise away


def _port(scheme: str) -> int:
    return 443 if scheme == "https" else 80
