"""The demo: Acme and Globex, their people, the office behind the gateway, and Matt's assistant. Never in production.

Everything is done with the verbs that the console uses, so all of it is on record. Seeding again changes nothing but
the addresses that moved with the ports.
"""

import os
import secrets
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.db import transaction
from django.utils.timezone import now

from agentauth.agents.models import Agent
from agentauth.agents.registering import add_secret, register_agent
from agentauth.embedded import paths
from agentauth.embedded.office import mcp
from agentauth.embedded.office.app import DOCUMENT
from agentauth.embedded.office.door import office_key
from agentauth.grants.granting import give
from agentauth.keys.addresses import issuer, resource_url
from agentauth.resources import mcp_tools
from agentauth.resources.ceilings import set_ceiling
from agentauth.resources.drafts import Draft
from agentauth.resources.founding import found_tenant
from agentauth.resources.importing import read_openapi, register_resource
from agentauth.resources.models import Resource, Scope
from agentauth.resources.publishing import ScopeWords, edit_scopes, publish
from agentauth.resources.upstream import set_address, set_credential
from audit.record import Actor
from tenants.founding import join
from tenants.models import Member, Role, SignInLink, Tenant, User
from tenants.rls import in_tenant

DEMO = Actor.task("demo")
OPERATOR = ("operator@agentauth.example", "Olga Lind")
SCOPES = {
    "rooms:read": ScopeWords("See rooms", "read"),
    "rooms:book": ScopeWords("Book a room", "change"),
    "meeting:enter": ScopeWords("Enter the meeting room", "change"),
    "finance:enter": ScopeWords("Enter the finance department", "dangerous"),
}
_REST = {
    "GET /rooms": "rooms:read",
    "GET /rooms/{room}": "rooms:read",
    "GET /journal": "rooms:read",
    "GET /stream": "rooms:read",
    "POST /rooms/{room}/book": "rooms:book",
    "POST /rooms/meeting/enter": "meeting:enter",
    "POST /rooms/finance/enter": "finance:enter",
}
_MCP = {
    "list_rooms": "rooms:read",
    "watch_rooms": "rooms:read",
    "book_room": "rooms:book",
    "enter_meeting_room": "meeting:enter",
    "enter_finance": "finance:enter",
}
_PEOPLE = (
    ("ada@acme.example", "Ada Lindqvist", "owner of Acme"),
    ("matt@acme.example", "Matt Okafor", "member of Acme; his assistant acts for him"),
    ("cora@acme.example", "Cora Berg", "auditor of Acme"),
    ("gus@globex.example", "Gus Hahn", "owner of Globex"),
    (*OPERATOR, "operator of this installation"),
)


def seed() -> None:
    """Have the demo's people and things there, and the office's address right."""
    if settings.PRODUCTION:
        raise RuntimeError("The demo's people have no place in production.")
    have = set(Tenant.objects.values_list("slug", flat=True))
    with transaction.atomic():
        if "acme" not in have:
            _found_acme()
        if "globex" not in have:
            _found_globex()
        if not User.objects.filter(email=OPERATOR[0]).exists():
            User.objects.create_user(OPERATOR[0], name=OPERATOR[1], operator_since=now())
        _set_passwords()
    for slug in ("acme", "globex"):
        _follow_addresses(Tenant.objects.get(slug=slug))


def cast_lines(base_url: str) -> list[str]:
    """Who is who, how to sign in, and how to call as an agent; with fresh one-time links."""
    lines = [f"  Password of everybody   {_password_file().read_text().strip()}", ""]
    for email, name, role in _PEOPLE:
        link = SignInLink.make(User.objects.get(email=email))
        lines += [f"  {name:<15} {email:<28} {role}", f"  {'':<15} {base_url}/sign-in/{link}"]
    porter = _credentials_file("night-porter")
    return [
        *lines,
        "",
        "  Each link signs in once, within 24 hours. An agent that runs by itself, from a shell:",
        f"    . '{porter}'",
        '    TOKEN=$(curl -s -u "$CLIENT_ID:$CLIENT_SECRET" -d grant_type=client_credentials -d resource=$RESOURCE \\',
        "      $ISSUER/oauth/token | python3 -c 'import json,sys; print(json.load(sys.stdin)[\"access_token\"])')",
        '    curl -H "Authorization: Bearer $TOKEN" $RESOURCE/rooms',
    ]


