"""What the gateway itself says: challenges (RFC 6750, RFC 9728), problems (RFC 9457), JSON-RPC errors."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import orjson
from django.conf import settings

from agentauth.oauth.authorization_details import Details
from agentauth.oauth.dpop import ALGORITHMS
from agentauth.policy.conditions.sign_in import enough_for
from agentauth.policy.decision import Decision, Reason

Headers = list[tuple[bytes, bytes]]

REFUSED = -32001  # our own JSON-RPC error: the call was refused, `data` says why
_SAFE: Headers = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; sandbox"),
    (b"referrer-policy", b"no-referrer"),
]

# A new token may help: the client should authorize again
_AUTHORIZE_AGAIN = frozenset(
    {
        Reason.TOKEN_MALFORMED,
        Reason.TOKEN_UNTRUSTED,
        Reason.TOKEN_WRONG_AUDIENCE,
        Reason.TOKEN_EXPIRED,
        Reason.TOKEN_NOT_YET_VALID,
        Reason.TOKEN_REVOKED,
        Reason.BOUND_TOKENS_ONLY,
        Reason.GRANT_MISSING,
        Reason.GRANT_ENDED,
        Reason.GRANT_EXPIRED,
    }
)
# The token is good, what came with it is not
_PROVE_AGAIN = frozenset(
    {Reason.PROOF_MISSING, Reason.PROOF_INVALID, Reason.PROOF_REPLAYED, Reason.TOKEN_NOT_BOUND},
)
_PROOF_WRONG = frozenset({Reason.PROOF_INVALID, Reason.PROOF_REPLAYED})
# What we offer besides bearer tokens (RFC 9449 §7.1); after the challenge that clients without it read
_OFFERED = (b"www-authenticate", f'DPoP algs="{" ".join(ALGORITHMS)}"'.encode())
# A new token with this scope would help
_SCOPE_HELPS = frozenset({Reason.SCOPE_MISSING, Reason.GRANT_LACKS_SCOPE})
# Asking the person for this very call would help (RFC 9396)
_DETAILS_HELP = _SCOPE_HELPS | {Reason.TOKEN_OTHER_CALL, Reason.NEEDS_APPROVAL}


@dataclass(slots=True)
class Answer:
    status: int
    body: bytes = b""
    headers: Headers = field(default_factory=list)


def status_of(decision: Decision, protocol: str = "rest") -> int:
    """The HTTP status of a refusal. To an MCP client 404 says that its session is over, so there it is 403."""
    reasons = set(decision.reasons)
    if reasons & (_AUTHORIZE_AGAIN | _PROVE_AGAIN) or decision.sign_in:
        return 401
    if protocol == "mcp" and reasons == {Reason.OPERATION_UNKNOWN}:
        return 403
    if reasons & {Reason.RESOURCE_NOT_PUBLISHED, Reason.OPERATION_UNKNOWN}:
        return 404
    if reasons == {Reason.CONSTRAINT_CALL_BUDGET}:
        return 429
    return 403


def metadata_url(tenant: str, resource: str) -> str:
    """RFC 9728 §3.1: the well-known part comes before the resource's path."""
    return f"{settings.KNOBS.gateway_url}/.well-known/oauth-protected-resource/{tenant}/{resource}"


def challenge(
    tenant: str,
    resource: str,
    *,
    scope: str = "",
    error: str = "",
    description: str = "",
    is_dpop: bool = False,
    **more: str,
) -> tuple[bytes, bytes]:
    """In the scheme that the client used."""
    parts = [f'algs="{" ".join(ALGORITHMS)}"'] if is_dpop else []
    if error:
        parts.append(f'error="{error}"')
    if description:
        parts.append(f'error_description="{_quotable(description)}"')
    if scope:
        parts.append(f'scope="{scope}"')
    parts += [f'{name}="{value}"' for name, value in more.items()]
    parts.append(f'resource_metadata="{metadata_url(tenant, resource)}"')
    return b"www-authenticate", (("DPoP " if is_dpop else "Bearer ") + ", ".join(parts)).encode("ascii")


def no_token(tenant: str, resource: str, scope: str, *, is_dpop: bool) -> Answer:
    """RFC 6750 §3.1: a challenge without an error code for who did not try. `is_dpop`: only that scheme will do."""
    text = f"Send an access token: Authorization: {'DPoP' if is_dpop else 'Bearer'} …"
    answer = problem(401, "Who are you?", text, resource_metadata=metadata_url(tenant, resource))
    answer.headers.append(challenge(tenant, resource, scope=scope, is_dpop=is_dpop))
    answer.headers += [] if is_dpop else [_OFFERED]
    return answer


def nonce_needed(tenant: str, resource: str, text: str) -> Answer:
    """RFC 9449 §9. Not a refusal: with the nonce, the same request passes."""
    answer = problem(401, "Use a nonce", text)
    answer.headers.append(challenge(tenant, resource, error="use_dpop_nonce", description=text, is_dpop=True))
    return answer


def bad_request(tenant: str, resource: str, text: str) -> Answer:
    answer = problem(400, "The request cannot be read", text)
    answer.headers.append(challenge(tenant, resource, error="invalid_request", description=text))
    return answer


