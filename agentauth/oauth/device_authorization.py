"""Device authorization endpoint (RFC 8628 §3.1): a device without a browser asks for a code to show its person."""

from urllib.parse import urlencode

from django.utils.timezone import now

from agentauth.keys.addresses import issuer
from agentauth.oauth.authorization_details import read_details
from agentauth.oauth.authorization_request import read_scope
from agentauth.oauth.client_authentication import authenticate_client
from agentauth.oauth.device_codes import INTERVAL, SECONDS, keep
from agentauth.oauth.door import Answer, Call, oauth_endpoint
from agentauth.oauth.errors import TooManyRequests, UnauthorizedClient
from agentauth.oauth.grants.device_code import GRANT_TYPE
from agentauth.oauth.high_assurance import require_no_device
from agentauth.oauth.models import DeviceRequest
from agentauth.oauth.parameters import from_form
from audit.actions import Action
from tenants.rls import in_tenant

_MOST_OPEN = 200  # per client: each open one makes guessing a code a little easier


@oauth_endpoint(refused=Action.AUTHORIZATION_REFUSED)
def device_authorization(call: Call) -> Answer:
    asked = from_form(call.body, call.content_type)
    client = authenticate_client(call, asked)
    if GRANT_TYPE not in client.grant_types:
        raise UnauthorizedClient("This client is not registered for device codes.", reason="grant_not_registered")
    require_no_device(client)
    with in_tenant(call.tenant.id):
        details = read_details(asked.get("authorization_details", ""), client, call.tenant)
        resource, scope, protocol_scope = read_scope(asked, client, call.tenant)
        waiting = DeviceRequest.objects.filter(tenant=call.tenant, agent=client, expires_at__gt=now())
        if waiting.filter(allowed_at=None, refused_at=None)[:_MOST_OPEN].count() >= _MOST_OPEN:
            raise TooManyRequests("Too many devices of this client wait for an answer.", reason="devices_waiting")
        device_code, user_code = keep(client, resource, scope, protocol_scope, details)
    page = f"{issuer(call.tenant)}/device/"
    return Answer(
        {
            "device_code": device_code,
            "user_code": user_code,
            "verification_uri": page,
            "verification_uri_complete": f"{page}?{urlencode({'user_code': user_code})}",
            "expires_in": SECONDS,
            "interval": INTERVAL,
        }
    )
