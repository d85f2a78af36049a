"""Backchannel authentication endpoint (OpenID Connect CIBA Core §7): an agent asks its person, who has an inbox.

For confidential clients; told by poll or ping. Request objects, `login_hint_token` and user codes are not taken.
"""

import re

from agentauth.agents.models import Agent
from agentauth.grants.arguments import code_point, is_unseen
from agentauth.grants.granting import offerable
from agentauth.oauth.authorization_details import read_details
from agentauth.oauth.authorization_request import read_acr_values, read_scope
from agentauth.oauth.backchannel_requests import INTERVAL, keep
from agentauth.oauth.client_authentication import authenticate_client
from agentauth.oauth.door import Answer, Call, oauth_endpoint
from agentauth.oauth.errors import (
    InvalidBindingMessage,
    InvalidRequest,
    InvalidScope,
    UnauthorizedClient,
    UnmetAuthenticationRequirements,
)
from agentauth.oauth.grants.backchannel import GRANT_TYPE
from agentauth.oauth.hinted_person import hinted_person
from agentauth.oauth.parameters import Parameters, from_form
from agentauth.policy.conditions.sign_in import LEVELS
from audit.actions import Action
from tenants.rls import in_tenant

SECONDS = 600  # unless the client asks for another time, see `_seconds`
_SHORTEST, _LONGEST = 30, 86400
_MESSAGE = 100  # characters: it stands on a phone beside the same words on another screen
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*\Z")  # RFC 6750 §2.1
_UNSUPPORTED = {
    "request": "Signed requests are not supported. Send the parameters themselves.",  # §7.1.1
    "request_uri": "request_uri is not supported. Send the parameters themselves.",
    "login_hint_token": "login_hint_token is not supported. Send login_hint or id_token_hint.",
    "user_code": "user_code is not supported. Leave it out.",
}


@oauth_endpoint(refused=Action.AUTHORIZATION_REFUSED, cors=False)
def backchannel_authentication(call: Call) -> Answer:
    asked = from_form(call.body, call.content_type)
    client = authenticate_client(call, asked)
    if client.token_endpoint_auth_method == "none":  # §7.1: the client authenticates
        raise UnauthorizedClient("Only clients that prove who they are may ask a person.", reason="public_client")
    if GRANT_TYPE not in client.grant_types:
        raise UnauthorizedClient("This client is not registered to ask people.", reason="grant_not_registered")
    for name, why in _UNSUPPORTED.items():
        if name in asked:
            raise InvalidRequest(why, reason=f"{name}_unsupported")
    message, seconds, ping_token = _message(asked), _seconds(asked), _ping_token(asked, client)
    acr_values = _levels(asked)
    asked.require("scope")
    with in_tenant(call.tenant.id):
        details = read_details(asked.get("authorization_details", ""), client, call.tenant)
        resource, scope, protocol_scope = read_scope(asked, client, call.tenant)
        if "openid" not in protocol_scope:  # §7.1: REQUIRED
            raise InvalidScope("The scope must hold openid.", reason="openid_missing")
        member = hinted_person(asked, client, call.tenant)
        if not any(not scope or one.name in scope for one in offerable(client, resource, member)):
            raise InvalidScope(
                "This organisation allows this agent nothing of that.", reason="above_ceiling", member_id=member.id
            )
        auth_req_id = keep(
            client,
            resource,
            member,
            scope=scope,
            protocol_scope=protocol_scope,
            details=details,
            acr_values=acr_values,
            message=message,
            seconds=seconds,
            ping_token=ping_token,
            ip=call.ip,
        )
    return Answer({"auth_req_id": auth_req_id, "expires_in": seconds, "interval": INTERVAL})  # §7.3


def _message(asked: Parameters) -> str:
    """§7.1: short plain text. One line without marks that turn or hide text; escaped wherever it is shown."""
    message = asked.get("binding_message", "")
    if len(message) > _MESSAGE:
        raise InvalidBindingMessage(f"Use {_MESSAGE} characters at most.", reason="message_too_long")
    hidden = next((character for character in message if is_unseen(character)), None)
    if hidden is not None:
        raise InvalidBindingMessage(
            f"Use one line of plain text, without {code_point(hidden)}.", reason="message_not_plain"
        )
    if message and not message.strip():
        raise InvalidBindingMessage("Use one line of plain text.", reason="message_not_plain")
    return message


def _levels(asked: Parameters) -> tuple[str, ...]:
    """§7.1: any of them will do. If nobody here can sign in so, it is not worth asking (RFC 9470 §5)."""
    wanted = read_acr_values(asked)
    if wanted and not set(wanted) & set(LEVELS):
        raise UnmetAuthenticationRequirements("Nobody here can sign in as acr_values asks.")
    return wanted


def _seconds(asked: Parameters) -> int:
    """§7.1: a positive integer. Kept within bounds; the answer says what it became."""
    value = asked.get("requested_expiry")
    if value is None:
        return SECONDS
    if not value.isascii() or not value.isdigit() or len(value) > 9 or int(value) == 0:
        raise InvalidRequest("requested_expiry is a positive number of seconds.", reason="requested_expiry")
    return min(max(int(value), _SHORTEST), _LONGEST)


def _ping_token(asked: Parameters, client: Agent) -> str:
    """§7.1: REQUIRED from a client that is pinged, at most 1024 characters; means nothing from one that polls."""
    if not client.ping_url:
        return ""
    token = asked.require("client_notification_token")
    if len(token) > 1024 or not _TOKEN.match(token):
        raise InvalidRequest("client_notification_token is no bearer token.", reason="notification_token")
    return token
