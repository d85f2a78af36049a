"""How well people must have signed in before riskier calls pass at a resource."""

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_http_methods

from agentauth.console.resources import require_own, to_resource
from agentauth.grants.models import SignInRule
from agentauth.grants.sign_in_rules import demand_sign_in, find_rule, lift_demand
from tenants.access import ADMINS, TenantRequest, tenant_page

_NEVER = "none"
_CALLS = (
    (_NEVER, "No call"),
    ("dangerous", "Dangerous calls"),
    ("change", "Calls that change something"),
    ("read", "Every call"),
)
_AGES = (("", "Any time"), ("300", "5 minutes"), ("900", "15 minutes"), ("3600", "An hour"), ("28800", "8 hours"))


class SignIn(forms.Form):
    from_risk = forms.ChoiceField(label="Which calls need it?", choices=_CALLS)
    acr = forms.ChoiceField(label="Signed in with", choices=SignInRule.Level.choices)
    max_age = forms.ChoiceField(label="Not longer ago than", choices=_AGES, required=False)

    def __init__(self, *args: Any, rule: SignInRule | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        age = str(rule.max_age) if rule and rule.max_age is not None else ""
        if age not in dict(_AGES):  # set through the API
            self.fields["max_age"].choices = [*_AGES, (age, f"{age} seconds")]  # type: ignore[attr-defined]  # a choice


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_page(roles=ADMINS)
def sign_in_rule(request: TenantRequest, slug: str) -> HttpResponse:
    found = require_own(request, slug)
    rule = find_rule(found)
    now_is = {"from_risk": rule.from_risk, "acr": rule.acr, "max_age": rule.max_age or ""} if rule else {}
    form = SignIn(request.POST or None, initial={"from_risk": _NEVER, "acr": "2fa", "max_age": ""} | now_is, rule=rule)
    if request.method == "POST" and form.is_valid():
        said = form.cleaned_data
        if said["from_risk"] == _NEVER:
            lift_demand(found, by=request.member)
            messages.success(request, "Any sign-in will do again.")
        else:
            age = int(said["max_age"]) if said["max_age"] else None
            demand_sign_in(found, from_risk=said["from_risk"], acr=said["acr"], max_age=age, by=request.member)
            messages.success(request, "Saved. It holds from the next call on.")
        return to_resource(request, found)
    page = {"form": form, "resource": found}
    return render(request, "console/resources/sign_in.html", page, status=422 if form.errors else 200)
