"""Whom an agent means to ask (OpenID Connect CIBA Core §7.1, §7.2): exactly one hint, of somebody who is here.

Who may name whom: whether an address belongs to somebody here is told to agents that this organisation answers for,
and counted, so that none of them reads the list of people out of us. An agent that nobody has approved can neither ask
a stranger nor find out who is here: it may only ask those who have signed in to it, by the id token that it got then.
"""

from datetime import timedelta
from typing import Any
from uuid import UUID

import jwt
from django.utils.timezone import now

from agentauth.agents.models import Agent
from agentauth.keys.addresses import issuer
from agentauth.keys.compact import is_compact
from agentauth.keys.signing import public_keys
from agentauth.oauth.errors import AskingDenied, InvalidRequest, TooManyRequests, UnknownUserId
from agentauth.oauth.parameters import Parameters
from audit.actions import Action
from audit.models import Event
from tenants.models import Member, Tenant

_HINTS = ("login_hint", "id_token_hint")
_WINDOW = timedelta(hours=1)
_MISSES = 20  # unknown people that one agent may name in that time
_UNKNOWN = "unknown_user_id"


def hinted_person(asked: Parameters, client: Agent, tenant: Tenant) -> Member:
    """The active member. In the tenant's transaction. Raises UnknownUserId (§13) and what else is wrong with a hint."""
    given = [name for name in _HINTS if name in asked]
    if len(given) != 1:  # §7.1: one and only one
        raise InvalidRequest("Send exactly one of login_hint and id_token_hint.", reason="not_one_hint")
    if given == ["id_token_hint"]:
        return _require_active(person_of_id_token(asked["id_token_hint"], client, tenant))
    if not client.is_approved:
        raise AskingDenied(
            "Until an admin approves this agent it may only ask by id_token_hint.", reason="asks_unapproved"
        )
    _hold_misses(client)
    return _require_active(_named(asked["login_hint"], tenant))


def _require_active(member: Member | None) -> Member:
    """Somebody who has left is as unknown as somebody who never was here."""
    if member is None or not member.is_active:
        raise UnknownUserId("Nobody here is known by this hint.", reason=_UNKNOWN)
    return member


def _named(hint: str, tenant: Tenant) -> Member | None:
    """By e-mail address, or by the `sub` of our tokens."""
    people = Member.objects.select_related("user").filter(tenant=tenant)
    if "@" in hint:
        return people.filter(user__email__iexact=hint[:254]).first()
    try:
        return people.filter(pk=UUID(hint)).first()
    except ValueError:
        return None


def person_of_id_token(token: str, client: Agent, tenant: Tenant) -> Member | None:
    """OpenID Connect Core §3.1.2.1: issued here, to this client; it may have expired. In the tenant's transaction.

    None if they are nobody here any more. Raises InvalidRequest for what is no such token.
    """
    try:
        if not is_compact(token):
            raise ValueError
        header: dict[str, Any] = jwt.get_unverified_header(token)
        jwk = public_keys(tenant.id).get(str(header.get("kid")))
        if header.get("typ") != "JWT" or header.get("alg") != "ES256" or jwk is None:
            raise ValueError
        claims = jwt.decode(
            token,
            jwt.PyJWK(jwk),
            algorithms=["ES256"],
            issuer=issuer(tenant),
            audience=client.client_id,
            options={"require": ["iss", "sub", "aud", "iat"], "verify_exp": False},
        )
        sub = UUID(str(claims["sub"]))
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
        raise InvalidRequest("The id_token_hint is no id token of this client.", reason="id_token_hint") from None
    return Member.objects.select_related("user").filter(tenant=tenant, pk=sub).first()


def _hold_misses(client: Agent) -> None:
    missed = Event.objects.filter(
        tenant_id=client.tenant_id,
        agent_id=client.id,
        action=Action.AUTHORIZATION_REFUSED,
        at__gt=now() - _WINDOW,
        reasons__contains=[_UNKNOWN],
    )
    if missed[:_MISSES].count() >= _MISSES:
        raise TooManyRequests("Too many people were named who are not here.", reason="unknown_people_named")
