"""Errors as problem details (RFC 9457): a closed list of types, each with an address that explains it."""

import logging
import uuid
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied, RequestDataTooBig, ValidationError
from django.db import InterfaceError, OperationalError
from django.http import Http404
from rest_framework import exceptions
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response

from agentauth.agents.models import WrongState
from agentauth.grants.granting import NotGrantable
from agentauth.keys.ring import RingError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Kind:
    """One type of problem: its name in the address, its status, its title, and what to do about it."""

    code: str
    status: int
    title: str
    remedy: str


KINDS = {
    kind.code: kind
    for kind in (
        Kind("malformed", 400, "The request cannot be read", "Send one JSON object in UTF-8, each name once."),
        Kind("no-token", 401, "A bearer token is needed", "Send Authorization: Bearer with a token of this tenant."),
        Kind(
            "invalid-token",
            401,
            "This token is not good here",
            "Get a new token whose resource is this tenant's management address. If that fails too, the agent, the "
            "grant or the person's membership has ended.",
        ),
        Kind("use-nonce", 401, "Use the nonce", "Send it again with a proof that holds the nonce in DPoP-Nonce."),
        Kind("invalid-proof", 401, "The proof of the key is not good", "Make a new DPoP proof for this very request."),
        Kind(
            "insufficient-scope",
            403,
            "The token does not cover this",
            "Ask for the scope named in the answer; if it is not granted, a person has to grant it first.",
        ),
        Kind(
            "needs-approval",
            403,
            "A person must allow this call",
            "The grant says “ask me”. Wait until the person has allowed it at the address given, then send it again.",
        ),
        Kind(
            "role",
            403,
            "The person's role does not allow this",
            "The token acts for a member. What they may not do in the console, it may not do here.",
        ),
        Kind("not-found", 404, "Not found", "Unknown, or in another tenant, or not for this token: that is not told."),
        Kind("method", 405, "This method is not offered here", "See Allow in the answer."),
        Kind("not-acceptable", 406, "Only JSON is offered", "Send Accept: application/json."),
        Kind("conflict", 409, "Not possible in this state", "Read the record again: it has changed, or has ended."),
        Kind("too-large", 413, "The request is too large", "Send less at once."),
        Kind("media-type", 415, "Only JSON is read", "Send Content-Type: application/json."),
        Kind("invalid", 422, "Some fields are not right", "Each is named under errors."),
        Kind("too-many", 429, "Too many requests", "Wait as long as Retry-After says."),
        Kind("internal", 500, "Something broke on our side", "Tell the operator the id under instance."),
        Kind("unavailable", 503, "Not available just now", "Try again shortly; nothing was changed."),
    )
}


class Problem(exceptions.APIException):
    """Raised where the answer is one of KINDS. `more` goes into the body as extension members."""

    def __init__(self, code: str, detail: str, *, headers: dict[str, str] | None = None, **more: Any) -> None:
        self.kind = KINDS[code]
        self.status_code = self.kind.status
        self.headers = headers or {}
        self.more = more
        self.whose: Any = None  # the caller of a good token, where only its proof is wrong
        self.reason = code.replace("-", "_")  # for the record; who decides something says it in policy's words
        super().__init__(detail, code)

    @property
    def said(self) -> str:
        return str(self.detail)


def not_found() -> Problem:
    return Problem("not-found", "There is nothing here for this token.")


def invalid(field: str, message: str) -> Problem:
    """One field that is wrong; `field` as in the body, `a.b` for nested ones."""
    return Problem("invalid", "Some fields are not right.", errors=[{"field": field, "detail": message}])


class ProblemRenderer(JSONRenderer):
    media_type = "application/problem+json"


_BY_STATUS = {
    400: "malformed",
    401: "no-token",
    403: "role",
    404: "not-found",
    405: "method",
    406: "not-acceptable",
    415: "media-type",
    429: "too-many",
}


def problem_details(exc: Exception, context: dict[str, Any]) -> Response:
    """DRF's exception handler. What is not foreseen is logged with an id and says nothing outside."""
    problem = _as_problem(exc)
    if problem is None:
        incident = uuid.uuid4()
        log.error("incident %s", incident, exc_info=exc)
        problem = Problem("internal", "This was noted and will be looked into.", instance=f"urn:uuid:{incident}")
    body = {
        "type": f"{settings.KNOBS.base_url}/api/v1/problems/#{problem.kind.code}",
        "title": problem.kind.title,
        "status": problem.kind.status,
        "detail": problem.said,
        **problem.more,
    }
    answer = Response(body, status=problem.kind.status, headers=problem.headers)
    request = context.get("request")
    if request is not None:  # also when content negotiation itself failed
        request.accepted_renderer, request.accepted_media_type = ProblemRenderer(), ProblemRenderer.media_type
        answer.content_type = ProblemRenderer.media_type
    return answer


def _as_problem(exc: Exception) -> Problem | None:
    match exc:
        case Problem():
            return exc
        case exceptions.ValidationError():
            return Problem("invalid", "Some fields are not right.", errors=list(_flat(exc.detail)))
        case ValidationError():  # of the domain: named by field where it knows one
            said = exc.message_dict if hasattr(exc, "error_dict") else {"": exc.messages}
            return Problem("invalid", "Some fields are not right.", errors=list(_flat(_named(said))))
        case NotGrantable():
            return invalid(exc.field, str(exc))
        case WrongState():
            return Problem("conflict", str(exc))
        case exceptions.MethodNotAllowed():
            return Problem("method", str(exc.detail))
        case exceptions.Throttled():
            return Problem("too-many", str(exc.detail), headers={"Retry-After": "60"})
        case exceptions.APIException() if exc.status_code in _BY_STATUS:
            return Problem(_BY_STATUS[exc.status_code], str(exc.detail))
        case OperationalError() | InterfaceError():
            log.error("the database does not answer", exc_info=exc)
            return Problem("unavailable", "The database does not answer. Nothing was changed.")
        case RingError():
            log.error("%s", exc)
            return Problem("unavailable", "Secrets cannot be sealed or opened now. Nothing was changed.")
        case Http404():
            return not_found()
        case PermissionDenied():
            return Problem("role", str(exc) or "The role does not allow this.")
        case RequestDataTooBig():
            return Problem("too-large", f"At most {settings.DATA_UPLOAD_MAX_MEMORY_SIZE} bytes are read.")
    return None


def _named(said: dict[str, list[str]]) -> dict[str, list[str]]:
    return {"" if name == "__all__" else name: messages for name, messages in said.items()}


def _flat(detail: Any, at: str = "") -> Any:
    """DRF's nested errors as a list of {"field", "detail"}; a field in a list is `scopes.0`."""
    if isinstance(detail, dict):
        for name, inner in detail.items():
            here = at if name in ("non_field_errors", "") else f"{at}.{name}" if at else str(name)
            yield from _flat(inner, here)
    elif isinstance(detail, list) and any(isinstance(inner, (dict, list)) for inner in detail):
        for index, inner in enumerate(detail):
            if inner:
                yield from _flat(inner, f"{at}.{index}" if at else str(index))
    else:
        for message in detail if isinstance(detail, list) else [detail]:
            yield {"field": at, "detail": str(message)}
