"""The authorization server's map: each path and the document that defines it."""

from django.urls import URLPattern, URLResolver, path

from agentauth.oauth import own_host  # noqa: F401  # what stands between < > below
from agentauth.oauth.authorize import authorize
from agentauth.oauth.backchannel_authentication import backchannel_authentication
from agentauth.oauth.client_configuration import client_configuration
from agentauth.oauth.consent import consent
from agentauth.oauth.device import device
from agentauth.oauth.device_authorization import device_authorization
from agentauth.oauth.discovery import jwks, metadata
from agentauth.oauth.introspect import introspect
from agentauth.oauth.par import par
from agentauth.oauth.question import agent_asks
from agentauth.oauth.register import register
from agentauth.oauth.revoke import revoke
from agentauth.oauth.token import token
from agentauth.oauth.userinfo import userinfo

Paths = list[URLPattern | URLResolver]


def issuer_paths(issuer: str) -> Paths:
    """Every path of an issuer that stands at `issuer`, which is empty or ends with a slash."""
    return [
        path(f"{issuer}.well-known/openid-configuration", metadata),  # OpenID Connect Discovery §4
        path(f"{issuer}.well-known/oauth-authorization-server", metadata),  # RFC 8414 §3
        path(f"{issuer}oauth/jwks.json", jwks),  # RFC 7517
        path(f"{issuer}oauth/authorize", authorize, name="oauth_authorize"),  # OAuth 2.1 §3.1
        path(f"{issuer}oauth/consent", consent, name="oauth_consent"),
        path(f"{issuer}oauth/par", par),  # RFC 9126
        path(f"{issuer}oauth/device_authorization", device_authorization),  # RFC 8628
        path(f"{issuer}oauth/bc-authorize", backchannel_authentication),  # OpenID Connect CIBA Core §7
        path(f"{issuer}device/", device, name="oauth_device"),  # RFC 8628 §3.3
        path(f"{issuer}oauth/token", token),  # OAuth 2.1 §3.2
        path(f"{issuer}oauth/register", register),  # RFC 7591
        path(f"{issuer}oauth/register/<str:client_id>", client_configuration),  # RFC 7592
        path(f"{issuer}oauth/revoke", revoke),  # RFC 7009
        path(f"{issuer}oauth/introspect", introspect),  # RFC 7662
        path(f"{issuer}oauth/userinfo", userinfo),  # OpenID Connect Core §5.3
    ]


urlpatterns: Paths = [
    # RFC 8414 §3.1 inserts the well-known part before a path, OpenID appends it; clients try all of them
    path(".well-known/oauth-authorization-server/t/<issuer:tenant>", metadata),
    path(".well-known/openid-configuration/t/<issuer:tenant>", metadata),
    *issuer_paths("t/<issuer:tenant>/"),
    # The inbox is with the pages of the organisation, wherever its issuer is
    path("t/<slug:tenant>/my/inbox/asks/<uuid:request_id>/", agent_asks, name="agent_asks"),
    path("t/<slug:tenant>/my/inbox/answers/", consent, name="agent_asks_answer"),
]
at_own_host: Paths = issuer_paths("<here:tenant>")
