"""UserInfo endpoint (OpenID Connect Core §5.3): who signed in, for the access token that came with that sign-in."""

from dataclasses import replace
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from agentauth.keys.addresses import issuer
from agentauth.oauth.door import PREFLIGHT, Answer, respond
from agentauth.oauth.errors import InvalidDPoPProof, UseDPoPNonce
from agentauth.oauth.models import AuthorizationCode, BackchannelRequest, DeviceRequest
from agentauth.oauth.own_token import read_own_token
from agentauth.oauth.possession import WrongScheme, challenge, nonce_header, require_holder, uses_dpop
from tenants.access import find_tenant
from tenants.models import Member, Tenant
from tenants.rls import in_tenant


@csrf_exempt
def userinfo(request: HttpRequest, tenant: str) -> HttpResponse:
    """GET or POST with the token in the header (§5.3.1); never from a cookie, so any page may call it."""
    here = find_tenant(tenant)
    if here is None:
        return respond(Answer({"error": "not_found"}, 404), cors=True)
    if request.method == "OPTIONS":
        return HttpResponse(status=204, headers=PREFLIGHT)
    if request.method not in ("GET", "HEAD", "POST"):
        return respond(Answer({"error": "invalid_request"}, 405, {"Allow": "GET, HEAD, POST, OPTIONS"}), cors=True)
    answer = _answer(request, here)
    return respond(replace(answer, headers={**answer.headers, **nonce_header(request)}), cors=True)


def _answer(request: HttpRequest, here: Tenant) -> Answer:
    scheme, _, presented = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() not in ("bearer", "dpop") or not presented:
        return _challenge(here, "")  # RFC 6750 §3.1: no error code where nothing was presented
    presented, is_dpop = presented.strip(), uses_dpop(request)
    try:
        with in_tenant(here.id):
            claims = read_own_token(here, presented)
            if claims is None:
                return _challenge(here, "invalid_token", is_dpop=is_dpop)
            require_holder(here, claims, presented, request=request, url=f"{issuer(here)}/oauth/userinfo")
            told = _told(here, claims)
    except WrongScheme:
        return _challenge(here, "invalid_token", is_dpop=is_dpop)
    except (InvalidDPoPProof, UseDPoPNonce) as wrong:
        return _challenge(here, wrong.code, is_dpop=True, description=wrong.description)
    return Answer(told) if told else _challenge(here, "insufficient_scope", is_dpop=is_dpop)


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


def _challenge(tenant: Tenant, error: str, *, is_dpop: bool = False, description: str = "") -> Answer:
    """In the scheme that was used (RFC 6750 §3, RFC 9449 §7.1)."""
    if is_dpop:
        said = challenge(error, description)
    else:
        said = f'Bearer realm="{issuer(tenant)}"' + (f', error="{error}"' if error else "")
    status = 403 if error == "insufficient_scope" else 401
    said += ', scope="openid"' if status == 403 else ""
    return Answer({"error": error} if error else None, status, {"WWW-Authenticate": said})
