"""What a client asks for at the authorization endpoint (RFC 6749 §4.1.1, OAuth 2.1 §4.1.1): read and checked."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from agentauth.agents.introducing import waits_for_approval
from agentauth.agents.models import Agent
from agentauth.grants.granting import offerable
from agentauth.grants.sign_in_rules import find_rule
from agentauth.keys.addresses import issuer
from agentauth.oauth.authorization_details import Details, find_call, read_details, scope_for, where
from agentauth.oauth.errors import (
    ApprovalFirst,
    InvalidRequest,
    InvalidScope,
    OAuthError,
    RequestNotSupported,
    RequestUriNotSupported,
    UnauthorizedClient,
    UnsupportedResponseType,
)
from agentauth.oauth.hinted_person import person_of_id_token
from agentauth.oauth.parameters import Parameters, scope_names
from agentauth.oauth.pkce import require_challenge
from agentauth.oauth.redirect_uris import is_registered, with_answer
from agentauth.oauth.target import find_target
from agentauth.policy.conditions.sign_in import demanded_of, enough_for, reaches
from agentauth.resources.models import Resource, Scope
from tenants.models import Member, Tenant

# Words of the protocol that may stand among the scopes and are no permission at a resource
PROTOCOL_SCOPES = ("openid", "offline_access", "profile", "email")
_JKT = re.compile(r"[A-Za-z0-9_-]{43}\Z")
_PROMPTS = {"none", "login", "consent", "select_account"}


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the answer goes: settled first, since without it nothing may be sent anywhere (§4.1.2.1)."""

    client_id: str
    redirect_uri: str
    redirect_uri_given: bool
    state: str | None


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """One checked request, plain data: a form carries the whole of it, signed."""

    to: Destination
    resource_id: str
    scope: tuple[str, ...]  # permissions asked for by name; none means whatever the resource has
    protocol_scope: tuple[str, ...]
    code_challenge: str
    nonce: str
    prompt: tuple[str, ...]
    max_age: int | None
    login_hint: str
    dpop_jkt: str = ""  # the only key that may redeem the code (RFC 9449 §10)
    device: str = ""  # the DeviceRequest that this answers; then there is no redirect and no code
    backchannel: str = ""  # the BackchannelRequest; neither here
    acr_values: tuple[str, ...] = ()  # any of these will do (RFC 9470 §4)
    authorization_details: Details = ()  # one concrete call, and nothing else (RFC 9396)
    binding_message: str = ""  # what its client shows them too; hostile text
    person: str = ""  # the only one who may answer, whom the client showed an id token of

    @property
    def waits_elsewhere(self) -> bool:
        """Nobody is sent on from the answer: who asked for it comes and fetches it."""
        return bool(self.device or self.backchannel)

    @property
    def wants_new_sign_in(self) -> bool:
        """Or one that is not too old: OpenID Connect Core §3.1.2.1."""
        return self.max_age is not None or "login" in self.prompt

    def as_data(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> "AuthorizationRequest":
        names = ("scope", "protocol_scope", "prompt", "acr_values", "authorization_details")
        lists = {name: tuple(data[name]) for name in names}
        return cls(**{**data, **lists, "to": Destination(**data["to"])})


def settle_destination(asked: Parameters, client: Agent) -> Destination:
    """§4.1.2.1: a wrong client or redirect URI is told to the person, never by a redirect."""
    for name in ("client_id", "redirect_uri"):
        if name in asked.flaws:
            raise asked.flaws[name]
    given = asked.get("redirect_uri")
    if given is None:
        if len(client.redirect_uris) != 1:
            raise InvalidRequest("The parameter redirect_uri is missing.", reason="redirect_uri_missing")
        return Destination(client.client_id, str(client.redirect_uris[0]), False, asked.get("state"))
    if not is_registered(given, client.redirect_uris):
        raise InvalidRequest("The redirect_uri is not one that this client registered.", reason="redirect_uri_unknown")
    return Destination(client.client_id, given, True, asked.get("state"))


def read_request(asked: Parameters, to: Destination, client: Agent, tenant: Tenant) -> AuthorizationRequest:
    """The rest of it; each error here may be told to the client by a redirect. In the tenant's transaction."""
    asked.sound()
    if "request" in asked:
        raise RequestNotSupported("Request objects are not supported.")
    if "request_uri" in asked:
        raise RequestUriNotSupported("request_uri is not supported.")
    if asked.require("response_type") != "code":
        raise UnsupportedResponseType("The response type must be code.")
    if asked.get("response_mode", "query") != "query":
        raise InvalidRequest("The response mode must be query.", reason="response_mode")
    if "authorization_code" not in client.grant_types:
        raise UnauthorizedClient("This client is not registered for authorization_code.", reason="grant_not_registered")
    if not client.is_active:
        raise UnauthorizedClient("This agent is stopped.", reason="agent_inactive")
    challenge = require_challenge(asked.get("code_challenge", ""), asked.get("code_challenge_method", "plain"))
    prompt = tuple(dict.fromkeys(asked.get("prompt", "").split()))
    if not set(prompt) <= _PROMPTS or ("none" in prompt and len(prompt) > 1):
        raise InvalidRequest("This prompt is not supported.", reason="prompt")
    target, scope, protocol_scope = read_scope(asked, client, tenant)
    details = read_details(asked.get("authorization_details", ""), client, tenant)
    acr_values, max_age = with_what_it_takes(details, target, read_acr_values(asked), _max_age(asked))
    return AuthorizationRequest(
        to=to,
        resource_id=str(target.id),
        scope=scope,
        protocol_scope=protocol_scope,
        code_challenge=challenge,
        nonce=_short(asked, "nonce"),
        prompt=prompt,
        max_age=max_age,
        login_hint=_short(asked, "login_hint"),
        dpop_jkt=_thumbprint(asked),
        acr_values=acr_values,
        authorization_details=details,
        person=_hinted(asked, client, tenant),
    )


def read_scope(asked: Parameters, client: Agent, tenant: Tenant) -> tuple[Resource, tuple[str, ...], tuple[str, ...]]:
    """Where, which permissions, and which words of the protocol itself (RFC 6749 §3.3, RFC 8707 §2).

    Details of one call (RFC 9396) say where, and the only permission that it takes.
    """
    names = scope_names(asked.get("scope", ""))
    scope = tuple(name for name in names if name not in PROTOCOL_SCOPES)
    details = read_details(asked.get("authorization_details", ""), client, tenant)
    target = find_target(tenant, asked.resource or where(details), scope, client)
    scope = scope_for(details, target, scope)
    known = set(target.scopes.values_list("name", flat=True))
    if not set(scope) <= known:
        raise InvalidScope("A scope that was asked for does not exist at this resource.", reason="unknown_scope")
    return target, scope, tuple(name for name in names if name in PROTOCOL_SCOPES)


def read_acr_values(asked: Parameters) -> tuple[str, ...]:
    """OpenID Connect Core §3.1.2.1, RFC 9470 §4: levels of which any will do."""
    return tuple(dict.fromkeys(asked.get("acr_values", "").split()))


def with_what_it_takes(
    details: Details, resource: Resource, acr_values: tuple[str, ...], max_age: int | None
) -> tuple[tuple[str, ...], int | None]:
    """For one call also the sign-in that the resource needs for it: nobody says yes to what would then be refused."""
    call, rule = find_call(details[0], resource) if details else None, find_rule(resource)
    if call is None or rule is None:
        return acr_values, max_age
    demanded = demanded_of(call.scope.risk, rule.from_risk, rule.acr, rule.max_age)
    if not demanded:
        return acr_values, max_age
    enough = tuple(wanted for wanted in acr_values if reaches(wanted, rule.acr)) or enough_for(rule.acr)
    ages = [age for age in (max_age, demanded.get("max_age")) if age is not None]
    return enough, min(ages, default=None)


def offered(asked: AuthorizationRequest, client: Agent, resource: Resource, member: Member) -> list[Scope]:
    """What the person can be asked about: within what was named, under the ceiling, within the person's rights."""
    if waits_for_approval(client):
        raise ApprovalFirst(
            "An admin of this organisation has to approve this app first.",
            reason="approval_first",
            member_id=member.id,
        )
    found = [scope for scope in offerable(client, resource, member) if not asked.scope or scope.name in asked.scope]
    if not found:
        raise InvalidScope(
            "This organisation allows this agent nothing of what it asks for.",
            reason="above_ceiling",
            member_id=member.id,
        )
    return found


def resource_of(asked: AuthorizationRequest, tenant: Tenant) -> Resource:
    return Resource.objects.get(tenant=tenant, id=UUID(asked.resource_id))


def answer_address(to: Destination, tenant: Tenant, answer: Sequence[tuple[str, str]]) -> str:
    """The redirect: always with `iss` (RFC 9207 §2), with `state` exactly as it came (§4.1.2)."""
    state = [("state", to.state)] if to.state is not None else []
    return with_answer(to.redirect_uri, urlencode([*answer, *state, ("iss", issuer(tenant))]))


def error_address(to: Destination, tenant: Tenant, error: OAuthError) -> str:
    return answer_address(to, tenant, list(error.document().items()))


def _hinted(asked: Parameters, client: Agent, tenant: Tenant) -> str:
    """OpenID Connect Core §3.1.2.1: an answer for anybody else would be wrong."""
    if "id_token_hint" not in asked:
        return ""
    member = person_of_id_token(asked["id_token_hint"], client, tenant)
    return str(member.id) if member is not None else "nobody"


def _short(asked: Parameters, name: str) -> str:
    value = asked.get(name, "")
    if len(value) > 255:
        raise InvalidRequest(f"The parameter {name} is too long.", reason="parameter_too_long")
    return value


def _thumbprint(asked: Parameters) -> str:
    """RFC 9449 §10: a SHA-256 thumbprint (RFC 7638), so 43 characters of base64url."""
    value = asked.get("dpop_jkt", "")
    if value and not _JKT.match(value):
        raise InvalidRequest("dpop_jkt is no SHA-256 thumbprint of a key.", reason="dpop_jkt")
    return value


def _max_age(asked: Parameters) -> int | None:
    value = asked.get("max_age")
    if value is None:
        return None
    if not value.isascii() or not value.isdigit() or len(value) > 9:
        raise InvalidRequest("max_age is a number of seconds.", reason="max_age")
    return int(value)
