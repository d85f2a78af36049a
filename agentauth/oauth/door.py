"""The door of the protocol endpoints: which tenant, what was sent, and how an answer or a refusal goes out.

An endpoint is a function from `Call` to `Answer`, plain data both, so that it does not care which server calls it.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any
from uuid import UUID

import orjson
from django.core.exceptions import RequestDataTooBig
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from agentauth.agents.models import Agent
from agentauth.grants.models import Grant
from agentauth.keys.addresses import issuer
from agentauth.oauth.dpop import fresh_nonce
from agentauth.oauth.errors import (
    InvalidClient,
    InvalidRequest,
    InvalidToken,
    OAuthError,
    RequestTooLarge,
    TemporarilyUnavailable,
    UnsupportedMediaType,
)
from agentauth.oauth.parameters import MAX_BODY
from audit.actions import Action
from audit.record import ANONYMOUS, Actor, record
from tenants.access import find_tenant
from tenants.models import Tenant
from tenants.rls import in_tenant

log = logging.getLogger(__name__)

NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
RETRY_SOON = {"Retry-After": "2"}  # RFC 9110 §10.2.3, with every 503
# A browser's script may read these answers: they depend on no cookie (RFC 9700 §2.6, Fetch §3.2)
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "WWW-Authenticate, Retry-After, DPoP-Nonce",
}
PREFLIGHT = CORS | {
    "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, DPoP, MCP-Protocol-Version",
    "Access-Control-Max-Age": "86400",
}


@dataclass(slots=True)
class Call:
    """What came in. `client` is put in by client authentication, for the record of a refusal."""

    tenant: Tenant
    method: str = "POST"
    body: bytes = b""
    content_type: str = ""
    authorization: str = ""
    dpop: str = ""  # the DPoP header (RFC 9449 §4.1)
    jkt: str = ""  # thumbprint of the key that this call proved to hold, put in by `possession.prove_possession`
    accept: str = ""
    ip: str = ""
    client: Agent | None = None
    grant_type: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes out: JSON, or a JWT by its media type, or nothing at all."""

    document: Mapping[str, Any] | str | None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = "application/json"


Endpoint = Callable[..., Answer]
View = Callable[..., HttpResponse]


def oauth_endpoint(
    *, refused: Action = Action.TOKEN_REFUSED, cors: bool = True, methods: tuple[str, ...] = ("POST",)
) -> Callable[[Endpoint], View]:
    """POST only unless said, nothing stored by anybody, an OAuthError becomes its JSON and its line in the record.

    What else is in the address (`client_id`) is handed on to the endpoint.
    """

    def door(endpoint: Endpoint) -> View:
        @csrf_exempt
        @wraps(endpoint)
        def view(request: HttpRequest, tenant: str, **named: str) -> HttpResponse:
            try:
                return answered(request, tenant, named)
            except (OperationalError, InterfaceError) as error:  # no record, no answer that counts
                log.error("the database does not answer", exc_info=error)
                gone = TemporarilyUnavailable("The database does not answer.")
                return respond(Answer(gone.document(), gone.status, RETRY_SOON), cors=cors)

        def answered(request: HttpRequest, tenant: str, named: Mapping[str, str]) -> HttpResponse:
            here = find_tenant(tenant)
            if here is None:
                return respond(_no_such_issuer(), cors=cors)
            if request.method == "OPTIONS" and cors:
                return HttpResponse(status=204, headers=PREFLIGHT)
            if request.method not in methods:
                wrong = InvalidRequest(f"Use {', '.join(methods)}.")
                allowed = (*methods, "OPTIONS") if cors else methods
                return respond(Answer(wrong.document(), 405, {"Allow": ", ".join(allowed)}), cors=cors)
            call = Call(tenant=here, method=request.method, ip=caller(request))
            call.content_type = request.headers.get("Content-Type", "")
            call.authorization = request.headers.get("Authorization", "")
            call.dpop = request.headers.get("DPoP", "")
            call.accept = request.headers.get("Accept", "")
            try:
                call.body = read_body(request)
                answer = endpoint(call, **named)
            except OAuthError as error:
                answer = refuse(call, error, refused)
            if call.dpop:  # RFC 9449 §8.2: the next proof carries it, and no request is sent twice
                answer = replace(answer, headers={**answer.headers, "DPoP-Nonce": fresh_nonce(time.time())})
            return respond(answer, cors=cors)

        return view

    return door


