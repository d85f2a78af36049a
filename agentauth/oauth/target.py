"""Which resource a token is for (RFC 8707): named by its exact URL, or left out where only one is possible."""

from collections.abc import Collection
from urllib.parse import urlsplit

from django.utils.timezone import now

from agentauth.agents.models import Agent
from agentauth.grants.granting import offerable
from agentauth.keys.addresses import management_url, resource_url
from agentauth.oauth.errors import InvalidTarget
from agentauth.oauth.parameters import Parameters
from agentauth.resources.models import Resource
from tenants.models import Tenant


def audience(tenant: Tenant, resource: Resource) -> str:
    """The URL of a resource: its `aud` and the value of `resource`."""
    if resource.kind == Resource.Kind.MANAGEMENT:
        return management_url(tenant.slug)
    return resource_url(tenant.slug, resource.slug)


def find_target(tenant: Tenant, url: str, scope: Collection[str], client: Agent) -> Resource:
    """The published resource at `url`. Without one, the only resource that could be meant; never a free choice.

    In the tenant's transaction. Raises InvalidTarget (§2).
    """
    if url:
        return named(tenant, url)
    able = [
        resource
        for resource in Resource.objects.filter(tenant=tenant, state=Resource.State.PUBLISHED)
        if _could_mean(resource, scope, client)
    ]
    if len(able) != 1:
        raise InvalidTarget("Name the resource that the token is for.", reason="resource_missing")
    return able[0]


def one_target(asked: Parameters, client: Agent, otherwise: str) -> Resource:
    """`resource`, or `audience` with the same URL (RFC 8693 §2.1); without either, the one at `otherwise`."""
    wanted = {*asked.resources, *asked.audiences}
    if len(wanted) > 1:
        raise InvalidTarget("Ask for one resource at a time.")
    return named(client.tenant, wanted.pop() if wanted else otherwise)


def named(tenant: Tenant, url: str) -> Resource:
    """The published resource whose URL this is, byte by byte but for the case of scheme and host."""
    try:
        parts = urlsplit(url)
        plain = f"{parts.scheme.lower()}://{parts.netloc.lower()}{parts.path}"
    except ValueError:
        plain = ""
    if plain and len(plain) == len(url):
        published = Resource.objects.filter(tenant=tenant, state=Resource.State.PUBLISHED)
        if plain == management_url(tenant.slug):
            found = published.filter(kind=Resource.Kind.MANAGEMENT).first()
        else:
            found = published.filter(slug=plain.rpartition("/")[2]).exclude(kind=Resource.Kind.MANAGEMENT).first()
        if found is not None and audience(tenant, found) == plain:
            return found
    raise InvalidTarget("There is no such resource.", reason="unknown_resource")


def _could_mean(resource: Resource, scope: Collection[str], client: Agent) -> bool:
    """Our own API is meant only by its scopes' names; any other by what the client may ever be granted there."""
    if not scope and resource.kind == Resource.Kind.MANAGEMENT:
        return False
    names = {one.name for one in offerable(client, resource, None)}
    return bool(names) and set(scope) <= set(resource.scopes.values_list("name", flat=True))


def granted_to_itself(client: Agent) -> Resource | None:
    """The one resource at which an admin granted this agent something for itself; None unless it is exactly one."""
    grants = client.grants.filter(member=None, ended_at=None, expires_at__gt=now()).select_related("resource")[:2]
    return grants[0].resource if len(grants) == 1 else None
