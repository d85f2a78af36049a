"""UserInfo endpoint (OpenID Connect Core §5.3): who signed in, for the access token that came with that sign-in."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from agentauth.keys.addresses import issuer
from agentauth.oauth.door import PREFLIGHT, Answer, respond
from agentauth.oauth.models import AuthorizationCode, BackchannelRequest, DeviceRequest
from agentauth.oauth.own_token import read_own_token
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
    scheme, _, presented = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not presented:
        return _challenge(here, 401, "")  # RFC 6750 §3.1: no error code where nothing was presented
    with in_tenant(here.id):
        claims = read_own_token(here, presented.strip()) if len(presented) <= 8192 else None
        if claims is None:
            return _challenge(here, 401, "invalid_token")
        told = _told(here, claims)
    return respond(Answer(told), cors=True) if told else _challenge(here, 403, "insufficient_scope")


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


def _challenge(tenant: Tenant, status: int, error: str) -> HttpResponse:
    said = f'Bearer realm="{issuer(tenant)}"'
    if error:
        said += f', error="{error}"' + (', scope="openid"' if error == "insufficient_scope" else "")
    return respond(Answer({"error": error} if error else None, status, {"WWW-Authenticate": said}), cors=True)