def open_document(document: Callable[[Tenant], Mapping[str, Any]]) -> View:
    """A public document of a tenant: GET, for everybody, never a redirect, 404 for a tenant that is not there."""

    @csrf_exempt
    @wraps(document)
    def view(request: HttpRequest, tenant: str) -> HttpResponse:
        if request.method == "OPTIONS":
            return HttpResponse(status=204, headers=PREFLIGHT)
        here = find_tenant(tenant)
        if here is None:
            return respond(_no_such_issuer(), cors=True)
        if request.method not in ("GET", "HEAD"):
            return respond(
                Answer(InvalidRequest("Use GET.").document(), 405, {"Allow": "GET, HEAD, OPTIONS"}), cors=True
            )
        return respond(Answer(document(here), headers={"Cache-Control": "public, max-age=60"}), cors=True)

    return view


def read_body(request: HttpRequest) -> bytes:
    if int(request.headers.get("Content-Length") or 0) > MAX_BODY:
        raise RequestTooLarge("The request is too large.", reason="body_too_large")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":  # RFC 9110 §8.4
        raise UnsupportedMediaType("Send the body as it is, not packed.", reason="wrong_content_type")
    try:
        return request.body
    except RequestDataTooBig:
        raise RequestTooLarge("The request is too large.", reason="body_too_large") from None
    except OSError:
        raise InvalidRequest("The request did not arrive whole.", reason="not_whole") from None


def respond(answer: Answer, *, cors: bool) -> HttpResponse:
    if isinstance(answer.document, str):
        body = answer.document.encode("ascii")
    else:
        body = b"" if answer.document is None else orjson.dumps(answer.document)
    headers = {**NO_STORE, **(CORS if cors else {}), "X-Content-Type-Options": "nosniff", **answer.headers}
    if "Cache-Control" in answer.headers:
        headers.pop("Pragma")
    return HttpResponse(body, status=answer.status, content_type=answer.media_type, headers=headers)


def refuse(call: Call, error: OAuthError, action: Action) -> Answer:
    """Do what the refusal must leave behind, record it, and say it (RFC 6749 §5.2)."""
    with in_tenant(call.tenant.id):
        if error.aftermath is not None:
            error.aftermath()
        if error.on_record:
            record_refusal(call, error, action)
    headers: dict[str, str] = {}
    if isinstance(error, InvalidClient):
        # RFC 6749 §5.2: with the scheme that the client used; RFC 9110 §11.6.1 wants one on every 401
        headers["WWW-Authenticate"] = f'Basic realm="{issuer(call.tenant)}", charset="UTF-8"'
    if isinstance(error, InvalidToken):  # RFC 6750 §3.1: no code for who showed nothing
        shown = f', error="{error.code}"' if call.authorization else ""
        headers["WWW-Authenticate"] = f'Bearer realm="{issuer(call.tenant)}"{shown}'
    if error.status == 429:
        headers["Retry-After"] = "3600"
    if error.status == 503:
        headers |= RETRY_SOON
    return Answer(error.document(), error.status, headers)


def record_refusal(call: Call, error: OAuthError, action: Action, *, status: int | None = None) -> None:
    """In the tenant's transaction. Says why in our words and never holds what was presented."""
    agent_id = call.client.id if call.client else None
    record(
        Action.CLIENT_REFUSED if isinstance(error, InvalidClient) else action,
        tenant_id=call.tenant.id,
        actor=Actor("agent", str(agent_id)) if agent_id else ANONYMOUS,
        agent_id=agent_id,
        grant_id=_that_stands(call.tenant, error.grant_id),
        member_id=error.member_id,
        decision="refuse",
        reasons=[error.reason],
        status=status or error.status,
        ip=call.ip,
        details={"error": error.code} | ({"grant_type": call.grant_type} if call.grant_type else {}),
    )


def _that_stands(tenant: Tenant, grant_id: UUID | None) -> UUID | None:
    """What was made only for this request was taken back with it, and is nothing that the record could name."""
    if grant_id is None or not Grant.objects.filter(tenant=tenant.id, id=grant_id).exists():
        return None
    return grant_id


def caller(request: HttpRequest) -> str:
    """Who is at the other end of the connection; what a client writes into X-Forwarded-For is not believed."""
    return str(request.META.get("REMOTE_ADDR") or "")[:45]


def _no_such_issuer() -> Answer:
    return Answer({"error": "not_found", "error_description": "There is no such issuer."}, 404)
