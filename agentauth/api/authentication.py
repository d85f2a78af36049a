"""Who calls: a bearer token (RFC 6750, RFC 9068) of this tenant's own issuer for its management address.

Everything that can end is asked of the database on every request: revocations, the agent's state, the grant, the
person's membership. A token alone opens nothing.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

import jwt
import orjson
from django.conf import settings
from django.http import HttpRequest
from django.utils.encoding import escape_uri_path
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from agentauth.agents.models import Agent
from agentauth.api.problems import Problem
from agentauth.grants.approvals import spend
from agentauth.grants.models import Grant, Permission
from agentauth.keys.addresses import issuer, management_url, pages_url
from agentauth.keys.compact import is_compact
from agentauth.keys.signing import public_keys
from agentauth.oauth import possession
from agentauth.oauth.errors import InvalidDPoPProof, UseDPoPNonce
from agentauth.oauth.own_token import agents_of, is_for_agent, is_ours, is_void
from agentauth.policy.decision import Reason
from agentauth.resources.ceilings import may_ever
from agentauth.resources.models import Resource
from audit.record import Actor
from tenants.models import Member, Role, Tenant

if TYPE_CHECKING:  # the door imports this module
    from agentauth.api.door import TenantView

_REQUIRED = ["iss", "sub", "aud", "client_id", "scope", "exp", "iat", "jti", "grant_id"]
_MAX_LENGTH = 8192
_CONVERTER = re.compile(r"<(?:[a-z]+:)?([a-z_]+)>")


@dataclass(frozen=True, slots=True)
class Caller:
    """The agent that calls, and the person it acts for; `member` is None when it acts for itself."""

    tenant: Tenant
    agent: Agent
    member: Member | None
    grant: Grant
    scopes: frozenset[str]
    jti: str

    is_authenticated: ClassVar[bool] = True  # asked by DRF

    @property
    def actor(self) -> Actor:
        return Actor("member", str(self.member.id)) if self.member else Actor("agent", str(self.agent.id))

    @property
    def person(self) -> Member:
        """On whose authority it acts: the member it acts for, or the admin who let it act for itself."""
        return self.member or self.grant.given_by

    @property
    def sees_only_own(self) -> bool:
        return self.member is not None and self.member.role == Role.MEMBER


def caller_of(request: Request) -> Caller:
    """Who `TenantBearer` found."""
    caller = request.user
    if not isinstance(caller, Caller):
        raise TypeError("no caller behind this door")
    return caller


class TenantBearer(BaseAuthentication):
    """`Authorization: Bearer …`, or `DPoP …` with a proof (RFC 9449), exactly once. Behind the tenant's door."""

    def authenticate(self, request: Request) -> tuple[Caller, str]:
        tenant: Tenant = request._request.tenant  # type: ignore[attr-defined]  # put there by the door
        token = _bearer(request)
        if token is None:
            problem = challenge("no-token", "Send a bearer token of this tenant's issuer.", tenant)
            problem.headers["WWW-Authenticate"] += f", {possession.challenge()}"
            raise problem
        claims = _verified(token, tenant)
        caller = _caller(claims, tenant)
        _require_holder(request._request, claims, token, caller)
        return caller, token

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class HasManagementScope(BasePermission):
    """The scope that the view names, in the token and granted now, under the ceiling; and a role that may do this."""

    def has_permission(self, request: Request, view: "TenantView") -> bool:  # type: ignore[override]  # on no other view
        caller = caller_of(request)
        reads = request.method in ("GET", "HEAD", "OPTIONS")
        name = view.read_scope if reads else view.write_scope
        roles = view.read_roles if reads else view.write_roles
        if name not in caller.scopes:
            raise lacking(Reason.SCOPE_MISSING, f"This needs the scope {name}.", caller, name)
        if caller.person.role not in roles:
            raise Problem("role", f"What needs {name} is not for the role {caller.person.role}.")
        given = Permission.objects.select_related("scope").filter(grant_id=caller.grant.id, scope__name=name).first()
        if given is None:
            raise lacking(Reason.GRANT_LACKS_SCOPE, f"The grant does not cover {name}.", caller, name)
        if not may_ever(caller.agent, given.scope):
            raise lacking(Reason.ABOVE_CEILING, f"The agent's ceiling no longer covers {name}.", caller, name)
        if given.mode == Permission.Mode.NEVER:
            raise lacking(Reason.GRANT_SAYS_NEVER, f"The grant says never to {name}.", caller, name)
        if given.mode == Permission.Mode.ASK:
            _require_yes(request, caller, name)
        return True


