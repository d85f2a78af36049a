"""Where an admin answers for each agent first: the person who wants one is told to wait, the admins to look.

Nobody is sent back with an error before they have read why; the agent stands in the admins' list already.
"""

from django.core.mail import send_mail
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from agentauth.agents.models import Agent
from agentauth.keys.addresses import pages_url
from agentauth.oauth.authorization_request import Destination, error_address
from agentauth.oauth.errors import ApprovalFirst
from agentauth.oauth.pages import WITHOUT_SCRIPT
from agentauth.oauth.redirect_uris import place_behind
from audit.actions import Action
from audit.models import Event
from tenants.access import ADMINS
from tenants.models import Member, Tenant

REASON = "approval_first"


def told_to_wait(
    request: HttpRequest, tenant: Tenant, client: Agent, to: Destination, error: ApprovalFirst
) -> HttpResponse:
    """The page for the person who wanted it. In the tenant's transaction, after the refusal is on record.

    Without a redirect address (a device, an agent's own question) there is nothing to go back to.
    """
    tell_admins(tenant, client)
    looking = admins(tenant)
    told = {
        "organisation": tenant,
        "client": client,
        "look": any(one.user_id == request.user.pk for one in looking),
        "admins": [one.name for one in looking[:3]],
        "back": error_address(to, tenant, error) if to.redirect_uri else "",
        "next_host": place_behind(to.redirect_uri),
    }
    page = render(request, "oauth/wait_for_admin.html", told, status=403)
    page["Content-Security-Policy"] = WITHOUT_SCRIPT
    page["Cache-Control"] = "no-store"
    return page


def admins(tenant: Tenant) -> list[Member]:
    found = Member.objects.filter(tenant=tenant, role__in=ADMINS, deactivated_at=None, user__is_active=True)
    return list(found.select_related("user").order_by("user__name"))


def tell_admins(tenant: Tenant, client: Agent) -> None:
    """By mail, the first time that somebody wants this agent; after that it stands in their list."""
    wanted = Event.objects.filter(
        tenant=tenant, agent_id=client.id, action=Action.AUTHORIZATION_REFUSED, reasons=[REASON]
    )
    if wanted[:2].count() > 1:
        return
    text = (
        f"“{client.name}” introduced itself to {tenant.name} and somebody wants to use it.\n\n"
        f"It can do nothing before an admin answers for it. Look at it, then approve or block it:\n"
        f"{pages_url(tenant.slug)}/agents/{client.id}/\n"
    )
    addresses = [one.user.email for one in admins(tenant)]
    subject = f"An app waits for approval at {tenant.name}"
    transaction.on_commit(lambda: [send_mail(subject, text, None, [one], fail_silently=True) for one in addresses])
