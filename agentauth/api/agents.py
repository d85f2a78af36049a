"""Agents over REST: register, read, change, stop, let back in."""

from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from agentauth.agents.assurance import set_high_assurance
from agentauth.agents.models import Agent, Credential, WrongState
from agentauth.agents.registering import add_key, add_secret, register_agent, set_ping
from agentauth.agents.ways import checked_ways
from agentauth.api.agent_shapes import (
    AgentChange,
    AgentEndedShape,
    AgentMadeShape,
    AgentPageShape,
    AgentQuery,
    AgentWholeShape,
    Approve,
    NewAgent,
    Reason,
    show,
    show_whole,
)
from agentauth.api.door import TenantView
from agentauth.api.paging import page
from agentauth.api.problems import invalid, not_found
from agentauth.api.reading import Nothing, body, query
from agentauth.api.words import Answers, show_ended
from agentauth.grants.leaving import retire_agent
from agentauth.oauth.errors import InvalidRedirectUri
from agentauth.oauth.redirect_uris import require_registrable
from agentauth.resources.ceilings import set_ceiling
from agentauth.resources.models import Scope
from tenants.models import Member, Tenant

SECRET_METHODS = ("client_secret_basic", "client_secret_post")


class AgentView(TenantView):
    """One or all of the tenant's agents."""

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


class Agents(AgentView):
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
            add_key_named("public_jwk", agent, said["public_jwk"], by)
        elif said["auth_method"] in SECRET_METHODS:
            _, secret = add_secret(agent, by=by)
        made = {"agent": show_whole(agent)} | ({"secret": secret} if secret else {})
        here = f"{request._request.path}/{agent.id}"
        return Response(made, status=201, headers={"Location": here})


class OneAgent(AgentView):
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


class SuspendAgent(AgentView):
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


class LetAgentBack(AgentView):
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


class RetireAgent(AgentView):
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


class ApproveAgent(AgentView):
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


def add_key_named(field: str, agent: Agent, jwk: dict[str, Any], by: Member, **more: Any) -> Credential:
    """`add_key`, with its complaint under the name that the field has here."""
    try:
        return add_key(agent, jwk, by=by, **more)
    except ValidationError as error:
        said = error.message_dict if hasattr(error, "error_dict") else {"key": error.messages}
        if "key" not in said:
            raise
        raise invalid(field, " ".join(said["key"])) from None