class NeedsYes(Problem):
    """The person is to be asked about this very call; the door asks once this transaction is taken back."""

    def __init__(self, grant: Grant, operation: str, shown: dict[str, Any], args_hash: str) -> None:
        super().__init__("needs-approval", "The person has to allow this call first; they find it in their inbox.")
        self.grant, self.operation, self.shown, self.args_hash = grant, operation, shown, args_hash


def _require_yes(request: Request, caller: Caller, scope: str) -> None:
    """Spend the person's yes to exactly this call, else ask."""
    if caller.member is None:
        raise lacking(Reason.NEEDS_APPROVAL, f"{scope} is “ask me”, and there is nobody to ask.", caller, scope)
    operation = operation_of(request)
    args = {"path": request.path, "query": dict(request.query_params.lists()), "body": request.data}
    args_hash = hashlib.sha256(orjson.dumps(args, option=orjson.OPT_SORT_KEYS)).hexdigest()
    if spend(caller.grant, operation=operation, args_hash=args_hash) is None:
        raise NeedsYes(caller.grant, operation, _without_secrets(args), args_hash)


def operation_of(request: Request) -> str:
    """As operations of other resources are written: method and path template within the tenant."""
    match = request._request.resolver_match
    route = (match.route if match else "").removeprefix("api/v1/tenants/<slug:tenant>")
    template = _CONVERTER.sub(r"{\1}", route)
    return f"{request.method} {template}"[:200]


def _without_secrets(value: Any) -> Any:
    """What a person is shown of a call, and what is stored with the question: a secret is not."""
    if isinstance(value, dict):
        return {name: "…" if name == "secret" else _without_secrets(inner) for name, inner in value.items()}
    return [_without_secrets(inner) for inner in value] if isinstance(value, list) else value


def challenge(code: str, detail: str, tenant: Tenant, *, scope: str = "") -> Problem:
    """A refusal with the `WWW-Authenticate` of RFC 6750 §3 and RFC 9728 §5.1."""
    error = {"invalid-token": "invalid_token", "insufficient-scope": "insufficient_scope"}.get(code)
    parts = [f'resource_metadata="{metadata_url(tenant.slug)}"']
    if scope:
        parts.insert(0, f'scope="{scope}"')
    if error:
        parts.insert(0, f'error="{error}"')
    more = {"scope": scope, "ask_at": f"{pages_url(tenant.slug)}/my/agents/"} if scope else {}
    return Problem(code, detail, headers={"WWW-Authenticate": "Bearer " + ", ".join(parts)}, **more)


def lacking(reason: Reason, detail: str, caller: Caller, scope: str) -> Problem:
    """The token or what stands behind it does not cover `scope`."""
    problem = challenge("insufficient-scope", detail, caller.tenant, scope=scope)
    problem.reason = reason
    return problem


def untrusted(reason: Reason, detail: str, tenant: Tenant) -> Problem:
    """The token opens nothing."""
    problem = challenge("invalid-token", f"The token was refused: {detail}.", tenant)
    problem.reason = reason
    return problem


def unproven(error: InvalidDPoPProof | UseDPoPNonce, caller: Caller) -> Problem:
    """The token is good, its proof is not, or lacks our nonce (RFC 9449 §7.1, §9)."""
    told = possession.challenge(error.code, error.description)
    code = "invalid-proof" if isinstance(error, InvalidDPoPProof) else "use-nonce"
    problem = Problem(code, error.description, headers={"WWW-Authenticate": told})
    problem.reason = Reason.PROOF_REPLAYED if error.reason == "proof_replayed" else Reason.PROOF_INVALID
    problem.whose = caller
    return problem


def metadata_url(tenant_slug: str) -> str:
    """RFC 9728 §3.1: the well-known part goes between the origin and the path of the resource."""
    path = management_url(tenant_slug).removeprefix(settings.KNOBS.base_url)
    return f"{settings.KNOBS.base_url}/.well-known/oauth-protected-resource{path}"


def _bearer(request: Request) -> str | None:
    header = request.headers.get("Authorization", "")
    scheme, _, token = header.partition(" ")
    if scheme.lower() not in ("bearer", "dpop") or not token.strip():
        return None
    return token.strip()


