"""Agents over REST: register, read, change, stop, let back in, and their credentials."""

from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.utils.timezone import now
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from agentauth.agents.assurance import set_high_assurance
from agentauth.agents.models import RISKS, Agent, Credential, TrustedIssuer, WrongState
from agentauth.agents.registering import AUTH_METHODS, add_key, add_secret, add_workload, register_agent, set_ping
from agentauth.agents.ways import checked_ways
from agentauth.api.door import TenantView
from agentauth.api.paging import PageQuery, page
from agentauth.api.problems import invalid, not_found
from agentauth.api.reading import Nothing, Strict, Text, body, query
from agentauth.api.words import Answers, EndedShape, PersonShape, person, scope_names
from agentauth.grants.leaving import retire_agent
from agentauth.oauth.errors import InvalidRedirectUri
from agentauth.oauth.redirect_uris import require_registrable
from agentauth.resources.ceilings import set_ceiling
from agentauth.resources.models import Ceiling, Scope
from tenants.models import Member, Tenant

SECRET_METHODS = ("client_secret_basic", "client_secret_post")


class CeilingShape(Strict):
    """The most the agent may ever be granted at one resource."""

    resource = Text(max_length=39, help_text="The resource's slug.")
    scopes = serializers.ListField(child=Text(max_length=80), allow_empty=False, max_length=200)


class CredentialShape(Strict):
    """A way in which the agent proves itself. The secret itself is never shown again."""

    id = serializers.UUIDField()
    kind = serializers.ChoiceField(Credential.Kind.choices)
    hint = Text(help_text="The last four characters of a secret.")
    kid = Text(help_text="The id of a key.")
    trusted_issuer = serializers.UUIDField(allow_null=True, help_text="Of a workload: whose tokens let it in.")
    claims = serializers.DictField(child=Text(), help_text="Of a workload: what such a token must say.")
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    retired_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True)


class AgentShape(Strict):
    """Who may act."""

    id = serializers.UUIDField()
    name = Text()
    purpose = Text()
    owner = PersonShape(allow_null=True, help_text="Who answers for it.")
    kind = serializers.ChoiceField(Agent.Kind.choices)
    state = serializers.ChoiceField(Agent.State.choices)
    state_since = serializers.DateTimeField()
    state_reason = Text()
    number = serializers.IntegerField(help_text="The issue number on the badge.")
    registration = serializers.ChoiceField(Agent.Registration.choices)
    approved_at = serializers.DateTimeField(allow_null=True, help_text="null: seen, not approved.")
    created_at = serializers.DateTimeField()
    valid_until = serializers.DateTimeField(allow_null=True)
    last_seen_at = serializers.DateTimeField(allow_null=True)
    client_id = Text()
    redirect_uris = serializers.ListField(child=Text())
    ping_url = Text(help_text="Where it is told that its person has answered (OpenID CIBA). Empty: it asks for it.")
    grant_types = serializers.ListField(child=Text())
    auth_method = Text(help_text="token_endpoint_auth_method of RFC 7591.")
    high_assurance = serializers.BooleanField(help_text="Only with PAR, DPoP and private_key_jwt.")
    dpop_bound_access_tokens = serializers.BooleanField(help_text="Only tokens that are bound to a key (RFC 9449).")
    ceiling_risk = serializers.ChoiceField(RISKS)


class AgentWholeShape(AgentShape):
    """An agent with its ceiling and credentials."""

    ceiling = CeilingShape(many=True)
    credentials = CredentialShape(many=True)


class AgentPageShape(Strict):
    items = AgentShape(many=True)
    next = serializers.URLField(allow_null=True, help_text="The next page, or null at the end.")


class AgentQuery(PageQuery):
    state = serializers.ChoiceField(Agent.State.choices, required=False)
    owner = serializers.UUIDField(required=False, help_text="A member's id.")
    approved = serializers.BooleanField(required=False, allow_null=True, default=None)


