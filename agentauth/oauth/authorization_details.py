"""Rich authorization requests (RFC 9396): a client asks for one concrete call, with its arguments, and nothing else.

    [{"type": "operation", "locations": ["<the resource's URL>"], "actions": ["POST /rooms/{room}/book"],
      "arguments": {"path": {"room": "blue"}, "body": {"from": "10:00"}}}]

`actions` holds the operation as the resource is described here: method and path template, or a tool's name. `arguments`
are {"path", "query", "body"} of a REST call, each left out where there is none, or the arguments of a tool.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentauth.agents.models import Agent
from agentauth.grants.arguments import BadJSON, canonical, hash_of, read_json
from agentauth.grants.granting import offerable
from agentauth.oauth.errors import InvalidAuthorizationDetails, InvalidScope, InvalidTarget
from agentauth.oauth.target import audience, named
from agentauth.resources.models import Operation, Resource, Scope
from tenants.models import Tenant

TYPE = "operation"
TYPES = (TYPE,)
LONGEST = 8192  # characters, and bytes of the arguments in their one spelling
_FIELDS = {"type", "locations", "actions", "arguments"}
_REST_ARGUMENTS = {"path", "query", "body"}
_PLACEHOLDER = re.compile(r"\{([^{}/]+)\}")
_INEXACT = 1e16  # from here on a database keeps a float as an integer, and the hash would be of something else

Details = tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class OneCall:
    """The call that details are about, as it stands in the tenant's list of operations now."""

    operation: Operation
    scope: Scope
    arguments: dict[str, Any]

    @property
    def args_hash(self) -> str:
        return hash_of(self.arguments)


def read_details(text: str, client: Agent, tenant: Tenant) -> Details:
    """What was asked for, complete and in one spelling; () where `text` is empty. In the tenant's transaction.

    Raises InvalidAuthorizationDetails (§5) for whatever this server would not understand, or could never allow.
    """
    if not text:
        return ()
    asked = _parsed(text)
    resource = _location(asked, tenant)
    action = _only(asked, "actions")
    detail: dict[str, Any] = {"type": TYPE, "locations": [audience(tenant, resource)], "actions": [action]}
    detail["arguments"] = _arguments(asked.get("arguments", {}))
    call = find_call(detail, resource)
    if call is None:
        raise InvalidAuthorizationDetails("actions: the resource has no such operation.", reason="unknown_operation")
    if resource.kind == Resource.Kind.REST:
        detail["arguments"] = _rest_arguments(detail["arguments"], call.operation.path)
    if call.scope.id not in {scope.id for scope in offerable(client, resource, None)}:
        raise InvalidAuthorizationDetails("This agent may never be granted that.", reason="above_ceiling")
    return (detail,)


def where(details: Details) -> str:
    """The URL of the resource that they are about; empty without any."""
    return str(details[0]["locations"][0]) if details else ""


def scope_for(details: Details, resource: Resource, scope: tuple[str, ...]) -> tuple[str, ...]:
    """The permissions to ask for: the one that the call takes, or what was named where there are no details (§3.1)."""
    if not details:
        return scope
    if details[0]["locations"] != [audience(resource.tenant, resource)]:
        raise InvalidTarget("resource and locations are two different places.", reason="two_targets")
    call = find_call(details[0], resource)
    needed = (call.scope.name,) if call else ()
    if scope not in ((), needed):
        raise InvalidScope("With authorization_details, leave out scope, or name the one it takes.", reason="two_asks")
    return needed


def find_call(detail: Mapping[str, Any], resource: Resource) -> OneCall | None:
    """None where the operation is gone, held for review, or covered by no scope. In the tenant's transaction."""
    rows = Operation.objects.select_related("scope").filter(tenant_id=resource.tenant_id, resource=resource)
    operation = rows.filter(key=detail["actions"][0], changed_at=None).first()
    if operation is None or operation.scope is None:
        return None
    return OneCall(operation, operation.scope, detail["arguments"])


def calls_of(details: Any, aud: str) -> frozenset[tuple[str, str]] | None:
    """What a token's claim lets it call at its audience, as operation and hash of the arguments; None for anything.

    Raises ValueError where the claim says anything that this version would not have put there.
    """
    if details is None:
        return None
    found = set()
    for one in details if isinstance(details, list) else [None]:
        if not isinstance(one, dict) or set(one) != _FIELDS or (one["type"], one["locations"]) != (TYPE, [aud]):
            raise ValueError("authorization_details")
        (action,) = one["actions"]
        found.add((str(action), hash_of(one["arguments"])))
    return frozenset(found)


