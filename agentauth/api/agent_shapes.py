"""How an agent and its credentials are written down over REST, and what may be said of them."""

from typing import Any

from rest_framework import serializers

from agentauth.agents.models import RISKS, Agent, Credential
from agentauth.agents.registering import AUTH_METHODS
from agentauth.api.paging import PageQuery
from agentauth.api.reading import Strict, Text
from agentauth.api.words import EndedShape, PersonShape, person, scope_names
from agentauth.resources.models import Ceiling


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
