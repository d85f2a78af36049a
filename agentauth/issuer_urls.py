"""The map of a host that is one tenant's issuer: the issuer, the sign-in that it needs, and the way to all else."""

from django.conf import settings
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import URLPattern, URLResolver, path

from agentauth.api import health
from agentauth.console.urls import doors
from agentauth.keys.addresses import pages_url
from agentauth.oauth.urls import at_own_host


def to_pages(request: HttpRequest, tenant: str, rest: str = "") -> HttpResponseRedirect:
    """The organisation's pages are at the installation's host; its session there is another one."""
    return HttpResponseRedirect(f"{pages_url(tenant)}/{rest}")


def to_reference(request: HttpRequest) -> HttpResponseRedirect:
    return HttpResponseRedirect(f"{settings.KNOBS.base_url}/api/v1/docs/")


urlpatterns: list[URLPattern | URLResolver] = [
    *at_own_host,
    path("<here:tenant>", to_pages, name="start"),
    path("t/<slug:tenant>/", to_pages, name="home"),
    path("t/<slug:tenant>/my/agents/", to_pages, {"rest": "my/agents/"}, name="my_agents"),
    path("api/v1/docs/", to_reference),  # every page's foot names it
    path("livez", health.livez),
    path("readyz", health.readyz),
    *doors,
]

handler500 = "agentauth.console.errors.broken"
