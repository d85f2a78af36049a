"""How an agent gets in: the grant types that an admin lets it use, in plain words."""

from uuid import UUID

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_http_methods

from agentauth.agents.models import Agent
from agentauth.agents.ways import WAYS, checked_ways
from agentauth.console.agents import require_agent, to_agent
from tenants.access import ADMINS, TenantRequest, tenant_page


class WaysForm(forms.Form):
    grant_types = forms.MultipleChoiceField(
        label="How it gets in", choices=[(key, name) for key, (name, _) in WAYS.items()], required=False
    )


@require_http_methods(["GET", "POST"])
@tenant_page(roles=ADMINS)
def agent_ways(request: TenantRequest, agent_id: UUID) -> HttpResponse:
    agent = require_agent(request, agent_id)
    if agent.registration != Agent.Registration.ADMIN or agent.state == Agent.State.RETIRED:
        raise Http404
    form = WaysForm(request.POST if request.method == "POST" else None, initial={"grant_types": agent.grant_types})
    if request.method == "POST" and form.is_valid():
        try:
            agent.change(by=request.member, grant_types=checked_ways(agent, form.cleaned_data["grant_types"]))
        except ValidationError as wrong:
            for text in wrong.messages:
                form.add_error("grant_types", text)
        else:
            messages.success(request, "Saved. It counts for the next token that it asks for.")
            return to_agent(request, agent, "ways")
    chosen = form["grant_types"].value() or []
    ways = [(key, name, hint, key in chosen) for key, (name, hint) in WAYS.items()]
    page = {"form": form, "agent": agent, "ways": ways}
    return render(request, "console/agents/ways.html", page, status=422 if form.errors else 200)