def _require_holder(request: HttpRequest, claims: dict[str, Any], token: str, caller: Caller) -> None:
    """RFC 9449 §7: a bound token is nothing to its bearer alone."""
    url = settings.KNOBS.base_url + escape_uri_path(request.path)
    try:
        possession.require_holder(
            caller.tenant,
            claims,
            token,
            is_dpop=request.headers["Authorization"].partition(" ")[0].lower() == "dpop",
            proof=request.headers.get("DPoP", ""),
            method=str(request.method),
            url=url,
        )
    except possession.WrongScheme as wrong:
        is_bound = wrong.reason == Reason.PROOF_MISSING
        problem = untrusted(
            wrong.reason, "it is bound to a key" if is_bound else "it is bound to no key", caller.tenant
        )
        if not is_bound:
            problem.headers["WWW-Authenticate"] = possession.challenge("invalid_token", wrong.reason.words)
        problem.whose = caller
        raise problem from None
    except (InvalidDPoPProof, UseDPoPNonce) as wrong:
        raise unproven(wrong, caller) from None


def _verified(token: str, tenant: Tenant) -> dict[str, Any]:
    """RFC 9068 §4: type, algorithm, key, issuer, audience, times. What was wrong is told in one sentence."""
    try:
        if len(token) > _MAX_LENGTH:
            raise jwt.InvalidTokenError("it is too long")
        if not is_compact(token):
            raise jwt.DecodeError
        header = jwt.get_unverified_header(token)
        if header.get("typ", "").lower() not in ("at+jwt", "application/at+jwt"):
            raise jwt.InvalidTokenError("it is not an access token")
        if header.get("alg") != "ES256" or "crit" in header:
            raise jwt.InvalidTokenError("its header is not one of ours")
        jwk = public_keys(tenant.id).get(header.get("kid", ""))
        if jwk is None:
            raise jwt.InvalidTokenError("it was signed by nobody known here")
        claims: dict[str, Any] = jwt.decode(
            token,
            jwt.PyJWK(jwk, algorithm="ES256"),
            algorithms=["ES256"],
            issuer=issuer(tenant),
            audience=management_url(tenant.slug),
            options={"require": _REQUIRED, "strict_aud": True, "verify_iat": True},
        )
        if not is_ours(claims):
            raise jwt.DecodeError
    except (jwt.InvalidTokenError, AttributeError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise untrusted(*_in_words(error), tenant) from None
    if "authorization_details" in claims:  # RFC 9396: for one call, and no call of this API can be allowed so
        raise untrusted(Reason.TOKEN_OTHER_CALL, "it is for one other call", tenant)
    return claims


def _caller(claims: dict[str, Any], tenant: Tenant) -> Caller:
    """The rows behind the claims, each still good. One sentence for all that fails: who asks learns nothing of us."""
    try:
        subject, grant_id = UUID(claims["sub"]), UUID(claims["grant_id"])
        agents = [UUID(agent) for agent in agents_of(claims)]  # the outermost acts now (RFC 8693 §4.1)
        scopes, jti = frozenset(claims["scope"].split()), str(claims["jti"])
    except (ValueError, TypeError, KeyError, AttributeError):
        raise untrusted(Reason.TOKEN_MALFORMED, "its claims are not ours", tenant) from None
    agent_id, member_id = agents[0], None if is_for_agent(claims) else subject
    grant = (
        Grant.objects.select_related("agent", "resource", "member__user", "given_by__user")
        .filter(tenant=tenant, id=grant_id, agent_id=agent_id)
        .first()
    )
    if (
        grant is None
        or grant.member_id != member_id
        or not grant.is_live
        or not grant.agent.is_active
        or grant.agent.client_id != claims["client_id"]
        or grant.resource.kind != Resource.Kind.MANAGEMENT
        or grant.resource.state != Resource.State.PUBLISHED
        or not (grant.member or grant.given_by).is_active
        or is_void(tenant, claims)
    ):
        raise untrusted(Reason.TOKEN_REVOKED, "what it stood for has ended", tenant)
    return Caller(tenant, grant.agent, grant.member, grant, scopes, jti)


def _in_words(error: Exception) -> tuple[Reason, str]:
    match error:
        case jwt.ExpiredSignatureError():
            return Reason.TOKEN_EXPIRED, "it has expired"
        case jwt.ImmatureSignatureError():
            return Reason.TOKEN_NOT_YET_VALID, "it is from the future"
        case jwt.InvalidAudienceError():
            return Reason.TOKEN_WRONG_AUDIENCE, "it is for another resource"
        case jwt.InvalidIssuerError():
            return Reason.TOKEN_UNTRUSTED, "it is from another issuer"
        case jwt.InvalidSignatureError():
            return Reason.TOKEN_UNTRUSTED, "its signature is wrong"
        case jwt.MissingRequiredClaimError():
            return Reason.TOKEN_MALFORMED, f"it has no {error.claim}"
    if type(error) is jwt.InvalidTokenError:  # raised by ourselves above
        return Reason.TOKEN_UNTRUSTED, str(error)
    return Reason.TOKEN_MALFORMED, "it is not a token of ours"
