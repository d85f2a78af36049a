"""The fixed cast: Acme with Ada (owner), Matt (member), Cora (auditor); Globex with Gus, who sees nothing of Acme."""

from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from django.test import Client
from django.utils.timezone import now

from agentauth.agents.models import Agent
from agentauth.agents.registering import register_agent
from agentauth.grants.granting import give
from agentauth.grants.models import Grant
from agentauth.resources.ceilings import set_ceiling
from agentauth.resources.founding import found_tenant
from agentauth.resources.models import Operation, Resource, Scope
from audit.models import Event
from audit.record import Actor
from tenants.founding import join
from tenants.models import Member, Role, Tenant
from tenants.rls import in_tenant, set_tenant

CAST = Actor.task("tests.cast")
ROOMS = {
    "rooms:read": ("See rooms", "read", "GET /rooms"),
    "rooms:book": ("Book a room", "change", "POST /rooms/{room}/book"),
    "meeting:enter": ("Enter the meeting room", "change", "POST /rooms/meeting/enter"),
    "finance:enter": ("Enter the finance department", "dangerous", "POST /rooms/finance/enter"),
}


@dataclass
class House:
    """One tenant with its people, its office and, once asked for, Matt's assistant."""

    tenant: Tenant
    owner: Member
    members: dict[str, Member] = field(default_factory=dict)
    office: Resource = field(init=False)  # Globex has none

    def scope(self, name: str) -> Scope:
        return Scope.objects.get(tenant=self.tenant, resource=self.office, name=name)

    def events(self, action: str | None = None) -> list[Event]:
        """What is on record, oldest first."""
        set_tenant(self.tenant.id)
        found = Event.objects.filter(tenant=self.tenant).order_by("id")
        return list(found.filter(action=action) if action else found)


def acme(slug: str = "acme") -> House:
    """Acme with Ada, Matt and Cora and the published resource `office`. Leaves the transaction inside Acme."""
    tenant, ada = found_tenant(
        slug=slug, name="Acme", owner_email=f"ada@{slug}.example", owner_name="Ada Lindqvist", actor=CAST
    )
    matt = join(tenant, email=f"matt@{slug}.example", name="Matt Okafor", role=Role.MEMBER, actor=CAST)
    cora = join(tenant, email=f"cora@{slug}.example", name="Cora Berg", role=Role.AUDITOR, actor=CAST)
    house = House(tenant, ada, {"ada": ada, "matt": matt, "cora": cora})
    house.office = office(house)
    return house


def globex(slug: str = "globex") -> House:
    """Globex with Gus. Leaves the transaction inside Globex."""
    tenant, gus = found_tenant(
        slug=slug, name="Globex", owner_email=f"gus@{slug}.example", owner_name="Gus Hahn", actor=CAST
    )
    return House(tenant, gus, {"gus": gus})


def office(house: House, *, upstream_url: str = "http://localhost:9", slug: str = "office") -> Resource:
    """A published REST resource with four rooms' worth of operations."""
    resource = Resource.objects.create(
        tenant=house.tenant,
        slug=slug,
        name="Office",
        kind=Resource.Kind.REST,
        state=Resource.State.PUBLISHED,
        published_at=now(),
        upstream_url=upstream_url,
        created_by=house.owner,
    )
    for name, (words, risk, key) in ROOMS.items():
        scope = Scope.objects.create(tenant=house.tenant, resource=resource, name=name, words=words, risk=risk)
        method, path = key.split(" ", 1)
        Operation.objects.create(
            tenant=house.tenant, resource=resource, key=key, method=method, path=path, summary=words, scope=scope
        )
    return resource


def assistant(house: House, **changes: object) -> Agent:
    """Matt's assistant, who may ever be granted everything at the office."""
    matt = house.members["matt"]
    fields: dict[str, object] = {
        "name": "Matt's assistant",
        "purpose": "Books and enters rooms for Matt's meetings",
        "kind": Agent.Kind.DELEGATED,
        "auth_method": "client_secret_basic",
        "redirect_uris": ["https://assistant.example/cb"],
    }
    agent = register_agent(house.tenant, by=house.owner, owner=matt, **(fields | changes))  # type: ignore[arg-type]
    set_ceiling(agent, list(Scope.objects.filter(tenant=house.tenant, resource=house.office)), by=house.owner)
    return agent


def matts_grant(house: House, agent: Agent, *, days: int = 30, **modes: str) -> Grant:
    """Matt's grant at the office: rooms:read and meeting:enter always, rooms:book on asking, finance never."""
    chosen = {
        "rooms:read": "always",
        "rooms:book": "ask",
        "meeting:enter": "always",
        "finance:enter": "never",
    } | {name.replace("__", ":"): mode for name, mode in modes.items()}
    return give(
        agent=agent,
        resource=house.office,
        member=house.members["matt"],
        by=house.members["matt"],
        permissions={house.scope(name): mode for name, mode in chosen.items()},
        expires_at=now() + timedelta(days=days),
        purpose="Rooms for Matt's meetings",
    )


def signed_in(member: Member) -> Client:
    """A browser in which this person has signed in."""
    client = Client()
    client.force_login(member.user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def events_of(tenant_id: UUID, action: str) -> list[Event]:
    """What was committed, oldest first; for tests against real processes."""
    with in_tenant(tenant_id):
        return list(Event.objects.filter(tenant_id=tenant_id, action=action).order_by("id"))