def _found_acme() -> None:
    tenant, ada = found_tenant(
        slug="acme", name="Acme", owner_email="ada@acme.example", owner_name="Ada Lindqvist", actor=DEMO
    )
    matt = join(tenant, email="matt@acme.example", name="Matt Okafor", role=Role.MEMBER, actor=DEMO)
    join(tenant, email="cora@acme.example", name="Cora Berg", role=Role.AUDITOR, actor=DEMO)
    office, office_mcp = _office(tenant, ada), _office_mcp(tenant, ada)

    assistant = _agent(
        tenant, ada, name="Matt's assistant", purpose="Finds, books and enters rooms for Matt's meetings", owner=matt
    )
    set_ceiling(assistant, [*office.scopes.all(), *office_mcp.scopes.all()], by=ada)
    for resource in (office, office_mcp):
        _grant(
            assistant,
            resource,
            matt,
            by=matt,
            modes={"rooms:read": "always", "rooms:book": "ask", "meeting:enter": "always", "finance:enter": "never"},
            purpose="Rooms for my meetings",
        )

    porter = _agent(
        tenant,
        ada,
        name="Night porter",
        purpose="Looks after the rooms when everybody has gone home",
        owner=ada,
        kind=Agent.Kind.AUTONOMOUS,
    )
    set_ceiling(porter, office.scopes.filter(name__in=["rooms:read", "rooms:book"]), by=ada)
    _grant(porter, office, None, by=ada, modes={"rooms:read": "always", "rooms:book": "always"}, purpose="Night rounds")

    planner = _agent(tenant, ada, name="Room planner", purpose="Plans the week's rooms with Ada", owner=ada)
    set_ceiling(planner, office_mcp.scopes.filter(name__in=["rooms:read", "rooms:book"]), by=ada)
    modes = {"rooms:read": "always", "rooms:book": "ask"}
    _grant(planner, office_mcp, ada, by=ada, modes=modes, purpose="Planning the week", days=7)


def _found_globex() -> None:
    tenant, gus = found_tenant(
        slug="globex", name="Globex", owner_email="gus@globex.example", owner_name="Gus Hahn", actor=DEMO
    )
    office = _office(tenant, gus)
    desk = _agent(
        tenant, gus, name="Front desk", purpose="Tells visitors which rooms are free", owner=gus, kind="autonomous"
    )
    set_ceiling(desk, office.scopes.filter(name="rooms:read"), by=gus)
    _grant(desk, office, None, by=gus, modes={"rooms:read": "always"}, purpose="Answering visitors")


def _office(tenant: Tenant, owner: Member) -> Resource:
    draft = read_openapi(DOCUMENT, address=f"{settings.KNOBS.office_url}/openapi.json")
    return _resource(tenant, owner, slug="office", name="Office", draft=draft, mapped=_REST)


def _office_mcp(tenant: Tenant, owner: Member) -> Resource:
    draft = mcp_tools.draft_of(f"{settings.KNOBS.office_url}/mcp", {"title": "Office"}, mcp.TOOLS)
    return _resource(tenant, owner, slug="office-mcp", name="Office for MCP clients", draft=draft, mapped=_MCP)


def _resource(
    tenant: Tenant, owner: Member, *, slug: str, name: str, draft: Draft, mapped: Mapping[str, str]
) -> Resource:
    resource = register_resource(
        tenant,
        by=owner,
        slug=slug,
        name=name,
        description="Rooms to see, to book and to enter.",
        kind=draft.kind,
        upstream_url=draft.upstream_url,
        draft=draft,
        source="demo",
    )
    set_credential(resource, by=owner, auth=Resource.UpstreamAuth.BEARER, secret=office_key())
    edit_scopes(resource, by=owner, scopes=SCOPES, operations=dict(mapped))
    publish(resource, by=owner)
    return resource


