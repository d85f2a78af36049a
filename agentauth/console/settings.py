"""What a tenant's admins decide for all of it."""

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from agentauth.agents.introducing import set_introductions, unapproved
from agentauth.keys.addresses import issuer
from tenants.access import ADMINS, TenantRequest, tenant_page

INTRODUCTIONS = (
    ("closed", "No", "Only what an admin registers can ask people for anything."),
    ("approval", "Yes, and an admin approves each first", "Until then it can do nothing. People are told to wait."),
    ("open", "Yes, at once, within the limit below", "Each person still says yes. It stands in your list meanwhile."),
)  # fmt: skip
CEILINGS = (
    ("read", "Read only", "It can look at what its person may see."),
    ("change", "Read and change", "It can also change things, as its person allows."),
    ("dangerous", "Everything, if a person agrees", "Also what cannot be undone."),
)


class Introductions(forms.Form):
    """May apps that nobody here registered introduce themselves?"""

    introductions = forms.ChoiceField(
        label="May apps introduce themselves?", choices=[(key, name) for key, name, _ in INTRODUCTIONS]
    )
    unapproved_ceiling = forms.ChoiceField(
        label="The most they may do before somebody answers for them",
        choices=[(key, name) for key, name, _ in CEILINGS],
    )


@require_http_methods(["GET", "POST"])
@tenant_page(roles=ADMINS)
def settings(request: TenantRequest) -> HttpResponse:
    form = Introductions(request.POST if request.method == "POST" else None, initial=_as_is(request))
    if request.method == "POST" and form.is_valid():
        chosen = form.cleaned_data["introductions"]
        set_introductions(
            request.tenant,
            by=request.member,
            open_registration=chosen != "closed",
            approval_first=chosen == "approval",
            unapproved_ceiling=form.cleaned_data["unapproved_ceiling"],
        )
        messages.success(request, "Saved. It counts from now on.")
        return HttpResponseRedirect(reverse("settings", args=[request.tenant.slug]), status=303)
    page = {
        "form": form,
        "introductions": INTRODUCTIONS,
        "ceilings": CEILINGS,
        "waiting": unapproved(request.tenant).count(),
        "issuer": issuer(request.tenant),
    }
    return render(request, "console/settings.html", page, status=422 if form.errors else 200)


def _as_is(request: TenantRequest) -> dict[str, Any]:
    tenant = request.tenant
    chosen = "closed" if not tenant.open_registration else "approval" if tenant.approval_first else "open"
    return {"introductions": chosen, "unapproved_ceiling": tenant.unapproved_ceiling}
