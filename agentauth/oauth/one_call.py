"""The question about one concrete call (RFC 9396), and its answer: this call may be made once, and nothing else."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.utils.timezone import now

from agentauth.agents.models import Agent, WrongState
from agentauth.grants.approvals import LIFETIME, give_at_once
from agentauth.grants.arguments import shown, visible
from agentauth.grants.granting import NotGrantable, give, live_grant, offerable
from agentauth.grants.models import Grant, Permission
from agentauth.oauth.authorization_details import find_call
from agentauth.oauth.authorization_request import AuthorizationRequest
from agentauth.oauth.errors import InvalidRequest
from agentauth.oauth.self_registration import became_another
from agentauth.resources.models import Resource, Scope
from tenants.models import Member

_PARTS = {"path": 0, "query": 1, "body": 2}
_LONGEST = 600  # characters of one argument on the page; what is allowed is bound to all of it


@dataclass(frozen=True, slots=True)
class Argument:
    """One value of the call: in words, and where exactly it stands. Hostile text, all of it."""

    name: str
    at: str
    value: str


@dataclass(frozen=True, slots=True)
class CallAsked:
    """The call as a person reads it."""

    scope: Scope
    operation: str
    arguments: list[Argument]
    hash_start: str
    minutes: int
    was_never: bool  # so far the person has said never to such calls
    goes_anyway: bool  # such calls are always allowed


def one_call(asked: AuthorizationRequest, resource: Resource, grant: Grant | None) -> CallAsked | None:
    """None where the request is not about one call. Raises InvalidRequest. In the tenant's transaction."""
    if not asked.authorization_details:
        return None
    detail = asked.authorization_details[0]
    call = find_call(detail, resource)
    if call is None or call.scope.name not in asked.scope:
        raise InvalidRequest("This call can no longer be made.", reason="operation_changed")
    mode = _mode(grant, call.scope)
    return CallAsked(
        scope=call.scope,
        operation=call.operation.key,
        arguments=list(_arguments(call.arguments, parted=resource.kind == Resource.Kind.REST)),
        hash_start=" ".join(call.args_hash[at : at + 4] for at in range(0, 12, 4)),
        minutes=int(LIFETIME.total_seconds()) // 60,
        was_never=mode == Permission.Mode.NEVER,
        goes_anyway=mode == Permission.Mode.ALWAYS,
    )


def allow_one_call(asked: AuthorizationRequest, *, client: Agent, resource: Resource, member: Member, ip: str) -> Grant:
    """The grant under which exactly this call goes through, once. In the tenant's transaction.

    What the person has allowed already stays as it is. Where such calls were not allowed, they are from now on asked
    about one by one, under a grant that ends with this call's time if there was none. Raises InvalidRequest.
    """
    call = find_call(asked.authorization_details[0], resource)
    if call is None or call.scope.name not in asked.scope:
        raise InvalidRequest("This call can no longer be made.", reason="operation_changed")
    grant = live_grant(client, resource, member)
    mode = _mode(grant, call.scope)
    if mode == Permission.Mode.ALWAYS and grant is not None:
        return grant
    if grant is None or mode != Permission.Mode.ASK:
        grant = _grant_to_ask(grant, call.scope, client=client, resource=resource, member=member, ip=ip)
    try:
        give_at_once(
            grant, operation=call.operation.key, args=shown(call.arguments), args_hash=call.args_hash, by=member
        )
    except WrongState:
        raise InvalidRequest("This call was answered in the inbox just now.", reason="approval_answered") from None
    return grant


def _grant_to_ask(
    old: Grant | None, scope: Scope, *, client: Agent, resource: Resource, member: Member, ip: str
) -> Grant:
    kept: dict[Scope, str] = {}
    if old is not None:
        possible = {one.id for one in offerable(client, resource, member)}
        is_another = became_another(client, old)  # its person has not said yes to that one, but to this call
        for row in old.permissions.select_related("scope"):
            if row.mode == Permission.Mode.NEVER or row.scope_id in possible:
                kept[row.scope] = Permission.Mode.ASK.value if is_another and row.mode == "always" else row.mode
    try:
        return give(
            agent=client,
            resource=resource,
            member=member,
            by=member,
            permissions=kept | {scope: Permission.Mode.ASK.value},
            expires_at=old.expires_at if old else now() + LIFETIME,
            purpose=old.purpose if old else client.purpose,
            constraints=old.constraints if old else None,
            ip=ip,
        )
    except NotGrantable:
        raise InvalidRequest("This agent can no longer be allowed this call.", reason="not_grantable") from None


def _mode(grant: Grant | None, scope: Scope) -> str:
    if grant is None:
        return ""
    return grant.permissions.filter(scope=scope).values_list("mode", flat=True).first() or ""


def _arguments(arguments: dict[str, Any], *, parted: bool) -> Iterator[Argument]:
    """A line for each value; of a REST call, for each in its path, query and body."""
    for name, value in sorted(arguments.items(), key=lambda item: (_PARTS.get(item[0], 9), item[0])):
        if parted and isinstance(value, dict) and value:
            yield from (_argument(inner, f"{name}.{inner}", one) for inner, one in sorted(value.items()))
        else:
            yield _argument(name, name, value)


def _argument(name: str, at: str, value: Any) -> Argument:
    return Argument(_words(name), visible(at)[:200], _text(value))


def _words(key: str) -> str:
    words = visible(key).replace("_", " ").replace("-", " ").strip()[:80]
    return words[:1].upper() + words[1:] if words else "value"


def _text(value: Any) -> str:
    text = visible(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} … ({len(text):,} characters)"
