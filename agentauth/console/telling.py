"""Events in people's words: "Matt's assistant entered the meeting room for Matt". Names are looked up in bulk."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.urls import NoReverseMatch, reverse

from agentauth.agents.models import Agent
from agentauth.console.verbs import infinitive, past
from agentauth.grants.models import Grant
from agentauth.policy.decision import Reason
from agentauth.resources.models import Operation, Resource, Scope
from audit.actions import Action
from audit.models import Event
from tenants.models import Member, Tenant

CALLS = (Action.CALL_ALLOWED, Action.CALL_REFUSED, Action.CALL_ASKED)

# What was done, to what, and what more there is to say. `{…}` are names from the event.
ACTS: dict[str, tuple[str, str, str]] = {
    Action.TENANT_CREATED: ("opened", "{tenant}", ""),
    Action.TENANT_CHANGED: ("changed the settings of", "{tenant}", ""),
    Action.MEMBER_INVITED: ("invited", "somebody", "as {role}"),
    Action.MEMBER_INVITATION_WITHDRAWN: ("withdrew an", "invitation", ""),
    Action.MEMBER_JOINED: ("welcomed", "{member}", "as {role}"),
    Action.MEMBER_ROLE_CHANGED: ("made", "{subject_member}", "{role}"),
    Action.MEMBER_DEACTIVATED: ("deactivated", "{subject_member}", ""),
    Action.MEMBER_SIGNED_IN: ("signed in", "", ""),
    Action.MEMBER_DISCLOSED: ("told", "{agent}", "who they are"),
    Action.KEY_CREATED: ("made a", "signing key", ""),
    Action.KEY_RETIRED: ("retired a", "signing key", ""),
    Action.KEY_DISTRUSTED: ("withdrew a", "signing key", "and every token of it"),
    Action.RING_ROTATED: ("sealed", "what is kept secret", "anew"),
    Action.AGENT_REGISTERED: ("registered", "{agent}", ""),
    Action.AGENT_SELF_REGISTERED: ("introduced itself", "", ""),
    Action.AGENT_CHANGED: ("changed", "{agent}", ""),
    Action.AGENT_APPROVED: ("approved", "{agent}", ""),
    Action.AGENT_SUSPENDED: ("suspended", "{agent}", "{reason}"),
    Action.AGENT_LET_BACK: ("let", "{agent}", "back in"),
    Action.AGENT_RETIRED: ("voided the badge of", "{agent}", "{reason}"),
    Action.CREDENTIAL_ADDED: ("gave a {kind} to", "{agent}", ""),
    Action.CREDENTIAL_RETIRED: ("retired a credential of", "{agent}", ""),
    Action.ISSUER_TRUSTED: ("trusts the issuer", "{name}", "from now on"),
    Action.ISSUER_SUSPENDED: ("trusts the issuer", "{name}", "no more, for now"),
    Action.ISSUER_LET_BACK: ("trusts the issuer", "{name}", "again"),
    Action.ISSUER_REMOVED: ("removed the issuer", "{name}", ""),
    Action.MEMBER_LINKED: ("knows", "{member}", "from now on"),
    Action.MEMBER_UNLINKED: ("had an issuer forget", "{member}", ""),
    Action.CATALOGUE_ENTRY_OFFERED: ("offered a", "resource", "to all"),
    Action.RESOURCE_REGISTERED: ("registered", "{resource}", ""),
    Action.RESOURCE_CHANGED: ("changed", "{resource}", ""),
    Action.RESOURCE_PUBLISHED: ("published", "{resource}", ""),
    Action.RESOURCE_RETIRED: ("retired", "{resource}", ""),
    Action.RESOURCE_TOOLS_CHANGED: ("noticed changed tools at", "{resource}", ""),
    Action.GRANT_ASKED: ("asked", "{member}", "for a badge at {resource}"),
    Action.RESOURCE_CREDENTIAL_ADDED: ("let", "{resource}", "check tokens itself"),
    Action.RESOURCE_CREDENTIAL_RETIRED: ("retired a secret of", "{resource}", ""),
    Action.GRANT_GIVEN: ("let", "{agent}", "into {resource}{for}"),
    Action.GRANT_REFUSED: ("said no to", "{agent}", "at {resource}"),
    Action.GRANT_NARROWED: ("narrowed the grant of", "{agent}", "at {resource}"),
    Action.GRANT_REVOKED: ("ended the grant of", "{agent}", "at {resource}{for}"),
    Action.GRANT_EXPIRED: ("closed the expired grant of", "{agent}", "at {resource}{for}"),
    Action.APPROVAL_ASKED: ("asked for", "{operation}", "at {resource}"),
    Action.APPROVAL_GIVEN: ("allowed", "{agent}", "{operation} once"),
    Action.APPROVAL_REFUSED: ("refused", "{agent}", "{operation}"),
    Action.APPROVAL_EXPIRED: ("let a question lapse:", "{operation}", "at {resource}"),
    Action.AUTHORIZATION_REFUSED: ("asked for access in vain", "", "{error}"),
    Action.TOKEN_ISSUED: ("got a", "token", "for {resource}{for}"),
    Action.TOKEN_REFUSED: ("was refused a", "token", "{error}"),
    Action.TOKEN_REVOKED: ("gave back a", "token", ""),
    Action.TOKEN_REUSED: ("used a", "spent token", "again, so all of its kind ended"),
    Action.CLIENT_REFUSED: ("could not prove who it is", "", "{error}"),
    Action.CLIENT_PING_FAILED: ("could not tell", "{agent}", "that its person has answered"),
    Action.EXPIRED_REMOVED: ("removed", "codes and tokens", "that had ended long before"),
    Action.CALL_LOST: ("got no recorded outcome for", "{operation}", "at {resource}"),
    Action.EXPORT_REQUESTED: ("asked for an", "evidence export", ""),
    Action.EXPORT_FINISHED: ("finished an", "evidence export", ""),
    Action.EXPORT_FAILED: ("could not finish an", "evidence export", ""),
    Action.EXPORT_CANCELLED: ("cancelled an", "evidence export", ""),
    Action.EXPORT_DOWNLOADED: ("downloaded an", "evidence export", ""),
    Action.RECORD_SEARCHED: ("searched", "the record", ""),
}
BAD = {
    Action.AUTHORIZATION_REFUSED, Action.TOKEN_REFUSED, Action.TOKEN_REUSED, Action.CLIENT_REFUSED,
    Action.APPROVAL_REFUSED, Action.GRANT_REFUSED, Action.EXPORT_FAILED,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """One event, told. `who verb what tail` is the sentence; `agent` is whose pin stands beside it, if anybody's."""

    event: Event
    at: datetime
    agent: Agent | None
    who: str
    who_href: str
    verb: str
    what: str
    tail: str
    verdict: str  # allow, ask, refuse, or empty where nothing was decided
    because: str
    href: str
    operation: str = ""
    for_whom: str = ""
    outcome: str = ""
    status: int | None = None
    took_us: int | None = None

    @property
    def words(self) -> str:
        return " ".join(part for part in (self.who, self.verb, self.what, self.tail) if part)

    @property
    def took(self) -> int | None:
        """Microseconds, for `{{ line.took|took }}`."""
        return self.took_us


