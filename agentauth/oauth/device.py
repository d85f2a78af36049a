"""The page where a person types in the code that a device shows them (RFC 8628 §3.3); then comes the usual question."""

from datetime import timedelta
from typing import cast

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.timezone import now
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from agentauth.agents.models import actor_of
from agentauth.oauth.device_codes import ALPHABET, enter, plain
from agentauth.oauth.door import caller
from agentauth.oauth.question import ask
from audit.actions import Action
from audit.models import Event
from audit.record import record
from tenants.access import TenantRequest, tenant_page
from tenants.models import Member

_WINDOW = timedelta(minutes=10)  # as long as a code is good
_PER_PERSON = 5  # wrong codes in that time
_PER_TENANT = 50
_WRONG, _TOO_MANY = "user_code_wrong", "user_code_attempts"


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@tenant_page
def device(request: HttpRequest) -> HttpResponse:
    here = cast(TenantRequest, request)
    if request.method != "POST":
        return _page(here, typed=request.GET.get("user_code", ""))
    typed = request.POST.get("user_code", "")
    if not plain(typed):
        return _page(here, typed=typed, problem="Type in the code that your device shows.", status=422)
    if _has_guessed_enough(here):
        _record_guess(here, _TOO_MANY, 429)
        return _page(here, typed=typed, problem="Too many codes were wrong. Try again in ten minutes.", status=429)
    row = enter(typed, here.member)
    if row is None:
        _record_guess(here, _WRONG, 422)
        return _page(here, typed=typed, problem="No device waits with this code. Look at it again.", status=422)
    return ask(here, row)  # always, whatever was allowed before: the device may be somebody else's (§5.4)


def _page(request: TenantRequest, *, typed: str = "", problem: str = "", status: int = 200) -> HttpResponse:
    code = plain(typed)
    is_one = len(code) == 8 and set(code) <= set(ALPHABET)
    # What a person typed stays as it is, to be corrected; an address fills in nothing but a code
    shown = f"{code[:4]}-{code[4:]}" if is_one else typed[:20] if problem else ""
    told = {"organisation": request.tenant, "user_code": shown, "problem": problem}
    return render(request, "oauth/device.html", told, status=status)


def _has_guessed_enough(request: TenantRequest) -> bool:
    """§5.1: guesses are counted in the record, per person and for the whole tenant."""
    Member.objects.select_for_update().get(tenant=request.tenant, pk=request.member.pk)  # one guess at a time
    wrong = Event.objects.filter(
        tenant=request.tenant,
        action=Action.AUTHORIZATION_REFUSED,
        at__gt=now() - _WINDOW,
        reasons__contains=[_WRONG],
    )
    own = wrong.filter(member_id=request.member.id)
    return own[:_PER_PERSON].count() >= _PER_PERSON or wrong[:_PER_TENANT].count() >= _PER_TENANT


def _record_guess(request: TenantRequest, reason: str, status: int) -> None:
    record(
        Action.AUTHORIZATION_REFUSED,
        tenant_id=request.tenant.id,
        actor=actor_of(request.member),
        member_id=request.member.id,
        decision="refuse",
        reasons=[reason],
        status=status,
        ip=caller(request),
        details={"error": "invalid_request" if reason == _WRONG else "slow_down"},
    )