@dataclass(slots=True)
class Refusal:
    """A refused call, ready to be told in either protocol."""

    tenant: str
    resource: str
    decision: Decision
    call_id: UUID
    agent_id: UUID | None = None
    approval_id: UUID | None = None
    resource_id: UUID | None = None
    scopes: str = ""
    held: Collection[str] = ()
    """What the token has and the client would forget to ask for again together with what it lacks."""
    protocol: str = "rest"
    is_dpop: bool = False
    detail: str = ""
    """What exactly is wrong, where the reason's words do not say it."""
    details: Details = ()
    """What the client could ask its person for, to be allowed this very call (RFC 9396)."""

    @property
    def status(self) -> int:
        return status_of(self.decision, self.protocol)

    def headers(self) -> Headers:
        found: Headers = [(b"agentauth-call", str(self.call_id).encode())]
        reasons = set(self.decision.reasons)
        words = self.detail or self.decision.words
        if self.decision.sign_in:
            scope, error = self.decision.scope, "insufficient_user_authentication"
            step_up = challenge(
                self.tenant,
                self.resource,
                scope=scope,
                error=error,
                description=words,
                is_dpop=self.is_dpop,
                **self._step_up(),
            )
            found.append(step_up)
        elif self.status == 401:
            scope = self.decision.scope or self.scopes
            where = (self.tenant, self.resource)
            error = "invalid_dpop_proof" if reasons & _PROOF_WRONG else "invalid_token"
            found.append(challenge(*where, scope=scope, error=error, description=words, is_dpop=self.is_dpop))
            found += [] if self.is_dpop else [_OFFERED]
        elif (
            Reason.TOKEN_OTHER_CALL in reasons and reasons <= _DETAILS_HELP
        ):  # draft-zehavi-oauth-rar-metadata, with the body's details
            error = "insufficient_authorization_details"
            found.append(challenge(self.tenant, self.resource, error=error, description=words, is_dpop=self.is_dpop))
        elif self.status == 403 and reasons <= _SCOPE_HELPS and self.decision.scope:
            found.append(
                challenge(
                    self.tenant,
                    self.resource,
                    scope=" ".join(sorted({*self.decision.scope.split(), *self.held})),
                    error="insufficient_scope",
                    description=words,
                    is_dpop=self.is_dpop,
                )
            )
        elif self.status == 429:
            found.append((b"retry-after", str(_until_midnight()).encode()))
        return found

    def _step_up(self) -> dict[str, str]:
        """RFC 9470 §3: every level that would do, the weakest first, and how old the sign-in may be."""
        demand = self.decision.sign_in
        found = {"acr_values": " ".join(enough_for(demand["acr"]))} if "acr" in demand else {}
        return found | ({"max_age": str(demand["max_age"])} if "max_age" in demand else {})

    def told(self) -> dict[str, Any]:
        """Why, what would fix it, and where to go for that."""
        decision = self.decision
        said: dict[str, Any] = {
            "reasons": [
                {"code": reason.value, "words": reason.words, "fix": reason.fix} for reason in decision.reasons
            ],
            "call": str(self.call_id),
            "resource_metadata": metadata_url(self.tenant, self.resource),
        }
        if decision.scope:
            said["scope"] = decision.scope
        said |= self._step_up()
        if self.details and set(decision.reasons) <= _DETAILS_HELP:
            said["authorization_details"] = self.details
        if self.approval_id is not None:
            said["approval"] = str(self.approval_id)
            said["ask_at"] = f"{settings.KNOBS.base_url}/t/{self.tenant}/my/inbox/{self.approval_id}/"
        elif self.agent_id is not None and self._person_can_help():
            query = urlencode({"agent": str(self.agent_id), "resource": str(self.resource_id or "")})
            said["ask_at"] = f"{settings.KNOBS.base_url}/t/{self.tenant}/my/agents/new/?{query}"
        return said

    def _person_can_help(self) -> bool:
        """By giving more or giving again; what is above the agent's ceiling is for an admin."""
        reasons = set(self.decision.reasons)
        return bool(reasons & (_SCOPE_HELPS | _AUTHORIZE_AGAIN)) and Reason.ABOVE_CEILING not in reasons

    def as_problem(self) -> Answer:
        title = "Your person is asked first" if self.decision.asked else "Refused"
        detail = f"{self.detail or self.decision.words} {self.decision.fix}".strip()
        answer = problem(self.status, title, detail, **self.told())
        answer.headers += self.headers()
        return answer

    def as_rpc(self, request_id: Any) -> Answer:
        detail = f"{self.detail or self.decision.words} {self.decision.fix}".strip()
        answer = rpc_error(self.status, REFUSED, detail, request_id, self.told())
        answer.headers += self.headers()
        return answer


def problem(status: int, title: str, detail: str, **more: Any) -> Answer:
    """RFC 9457."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}
    return Answer(status, orjson.dumps(body), [(b"content-type", b"application/problem+json"), *_SAFE])


def rpc_error(status: int, code: int, message: str, request_id: Any, data: Any = None) -> Answer:
    error: dict[str, Any] = {"code": code, "message": message}
    if data is not None:
        error["data"] = data
    body = orjson.dumps({"jsonrpc": "2.0", "id": request_id, "error": error})
    return Answer(status, body, [(b"content-type", b"application/json"), *_SAFE])


def json_answer(status: int, value: Any, headers: Headers | None = None) -> Answer:
    return Answer(status, orjson.dumps(value), [(b"content-type", b"application/json"), *(headers or _SAFE)])


def _quotable(text: str) -> str:
    """RFC 6750 §3: printable ASCII without quote and backslash."""
    return "".join(c if " " <= c <= "~" and c not in '"\\' else "'" if c in '’‘“”"`' else "-" for c in text)


def _until_midnight() -> int:
    now = datetime.now(UTC)
    midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return int((midnight - now).total_seconds()) + 1