def tell(tenant: Tenant, events: Iterable[Event], *, linked: bool = True) -> list[Line]:
    """The events as lines, in the order given. `linked=False` for readers who may not open the agents' pages.

    Asks for names six times at most, however many events there are. In the tenant's transaction.
    """
    rows = list(events)
    names = _Names(tenant, rows, linked)
    return [_call(names, row) if row.action in CALLS else _act(names, row) for row in rows]


class _Names:
    """Everybody and everything that these events name."""

    def __init__(self, tenant: Tenant, rows: list[Event], linked: bool) -> None:
        self.tenant, self.linked = tenant, linked
        acting = {kind: [_uuid(row.actor) for row in rows if row.actor_kind == kind] for kind in ("agent", "member")}
        changed = [_uuid(row.subject) for row in rows if row.subject_kind == "member"]
        agent_ids = _known([*(row.agent_id for row in rows), *acting["agent"]])
        member_ids = _known([*(row.member_id for row in rows), *acting["member"], *changed])
        resource_ids = _known(row.resource_id for row in rows)
        grant_ids = _known(row.grant_id for row in rows if row.action in CALLS)
        calls = _known(row.call_id for row in rows if row.action == Action.CALL_ALLOWED)
        members = Member.objects.filter(tenant=tenant, id__in=member_ids).select_related("user")
        ends = Event.objects.filter(
            tenant=tenant, call_id__in=calls, action__in=(Action.CALL_FINISHED, Action.CALL_LOST)
        )
        self.agents = _by_id(Agent.objects.filter(tenant=tenant, id__in=agent_ids))
        self.members = _by_id(members)
        self.resources = _by_id(Resource.objects.filter(tenant=tenant, id__in=resource_ids))
        self.grants = _by_id(Grant.objects.filter(tenant=tenant, id__in=grant_ids))
        self.scopes = _scope_words(tenant, rows, resource_ids) if resource_ids else {}
        self.ends = {end.call_id: end for end in ends}

    def member(self, member_id: UUID | None) -> str:
        return self.members[member_id].name if member_id in self.members else ""

    def first(self, member_id: UUID | None) -> str:
        return (self.member(member_id).split() or [""])[0]

    def agent(self, row: Event) -> Agent | None:
        return self.agents.get(row.agent_id) or (
            self.agents.get(_uuid(row.actor)) if row.actor_kind == "agent" else None
        )

    def resource(self, row: Event) -> str:
        return self.resources[row.resource_id].name if row.resource_id in self.resources else ""

    def doing(self, row: Event) -> str:
        """What was wanted, as its scope says: "Enter the meeting room"; else the operation's own key."""
        scope = row.details.get("scope", "")
        return self.scopes.get((row.resource_id, scope)) or self.scopes.get((row.resource_id, row.operation)) or ""

    def agent_href(self, agent: Agent | None) -> str:
        return _address("agent", self.tenant.slug, agent.id) if agent and self.linked else ""

    def actor(self, row: Event) -> str:
        if row.actor_kind == "member":
            return self.member(_uuid(row.actor)) or "Somebody who left"
        if row.actor_kind == "agent":
            agent = self.agents.get(_uuid(row.actor))
            return agent.name if agent else "An agent"
        known = {"operator": "The operator", "task": "AgentAuth", "anonymous": "Somebody unknown"}
        known |= {"issuer": "A trusted issuer"}
        return known.get(row.actor_kind, "Somebody")


