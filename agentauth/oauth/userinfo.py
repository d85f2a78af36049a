"""UserInfo endpoint (OpenID Connect Core §5.3): who signed in, for the access token that came with that sign-in."""

from typing import Any

from agentauth.agents.models import Agent
from agentauth.keys.addresses import issuer
from agentauth.oauth.door import Answer, Call, oauth_endpoint, record_refusal
from agentauth.oauth.errors import InsufficientScope, InvalidDPoPProof, InvalidToken, OAuthError, UseDPoPNonce
from agentauth.oauth.models import AuthorizationCode, BackchannelRequest, DeviceRequest
from agentauth.oauth.own_token import read_own_token
from agentauth.oauth.possession import WrongScheme, challenge, require_holder
from agentauth.policy.decision import Reason
from audit.actions import Action
from tenants.models import Member, Tenant
from tenants.rls import in_tenant


@oauth_endpoint(refused=Action.AUTHORIZATION_REFUSED, methods=("GET", "HEAD", "POST"))
def userinfo(call: Call) -> Answer:
    """GET or POST with the token in the header (§5.3.1); never from a cookie, so any page may call it."""
    scheme, _, presented = call.authorization.partition(" ")
    presented, is_dpop = presented.strip(), scheme.lower() == "dpop"
    if scheme.lower() not in ("bearer", "dpop") or not presented:
        # RFC 6750 §3.1: no error code where nothing was presented; RFC 9449 §7.2: either scheme will do
        both = f"{_bearer(call.tenant)}, {challenge()}"
        return Answer(None, 401, {"WWW-Authenticate": both})
    try:
        with in_tenant(call.tenant.id):
            told = _told(call.tenant, _claims(call, presented, is_dpop=is_dpop))
        if not told:
            raise InsufficientScope("This token is of no sign-in that asked for openid.")
    except (InvalidToken, InsufficientScope, InvalidDPoPProof, UseDPoPNonce) as wrong:
        return _refused(call, wrong, is_dpop=is_dpop)
    return Answer(told)


def _claims(call: Call, presented: str, *, is_dpop: bool) -> dict[str, Any]:
    """Of a token that counts now, from who may use it. In the tenant's transaction."""
    claims = read_own_token(call.tenant, presented)
    if claims is None:
        raise InvalidToken("The access token is not valid here.", reason="access_token_void")
    call.client = Agent.objects.filter(tenant=call.tenant, client_id=claims["client_id"]).first()
    url = f"{issuer(call.tenant)}/oauth/userinfo"
    try:
        require_holder(call.tenant, claims, presented, is_dpop=is_dpop, proof=call.dpop, method=call.method, url=url)
    except WrongScheme as wrong:
        is_bound = wrong.reason == Reason.PROOF_MISSING
        raise InvalidToken(wrong.reason.words, reason="proof_missing" if is_bound else "token_not_bound") from None
    return claims


def _told(tenant: Tenant, claims: dict[str, Any]) -> dict[str, str]:
    """By what the sign-in asked for (§5.4); nothing for a token of no sign-in. A refreshed one is for its resource."""
    came_of = {"tenant": tenant, "access_jti": claims["jti"], "member_id": claims["sub"]}
    names: list[str] = []
    for kind in (AuthorizationCode, DeviceRequest, BackchannelRequest):
        names += (kind.objects.filter(**came_of).values_list("protocol_scope", flat=True).first() or "").split()
    member = Member.objects.select_related("user").filter(tenant=tenant, id=claims["sub"]).first()
    if "openid" not in names or member is None or not member.is_active:
        return {}
    told = {"sub": str(member.id)}  # §5.3.2: the same as in the id token
    if "profile" in names:
        told["name"] = member.name
    if "email" in names:
        told["email"] = member.user.email
    return told


def _refused(call: Call, wrong: OAuthError, *, is_dpop: bool) -> Answer:
    """In the scheme that was used (RFC 6750 §3, RFC 9449 §7.1)."""
    status = 403 if isinstance(wrong, InsufficientScope) else 401
    if wrong.on_record:
        with in_tenant(call.tenant.id):
            record_refusal(call, wrong, Action.AUTHORIZATION_REFUSED, status=status)
    plain = f'{_bearer(call.tenant)}, error="{wrong.code}"'
    said = challenge(wrong.code, wrong.description) if is_dpop else plain
    said += ', scope="openid"' if status == 403 else ""
    return Answer(wrong.document(), status, {"WWW-Authenticate": said})


def _bearer(tenant: Tenant) -> str:
    return f'Bearer realm="{issuer(tenant)}"'