class NewAgent(Strict):
    name = Text(max_length=80)
    purpose = Text(max_length=200, allow_blank=True, default="")
    kind = serializers.ChoiceField(Agent.Kind.choices)
    owner = serializers.UUIDField(
        required=False, help_text="The member who answers for it; the person of the token unless said."
    )
    auth_method = serializers.ChoiceField(AUTH_METHODS, default="client_secret_basic")
    public_jwk = serializers.DictField(required=False, help_text="For private_key_jwt: the public key.")
    high_assurance = serializers.BooleanField(
        default=False, help_text="For private_key_jwt: also PAR and DPoP, always."
    )
    dpop_bound_access_tokens = serializers.BooleanField(default=False, help_text="Only bound tokens (RFC 9449 §5.2).")
    redirect_uris = serializers.ListField(child=Text(max_length=500), max_length=20, default=list)
    ping_url = Text(max_length=500, allow_blank=True, default="", help_text="https; see OpenID CIBA, ping mode.")
    valid_until = serializers.DateTimeField(required=False, allow_null=True, default=None)
    ceiling = CeilingShape(many=True, default=list, help_text="Without one, nothing can be granted.")


class AgentMadeShape(Strict):
    agent = AgentWholeShape()
    secret = Text(required=False, help_text="The client secret, shown this once.")


class AgentChange(Strict):
    name = Text(max_length=80)
    purpose = Text(max_length=200, allow_blank=True)
    owner = serializers.UUIDField()
    redirect_uris = serializers.ListField(child=Text(max_length=500), max_length=20)
    ping_url = Text(max_length=500, allow_blank=True)
    valid_until = serializers.DateTimeField(allow_null=True)
    grant_types = serializers.ListField(
        child=Text(max_length=100), max_length=20, help_text="How it may ask for a token; an admin's agents only."
    )
    high_assurance = serializers.BooleanField()
    dpop_bound_access_tokens = serializers.BooleanField()
    ceiling = CeilingShape(many=True)


class Reason(Strict):
    reason = Text(max_length=200, allow_blank=True, default="")


class Approve(Strict):
    owner = serializers.UUIDField(help_text="The member who answers for it from now on.")
    ceiling_risk = serializers.ChoiceField(RISKS)


class AgentEndedShape(Strict):
    agent = AgentWholeShape()
    ended = EndedShape()


class NewCredential(Strict):
    kind = serializers.ChoiceField(Credential.Kind.choices)
    public_jwk = serializers.DictField(required=False, help_text="For a key.")
    trusted_issuer = serializers.UUIDField(required=False, help_text="For a workload.")
    claims = serializers.DictField(
        required=False, help_text="For a workload: exact values, or with a * at the end. One must single it out."
    )
    expires_at = serializers.DateTimeField(required=False, allow_null=True, default=None)


class CredentialMadeShape(Strict):
    credential = CredentialShape()
    secret = Text(required=False, help_text="The client secret, shown this once.")


class _Agents(TenantView):
    read_scope, write_scope = "agents:read", "agents:write"

    def rows(self) -> "QuerySet[Agent]":
        return Agent.objects.select_related("owner__user").filter(tenant=self.tenant)

    def find(self, agent: UUID, *, to_change: bool = False) -> Agent:
        found = self.rows().filter(id=agent).first()
        if found is None:
            raise not_found()
        if to_change and found.id == self.caller.agent.id:
            raise WrongState("An agent cannot widen or change its own badge.")
        return found