def _call(names: _Names, row: Event) -> Line:
    agent, wanted = names.agent(row), names.doing(row)
    allowed = row.action == Action.CALL_ALLOWED
    lead = "" if allowed else "wants to" if row.action == Action.CALL_ASKED else "tried to"
    if wanted:
        verb, what = past(wanted) if allowed else infinitive(wanted)
    else:
        verb, what = ("called" if allowed else "call"), row.operation or "something unknown"
    for_whom = f"for {names.first(row.member_id)}" if row.member_id in names.members else ""
    end = names.ends.get(row.call_id)
    return Line(
        event=row,
        at=row.at,
        agent=agent,
        who=agent.name if agent else names.actor(row),
        who_href=names.agent_href(agent),
        verb=f"{lead} {verb}".strip(),
        what=what,
        tail=for_whom,
        verdict={"call.allowed": "allow", "call.asked": "ask"}.get(row.action, "refuse"),
        because=_because(names, row),
        href=_address("event", names.tenant.slug, row.id),
        operation=row.operation,
        for_whom=names.first(row.member_id),
        outcome=end.outcome or "lost" if end else "",
        status=end.status if end else row.status,
        took_us=end.latency_us if end else row.latency_us,
    )


def _because(names: _Names, row: Event) -> str:
    if row.action == Action.CALL_ASKED:
        return f"Waits for {names.first(row.member_id) or 'its owner'}"
    if row.action == Action.CALL_REFUSED:
        if "grant_says_never" in row.reasons and names.first(row.member_id):
            return f"{names.first(row.member_id)}’s grant says never"
        return " ".join(_reason(code) for code in row.reasons)
    grant = names.grants.get(row.grant_id) if row.grant_id else None
    return f"Grant of {grant.given_at.day} {grant.given_at:%b}" if grant else ""