def details_of(url: str, operation: str, arguments: Any) -> Details:
    """What to ask for to be allowed this call; () where it is too long to be asked for."""
    detail = {"type": TYPE, "locations": [url], "actions": [operation], "arguments": arguments or {}}
    return (detail,) if len(canonical([detail])) <= LONGEST else ()


def narrowed(granted: Sequence[Mapping[str, Any]], asked: Details) -> Details:
    """What of `granted` was asked for (§6): all of it if nothing was said, never anything else."""
    if not asked:
        return tuple(dict(one) for one in granted)
    allowed = {canonical(one) for one in granted}
    if granted and not all(canonical(one) in allowed for one in asked):
        raise InvalidAuthorizationDetails("More was asked for than was granted.", reason="details_grow")
    return asked


def _parsed(text: str) -> dict[str, Any]:
    if len(text) > LONGEST:
        raise InvalidAuthorizationDetails("authorization_details is too long.", reason="details_too_long")
    try:
        value = read_json(text.encode("utf-8", "surrogatepass"))
    except BadJSON:
        raise _malformed("authorization_details is not JSON that has one reading.") from None
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise _malformed("authorization_details is an array of objects.")
    if len(value) != 1:
        raise InvalidAuthorizationDetails("Ask for one call at a time.", reason="details_not_one")
    one: dict[str, Any] = value[0]
    if one.get("type") not in TYPES:
        raise InvalidAuthorizationDetails("type: only operation is known here.", reason="unknown_type")
    if not set(one) <= _FIELDS:
        raise InvalidAuthorizationDetails(
            "An operation has type, locations, actions and arguments.", reason="unknown_field"
        )
    return one


def _only(asked: Mapping[str, Any], field: str) -> str:
    value = asked.get(field)
    if not isinstance(value, list) or len(value) != 1 or not isinstance(value[0], str) or not _keeps(value):
        raise _malformed(f"{field} is an array of one string.")
    return value[0]


def _location(asked: Mapping[str, Any], tenant: Tenant) -> Resource:
    url = _only(asked, "locations")
    try:
        return named(tenant, url)
    except InvalidTarget:
        raise InvalidAuthorizationDetails("locations: there is no such resource.", reason="unknown_location") from None


def _arguments(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _malformed("arguments is an object.")
    if not _keeps(value):
        raise _malformed("arguments has text or numbers that cannot be kept exactly.")
    if len(canonical(value)) > LONGEST:
        raise InvalidAuthorizationDetails("arguments are too long.", reason="details_too_long")
    return value


def _rest_arguments(value: dict[str, Any], path: str) -> dict[str, Any]:
    """As the gateway will see them; what could never be called is not asked about."""
    if not set(value) <= _REST_ARGUMENTS:
        raise InvalidAuthorizationDetails("arguments has path, query and body here.", reason="unknown_field")
    found = {name: part for name, part in value.items() if name == "body" or part != {}}
    in_path, in_query = found.get("path", {}), found.get("query", {})
    names = set(_PLACEHOLDER.findall(path))
    if not isinstance(in_path, dict) or set(in_path) != names or not all(_is_text(one) for one in in_path.values()):
        raise _malformed("arguments.path names each placeholder of the path, and nothing else.")
    if not isinstance(in_query, dict) or not all(_is_query(one) for one in in_query.values()):
        raise _malformed("arguments.query holds strings, or arrays of at least two.")
    return found


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_query(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) > 1 and all(isinstance(one, str) for one in value)
    return isinstance(value, str)


def _keeps(value: Any) -> bool:
    """Does it come out of the database as it went in? No NUL, no float that turns into an integer or loses its sign."""
    level = [value]
    while level:
        one = level.pop()
        if isinstance(one, dict):
            level += [*one, *one.values()]
        elif isinstance(one, list):
            level += one
        elif isinstance(one, str):
            if "\0" in one:
                return False
        elif isinstance(one, float) and (abs(one) >= _INEXACT or (one == 0 and math.copysign(1, one) < 0)):
            return False
    return True


def _malformed(text: str) -> InvalidAuthorizationDetails:
    return InvalidAuthorizationDetails(text, reason="malformed_details")