class Agents(_Agents):
    @extend_schema(
        operation_id="listAgents", summary="List agents", parameters=[AgentQuery], responses=Answers(AgentPageShape)
    )
    def get(self, request: Request) -> Response:
        asked = query(request, AgentQuery)
        rows = self.rows()
        if "state" in asked:
            rows = rows.filter(state=asked["state"])
        if "owner" in asked:
            rows = rows.filter(owner_id=asked["owner"])
        if asked["approved"] is not None:
            rows = rows.filter(approved_at__isnull=not asked["approved"])
        return page(request, rows, asked, show)

    @extend_schema(
        operation_id="registerAgent",
        summary="Register an agent",
        description="Answers with the agent and, unless it proves itself with a key, its secret: shown this once.",
        request=NewAgent,
        responses=Answers(AgentMadeShape, status=201),
        examples=[
            OpenApiExample(
                "An assistant",
                request_only=True,
                value={
                    "name": "Matt's assistant",
                    "purpose": "Books rooms for Matt",
                    "kind": "delegated",
                    "ceiling": [{"resource": "office", "scopes": ["rooms:read", "meeting:enter"]}],
                },
            )
        ],
    )
    def post(self, request: Request) -> Response:
        said = body(request, NewAgent)
        by = self.caller.person
        with_key = said["auth_method"] == "private_key_jwt"
        if with_key and "public_jwk" not in said:
            raise invalid("public_jwk", "private_key_jwt needs the public key.")
        if not with_key and "public_jwk" in said:
            raise invalid("public_jwk", f"{said['auth_method']} takes no key.")
        agent = register_agent(
            self.tenant,
            by=by,
            name=said["name"],
            purpose=said["purpose"],
            owner=_owner(self.tenant, said["owner"]) if "owner" in said else by,
            kind=said["kind"],
            auth_method=said["auth_method"],
            valid_until=said["valid_until"],
            redirect_uris=_registrable(said["redirect_uris"]),
            high_assurance=said["high_assurance"],
        )
        agent.change(by=by, dpop_bound_access_tokens=said["dpop_bound_access_tokens"])
        set_ping(agent, said["ping_url"], by=by)
        set_ceiling(agent, _scopes(self.tenant, said["ceiling"]), by=by)
        secret = None
        if with_key:
            _with_key_named("public_jwk", agent, said["public_jwk"], by)
        elif said["auth_method"] in SECRET_METHODS:
            _, secret = add_secret(agent, by=by)
        made = {"agent": show_whole(agent)} | ({"secret": secret} if secret else {})
        here = f"{request._request.path}/{agent.id}"
        return Response(made, status=201, headers={"Location": here})


class OneAgent(_Agents):
    @extend_schema(operation_id="getAgent", summary="Read an agent", responses=Answers(AgentWholeShape))
    def get(self, request: Request, agent: UUID) -> Response:
        query(request, Nothing)
        return Response(show_whole(self.find(agent)))

    @extend_schema(
        operation_id="changeAgent",
        summary="Change an agent",
        description="What is not named stays. `ceiling` replaces the whole ceiling.",
        request=AgentChange,
        responses=Answers(AgentWholeShape),
    )
    def patch(self, request: Request, agent: UUID) -> Response:
        said = body(request, AgentChange, partial=True)
        found = self.find(agent, to_change=True)
        by = self.caller.person
        if found.state == Agent.State.RETIRED:
            raise WrongState("This agent is retired: its badge does not change any more.")
        ceiling = said.pop("ceiling", None)
        if "owner" in said:
            said["owner"] = _owner(self.tenant, said["owner"])
        if "redirect_uris" in said:
            said["redirect_uris"] = _registrable(said["redirect_uris"])
        if "grant_types" in said:
            said["grant_types"] = checked_ways(found, said["grant_types"])
        ping_url = said.pop("ping_url", found.ping_url)
        if "high_assurance" in said:
            set_high_assurance(found, said.pop("high_assurance"), by=by)
        found.change(by=by, **said)
        set_ping(found, ping_url, by=by)
        if ceiling is not None:
            set_ceiling(found, _scopes(self.tenant, ceiling), by=by)
        return Response(show_whole(found))


class SuspendAgent(_Agents):
    @extend_schema(
        operation_id="suspendAgent",
        summary="Stop an agent at once",
        description="Its tokens are void within a second, its open streams end, new tokens are refused.",
        request=Reason,
        responses=Answers(AgentEndedShape),
    )
    def post(self, request: Request, agent: UUID) -> Response:
        said = body(request, Reason)
        found = self.find(agent)
        ended = found.suspend(by=self.caller.member or self.caller.actor, reason=said["reason"])
        return Response({"agent": show_whole(found), "ended": show_ended(ended)})