def _agent(
    tenant: Tenant, admin: Member, *, name: str, purpose: str, owner: Member, kind: str = Agent.Kind.DELEGATED
) -> Agent:
    own_program = kind == Agent.Kind.DELEGATED
    return register_agent(
        tenant,
        by=admin,
        name=name,
        purpose=purpose,
        owner=owner,
        kind=kind,
        auth_method="client_secret_basic",
        valid_until=now() + timedelta(days=365),
        redirect_uris=["http://127.0.0.1/callback"] if own_program else [],
    )


def _grant(
    agent: Agent,
    resource: Resource,
    member: Member | None,
    *,
    by: Member,
    modes: Mapping[str, str],
    purpose: str,
    days: int = 30,
) -> None:
    scopes: Sequence[Scope] = list(resource.scopes.filter(name__in=modes))
    give(
        agent=agent,
        resource=resource,
        member=member,
        by=by,
        permissions={scope: modes[scope.name] for scope in scopes},
        expires_at=now() + timedelta(days=days),
        purpose=purpose,
    )


def _follow_addresses(tenant: Tenant) -> None:
    """The office may listen elsewhere today, and so may we."""
    office_url = settings.KNOBS.office_url
    with in_tenant(tenant.id):
        for slug, path in (("office", ""), ("office-mcp", "/mcp")):
            resource = Resource.objects.filter(tenant=tenant, slug=slug, source="demo").first()
            if resource is not None and resource.state == Resource.State.PUBLISHED:
                set_address(resource, by=DEMO, upstream_url=f"{office_url}{path}")
        for agent in Agent.objects.filter(tenant=tenant, registration=Agent.Registration.ADMIN):
            name = _DEMO_AGENTS.get((tenant.slug, agent.name))
            if name is not None and agent.state == Agent.State.ACTIVE:
                _write_credentials(tenant, agent, name)


_DEMO_AGENTS = {
    ("acme", "Matt's assistant"): "matts-assistant",
    ("acme", "Night porter"): "night-porter",
    ("globex", "Front desk"): "front-desk",
}


def _write_credentials(tenant: Tenant, agent: Agent, name: str) -> None:
    """A file that a shell can read: who the agent is, its secret, and where to go. A lost secret is replaced."""
    file = _credentials_file(name)
    secret = _secret_in(file)
    if not secret:
        assert agent.owner is not None
        for credential in agent.credentials.filter(retired_at=None):
            credential.retire(by=agent.owner)
        _, secret = add_secret(agent, by=agent.owner)
    values = {
        "CLIENT_ID": agent.client_id,
        "CLIENT_SECRET": secret,
        "ISSUER": issuer(tenant),
        "RESOURCE": resource_url(tenant.slug, "office"),
        "MCP_RESOURCE": resource_url(tenant.slug, "office-mcp"),
    }
    _write_private(file, "".join(f"{key}='{value}'\n" for key, value in values.items()))


def _secret_in(file: Path) -> str:
    lines = file.read_text().splitlines() if file.exists() else []
    return next((line.partition("=")[2].strip("'") for line in lines if line.startswith("CLIENT_SECRET=")), "")


def _credentials_file(name: str) -> Path:
    return paths.private_dir(paths.home() / "demo") / f"{name}.env"


def _set_passwords() -> None:
    """One password for the demo's people: the operator's wish, or one made for this install. Changed ones stay."""
    file = _password_file()
    known = file.read_text().strip() if file.exists() else ""
    wanted = settings.KNOBS.demo_password or known or secrets.token_urlsafe(9)
    people = User.objects.filter(email__in=[email for email, *_ in _PEOPLE])
    to_set = [user.pk for user in people if wanted != known or not user.has_usable_password()]
    if to_set:  # the same password, so the same hash: it is made slowly
        people.filter(pk__in=to_set).update(password=make_password(wanted))
    if wanted != known:
        _write_private(file, wanted + "\n")


def _password_file() -> Path:
    return paths.secrets_dir() / "demo-password"


def _write_private(file: Path, text: str) -> None:
    fresh = file.with_name(f"{file.name}.{os.getpid()}")
    fresh.touch(mode=0o600)
    fresh.write_text(text)
    fresh.replace(file)
