"""Where a tenant's tokens come from: its issuer, and the keys that sign them."""

from django import forms
from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.timezone import now
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from agentauth.agents.models import actor_of
from agentauth.console.templatetags.look import plural
from agentauth.keys import rotating
from agentauth.keys.addresses import issuer
from agentauth.keys.models import SigningKey
from tenants.access import ADMINS, TenantRequest, tenant_page
from tenants.revocation import live_tokens

PERIODS = (
    (30, "Every 30 days"),
    (90, "Every 90 days"),
    (180, "Every 180 days"),
    (365, "Every year"),
    (0, "Only when somebody asks for it"),
)


class Period(forms.Form):
    days = forms.TypedChoiceField(label="A new key", choices=PERIODS, coerce=int)


@require_GET
@tenant_page(roles=ADMINS)
def keys(request: TenantRequest) -> HttpResponse:
    return _page(request, Period(initial={"days": request.tenant.key_rotation_days}))


@require_POST
@tenant_page(roles=ADMINS)
def keys_rotate(request: TenantRequest) -> HttpResponse:
    rotating.rotate(request.tenant.id, by=actor_of(request.member))
    messages.success(request, "A new key signs from now on. Tokens of the former one stay good until they end.")
    return _back(request)


@require_POST
@tenant_page(roles=ADMINS)
def keys_period(request: TenantRequest) -> HttpResponse:
    form = Period(request.POST)
    if not form.is_valid():
        return _page(request, form, status=422)
    rotating.set_rotation(request.tenant, form.cleaned_data["days"], by=actor_of(request.member))
    messages.success(request, "Saved.")
    return _back(request)


@require_http_methods(["GET", "POST"])
@tenant_page(roles=ADMINS)
def keys_withdraw(request: TenantRequest) -> HttpResponse:
    """Asks first: every agent has to get a new token."""
    if request.method == "POST":
        ended = rotating.distrust(request.tenant.id, by=actor_of(request.member))
        what = plural(ended.tokens, "token,tokens")
        messages.success(request, f"Withdrawn; {what} ended. A new key signs from now on.")
        return _back(request)
    return render(request, "console/keys/withdraw.html", {"tokens": live_tokens(request.tenant.id)})


def _page(request: TenantRequest, form: Period, status: int = 200) -> HttpResponse:
    there = SigningKey.objects.filter(tenant=request.tenant).order_by("-signs_from")
    page = {
        "form": form,
        "periods": _periods(request.tenant.key_rotation_days),
        "issuer": issuer(request.tenant),
        "schedule": rotating.schedule(request.tenant),
        "keys": [key for key in there if key.unpublish_at is None or key.unpublish_at > now()],
    }
    return render(request, "console/keys/show.html", page, status=status)


def _periods(days: int) -> list[tuple[int, str]]:
    """Those on offer, and another one that was set elsewhere."""
    known = dict(PERIODS)
    return [*PERIODS] if days in known else [(days, f"Every {days} days"), *PERIODS]


def _back(request: TenantRequest) -> HttpResponse:
    return HttpResponseRedirect(reverse("keys", args=[request.tenant.slug]), status=303)