def _reason(code: str) -> str:
    try:
        return Reason(code).words
    except ValueError:
        return code


def _act(names: _Names, row: Event) -> Line:
    agent = names.agent(row)
    verb, what, tail = ACTS.get(row.action, (row.action.replace(".", " "), "", ""))
    if row.action == Action.MEMBER_JOINED and row.actor == str(row.member_id):
        verb, what = "joined", "{tenant}"
    said = _Said(names, row, agent)
    who = names.actor(row)
    own = row.actor_kind == "agent" or row.action == Action.AGENT_SELF_REGISTERED
    return Line(
        event=row,
        at=row.at,
        agent=agent,
        who=agent.name if own and agent else who,
        who_href=names.agent_href(agent) if own else "",
        verb=verb.format_map(said),
        what=what.format_map(said),
        tail=tail.format_map(said).strip(),
        verdict="refuse" if row.action in BAD else "",
        because=" ".join(_reason(code) for code in row.reasons),
        href=_address("event", names.tenant.slug, row.id),
        operation=row.operation,
        outcome=row.outcome,
        status=row.status,
        took_us=row.latency_us,
    )


class _Said(dict[str, str]):
    """What a sentence may ask for by name."""

    def __init__(self, names: _Names, row: Event, agent: Agent | None) -> None:
        details: Mapping[str, Any] = row.details or {}
        for_whom = names.first(row.member_id)
        own = row.actor_kind == "member" and _uuid(row.actor) == row.member_id
        super().__init__(
            tenant=names.tenant.name,
            agent=agent.name if agent else "an agent",
            member=names.member(row.member_id) or "somebody",
            subject_member=names.member(_uuid(row.subject)) or names.member(row.member_id) or "somebody",
            resource=names.resource(row) or "a resource",
            operation=names.doing(row) or row.operation or "a call",
        )
        self["for"] = f" for {for_whom}" if for_whom and not own else ""
        self["reason"] = f"“{details['reason']}”" if details.get("reason") else ""
        for key in ("email", "role", "kind", "error", "name"):
            self[key] = str(details.get(key, ""))

    def __missing__(self, key: str) -> str:
        return ""


def _scope_words(tenant: Tenant, rows: list[Event], resource_ids: set[UUID]) -> dict[tuple[UUID | None, str], str]:
    """Words by (resource, scope name) and by (resource, operation key)."""
    wanted = {row.details.get("scope", "") for row in rows} - {""}
    keys = {row.operation for row in rows if row.operation and not row.details.get("scope")}
    found: dict[tuple[UUID | None, str], str] = {}
    scopes = Scope.objects.filter(tenant=tenant, resource_id__in=resource_ids, name__in=wanted)
    if wanted:
        found |= {(scope.resource_id, scope.name): scope.words for scope in scopes}
    operations = Operation.objects.filter(tenant=tenant, resource_id__in=resource_ids, key__in=keys)
    if keys:
        named = operations.exclude(scope=None).select_related("scope")
        found |= {(one.resource_id, one.key): one.scope.words for one in named if one.scope}
    return found


def _known(ids: Iterable[UUID | None]) -> set[UUID]:
    return {one for one in ids if one is not None}


def _by_id(rows: Iterable[Any]) -> dict[Any, Any]:
    return {row.id: row for row in rows}


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _address(name: str, *args: object) -> str:
    try:
        return reverse(name, args=args)
    except NoReverseMatch:
        return ""