class LetAgentBack(_Agents):
    @extend_schema(
        operation_id="letAgentBack",
        summary="Let a suspended agent back in",
        request=Nothing,
        responses=Answers(AgentWholeShape),
    )
    def post(self, request: Request, agent: UUID) -> Response:
        body(request, Nothing)
        found = self.find(agent, to_change=True)
        found.let_back(by=self.caller.person)
        return Response(show_whole(found))


class RetireAgent(_Agents):
    @extend_schema(
        operation_id="retireAgent",
        summary="Retire an agent for good",
        request=Reason,
        responses=Answers(AgentEndedShape),
    )
    def post(self, request: Request, agent: UUID) -> Response:
        said = body(request, Reason)
        found = self.find(agent)
        ended = retire_agent(found, by=self.caller.member or self.caller.actor, reason=said["reason"])
        return Response({"agent": show_whole(found), "ended": show_ended(ended)})


class ApproveAgent(_Agents):
    @extend_schema(
        operation_id="approveAgent",
        summary="Answer for an agent that registered itself",
        request=Approve,
        responses=Answers(AgentWholeShape),
    )
    def post(self, request: Request, agent: UUID) -> Response:
        said = body(request, Approve)
        found = self.find(agent, to_change=True)
        if found.is_approved:
            raise WrongState("This agent is approved already.")
        owner = _owner(self.tenant, said["owner"])
        found.approve(by=self.caller.person, owner=owner, ceiling_risk=said["ceiling_risk"])
        return Response(show_whole(found))


class AgentCredentials(_Agents):
    @extend_schema(
        operation_id="addCredential",
        summary="Add a credential",
        description="Two may be live at once, so that a change costs no downtime.",
        request=NewCredential,
        responses=Answers(CredentialMadeShape, status=201),
    )
    def post(self, request: Request, agent: UUID) -> Response:
        said = body(request, NewCredential)
        found = self.find(agent, to_change=True)
        by, expires_at = self.caller.person, said["expires_at"]
        if found.state == Agent.State.RETIRED:
            raise WrongState("This agent is retired: it needs no credential any more.")
        self._require_no_borrowed_grants(found)
        if said["kind"] == Credential.Kind.WORKLOAD:
            return self._let_in(found, said, by)
        for name in ("trusted_issuer", "claims"):
            if name in said:
                raise invalid(name, "Only a workload takes this.")
        if said["kind"] == Credential.Kind.SECRET:
            if "public_jwk" in said:
                raise invalid("public_jwk", "A secret takes no key.")
            credential, secret = add_secret(found, by=by, expires_at=expires_at)
            return Response({"credential": show_credential(credential), "secret": secret}, status=201)
        if "public_jwk" not in said:
            raise invalid("public_jwk", "Give the public key.")
        credential = _with_key_named("public_jwk", found, said["public_jwk"], by, expires_at=expires_at)
        return Response({"credential": show_credential(credential)}, status=201)

    def _require_no_borrowed_grants(self, agent: Agent) -> None:
        """Delegation only narrows: with a way in of its own making the caller would have all that the other has."""
        if self.caller.member is None and agent.grants.filter(ended_at=None, expires_at__gt=now()).exists():
            raise WrongState("This agent has been granted something. An admin gives it a way in, not another agent.")

    def _let_in(self, agent: Agent, said: dict[str, Any], by: Member) -> Response:
        for name in ("trusted_issuer", "claims"):
            if name not in said:
                raise invalid(name, "A workload needs this.")
        if "public_jwk" in said:
            raise invalid("public_jwk", "A workload takes no key.")
        issuer = TrustedIssuer.objects.filter(tenant=self.tenant, id=said["trusted_issuer"]).first()
        if issuer is None:
            raise invalid("trusted_issuer", "There is no trusted issuer with this id.")
        credential = add_workload(agent, issuer, said["claims"], by=by, expires_at=said["expires_at"])
        return Response({"credential": show_credential(credential)}, status=201)


