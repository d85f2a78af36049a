"""Workload identity of an agent: who runs at that place is this agent. Said as a sentence before it counts."""

from uuid import UUID

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_http_methods

from agentauth.agents.claim_rules import RuleRefused, checked, sentence
from agentauth.agents.models import Agent, TrustedIssuer, WrongState
from agentauth.agents.registering import add_workload
from agentauth.console.agents import require_agent, to_agent
from agentauth.console.trust_form import GITHUB, PRESETS, WorkloadForm
from agentauth.keys.addresses import issuer as our_issuer
from tenants.access import ADMINS, TenantRequest, tenant_page


@require_http_methods(["GET", "POST"])
@tenant_page(roles=ADMINS)
def workload_new(request: TenantRequest, agent_id: UUID) -> HttpResponse:
    """First what it would let in, then, said again, it does."""
    agent = require_agent(request, agent_id)
    preset = request.GET.get("at", "github")
    preset = preset if preset in PRESETS else "other"
    issuers = TrustedIssuer.objects.filter(tenant=request.tenant, removed_at=None, suspended_at=None)
    issuers = issuers.exclude(kind=TrustedIssuer.Kind.ENTERPRISE).order_by("name", "id")
    if preset == "github":
        issuers = issuers.filter(issuer=GITHUB)
    elif preset == "kubernetes":
        issuers = issuers.filter(kind=TrustedIssuer.Kind.WORKLOAD).exclude(issuer=GITHUB)
    form = PRESETS[preset][1](issuers, request.POST if request.method == "POST" else None)
    said = ""
    if request.method == "POST" and form.is_valid():
        said = _sentence(form)
        # Exactly what was shown, or it is shown again
        if said and request.POST.get("sure") == said and _let_in(request, agent, form):
            return to_agent(request, agent, "credentials")
    page = {
        "agent": agent,
        "form": form,
        "said": "" if form.errors else said,
        "preset": preset,
        "presets": [(key, name) for key, (name, _) in PRESETS.items()],
        "nobody": not issuers.exists(),
        "us": our_issuer(request.tenant),
    }
    return render(request, "console/agents/workload.html", page, status=422 if form.errors else 200)


def _sentence(form: WorkloadForm) -> str:
    try:
        return f"{form.cleaned_data['issuer'].name} where {sentence(checked(form.rules()))}"
    except RuleRefused as why:
        form.add_error(why.claim if why.claim in form.fields else None, str(why))
        return ""


def _let_in(request: TenantRequest, agent: Agent, form: WorkloadForm) -> bool:
    try:
        add_workload(agent, form.cleaned_data["issuer"], form.rules(), by=request.member)
    except (ValidationError, WrongState) as wrong:
        for text in wrong.messages if isinstance(wrong, ValidationError) else [str(wrong)]:
            form.add_error(None, text)
        return False
    messages.success(request, "From now on it is let in by where it runs. It needs no key and no secret for that.")
    return True
