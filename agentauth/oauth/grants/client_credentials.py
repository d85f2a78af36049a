"""The client credentials grant (OAuth 2.1 §4.2): an agent for itself, under what an admin granted it."""

from uuid import UUID

from agentauth.agents.models import Agent
from agentauth.grants.granting import live_grant
from agentauth.oauth.authorization_request import PROTOCOL_SCOPES
from agentauth.oauth.errors import InvalidScope, UnauthorizedClient
from agentauth.oauth.grants.authority import Authority
from agentauth.oauth.parameters import Parameters, scope_names
from agentauth.oauth.target import find_target, granted_to_itself


def prove(asked: Parameters, client: Agent) -> Authority:
    if client.token_endpoint_auth_method == "none":  # §4.2: MUST only be used by confidential clients
        raise UnauthorizedClient("A public client has no credentials to show.", reason="public_client")
    named = scope_names(asked.get("scope", ""))
    only = granted_to_itself(client) if not asked.resource else None
    resource = only or find_target(client.tenant, asked.resource, named, client)
    known = {*PROTOCOL_SCOPES, *resource.scopes.values_list("name", flat=True)}
    if not set(named) <= known:
        raise InvalidScope("A scope that was asked for does not exist at this resource.", reason="unknown_scope")
    grant = live_grant(client, resource, None)
    if grant is None:
        raise UnauthorizedClient("No admin has granted this agent anything there for itself.", reason="no_grant")
    names = grant.permissions.exclude(mode="never").values_list("scope__name", flat=True)

    def spend(jti: UUID) -> None:
        """Nothing is used up: the client proves itself anew each time."""

    # A client without a person asks for all that the resource's challenge names (MCP, Scope Selection Strategy)
    return Authority(grant=grant, scope=tuple(names), spend=spend, gives_part=True)