class RetireCredential(_Agents):
    @extend_schema(
        operation_id="retireCredential",
        summary="Retire a credential",
        request=Nothing,
        responses=Answers(CredentialShape),
    )
    def post(self, request: Request, agent: UUID, credential: UUID) -> Response:
        body(request, Nothing)
        found = self.find(agent).credentials.select_for_update(of=("self",)).filter(id=credential).first()
        if found is None:
            raise not_found()
        found.retire(by=self.caller.person)
        return Response(show_credential(found))


def show(agent: Agent) -> dict[str, Any]:
    return {
        "id": str(agent.id),
        "name": agent.name,
        "purpose": agent.purpose,
        "owner": person(agent.owner),
        "kind": agent.kind,
        "state": agent.state,
        "state_since": agent.state_since,
        "state_reason": agent.state_reason,
        "number": agent.number,
        "registration": agent.registration,
        "approved_at": agent.approved_at,
        "created_at": agent.created_at,
        "valid_until": agent.valid_until,
        "last_seen_at": agent.last_seen_at,
        "client_id": agent.client_id,
        "redirect_uris": agent.redirect_uris,
        "ping_url": agent.ping_url,
        "grant_types": agent.grant_types,
        "auth_method": agent.token_endpoint_auth_method,
        "high_assurance": agent.high_assurance,
        "dpop_bound_access_tokens": agent.dpop_bound_access_tokens,
        "ceiling_risk": agent.ceiling_risk,
    }


def show_whole(agent: Agent) -> dict[str, Any]:
    listed = Ceiling.objects.filter(tenant_id=agent.tenant_id, agent=agent).select_related("scope__resource")
    credentials = agent.credentials.order_by("-id")
    return show(agent) | {
        "ceiling": scope_names(row.scope for row in listed),
        "credentials": [show_credential(credential) for credential in credentials],
    }


def show_credential(credential: Credential) -> dict[str, Any]:
    names = ("kind", "hint", "kid", "created_at", "expires_at", "retired_at", "last_used_at")
    shown = {"id": str(credential.id)} | {name: getattr(credential, name) for name in names}
    return shown | {"trusted_issuer": credential.trusted_issuer_id, "claims": credential.claim_rules}


def show_ended(ended: Any) -> dict[str, Any]:
    return {"grants": ended.grants, "tokens": ended.tokens, "at": ended.at}


def _owner(tenant: Tenant, member: UUID) -> Member:
    found = Member.objects.select_related("user").filter(tenant=tenant, id=member).first()
    if found is None or not found.is_active:
        raise invalid("owner", "There is no active member with this id.")
    return found


def _scopes(tenant: Tenant, ceiling: list[dict[str, Any]]) -> list[Scope]:
    """The scopes that a ceiling names; each must exist. Two entries for one resource are one."""
    found: dict[UUID, Scope] = {}
    for index, entry in enumerate(ceiling):
        there = {scope.name: scope for scope in Scope.objects.filter(tenant=tenant, resource__slug=entry["resource"])}
        if not there:
            raise invalid(f"ceiling.{index}.resource", "There is no such resource, or it has no scopes.")
        for name in entry["scopes"]:
            if name not in there:
                known = ", ".join(sorted(there))
                raise invalid(f"ceiling.{index}.scopes", f"“{name}” is not one of this resource's: {known}.")
            found[there[name].id] = there[name]
    return list(found.values())


def _registrable(uris: list[str]) -> list[str]:
    for index, uri in enumerate(uris):
        try:
            require_registrable(uri)
        except InvalidRedirectUri as error:
            raise invalid(f"redirect_uris.{index}", str(error)) from None
    return uris


def _with_key_named(field: str, agent: Agent, jwk: dict[str, Any], by: Member, **more: Any) -> Credential:
    """`add_key`, with its complaint under the name that the field has here."""
    from django.core.exceptions import ValidationError

    try:
        return add_key(agent, jwk, by=by, **more)
    except ValidationError as error:
        said = error.message_dict if hasattr(error, "error_dict") else {"key": error.messages}
        if "key" not in said:
            raise
        raise invalid(field, " ".join(said["key"])) from None
