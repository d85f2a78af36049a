"""Where somebody cannot sign in as well as was asked (RFC 9470 §5), but could: they read what to set up.

Nobody is sent back with an error before they have read why.
"""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from agentauth.agents.models import Agent
from agentauth.oauth.authorization_request import Destination, error_address
from agentauth.oauth.errors import SecondFactorMissing
from agentauth.oauth.pages import WITHOUT_SCRIPT
from agentauth.oauth.redirect_uris import place_behind
from tenants.models import Tenant


def told_to_set_up(
    request: HttpRequest, tenant: Tenant, client: Agent, to: Destination, error: SecondFactorMissing
) -> HttpResponse:
    """The page for the person, after the refusal is on record. The client hears of it by their click.

    Who has nowhere to go back to finds the same question again (a device's, an agent's own).
    """
    told = {"organisation": tenant, "client": client, "only_passkey": error.only_passkey}
    if to.redirect_uri:
        told |= {"back": error_address(to, tenant, error), "next_host": place_behind(to.redirect_uri)}
    else:
        told |= {"back": request.path, "next_host": "the question"}
    page = render(request, "oauth/set_up_first.html", told, status=403)
    page["Content-Security-Policy"] = WITHOUT_SCRIPT
    page["Cache-Control"] = "no-store"
    return page
