"""High assurance of one agent: required or not, from its page."""

from uuid import UUID

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.views.decorators.http import require_POST

from agentauth.agents.assurance import set_high_assurance
from agentauth.agents.models import Agent
from agentauth.console.agents import require_agent, to_agent
from tenants.access import ADMINS, TenantRequest, tenant_page


@require_POST
@tenant_page(roles=ADMINS)
def agent_assure(request: TenantRequest, agent_id: UUID) -> HttpResponse:
    return _set(request, require_agent(request, agent_id), wanted=True)


@require_POST
@tenant_page(roles=ADMINS)
def agent_relax(request: TenantRequest, agent_id: UUID) -> HttpResponse:
    return _set(request, require_agent(request, agent_id), wanted=False)


def _set(request: TenantRequest, agent: Agent, *, wanted: bool) -> HttpResponse:
    try:
        set_high_assurance(agent, wanted, by=request.member)
    except ValidationError as wrong:
        messages.error(request, " ".join(wrong.messages))
    else:
        told = "must prove itself by its key at every step" if wanted else "may use any way of its registration again"
        messages.success(request, f"From its next request on, {agent.name} {told}.")
    return to_agent(request, agent, "assurance")
