"""The authorization server's map: each path and the document that defines it."""

from django.urls import URLPattern, URLResolver, path

from agentauth.oauth.authorize import authorize
from agentauth.oauth.consent import consent
from agentauth.oauth.device import device
from agentauth.oauth.device_authorization import device_authorization
from agentauth.oauth.discovery import jwks, metadata
from agentauth.oauth.introspect import introspect
from agentauth.oauth.par import par
from agentauth.oauth.register import register
from agentauth.oauth.revoke import revoke
from agentauth.oauth.token import token
from agentauth.oauth.userinfo import userinfo

_ISSUER = "t/<str:tenant>"

urlpatterns: list[URLPattern | URLResolver] = [
    # RFC 8414 §3.1 inserts the well-known part, OpenID Connect Discovery §4 appends it; clients try all of them
    path(f".well-known/oauth-authorization-server/{_ISSUER}", metadata),
    path(f".well-known/openid-configuration/{_ISSUER}", metadata),
    path(f"{_ISSUER}/.well-known/openid-configuration", metadata),
    path(f"{_ISSUER}/.well-known/oauth-authorization-server", metadata),
    path(f"{_ISSUER}/oauth/jwks.json", jwks),  # RFC 7517
    path(f"{_ISSUER}/oauth/authorize", authorize, name="oauth_authorize"),  # OAuth 2.1 §3.1
    path(f"{_ISSUER}/oauth/consent", consent, name="oauth_consent"),
    path(f"{_ISSUER}/oauth/par", par),  # RFC 9126
    path(f"{_ISSUER}/oauth/device_authorization", device_authorization),  # RFC 8628
    path("t/<slug:tenant>/device/", device, name="oauth_device"),  # RFC 8628 §3.3
    path(f"{_ISSUER}/oauth/token", token),  # OAuth 2.1 §3.2
    path(f"{_ISSUER}/oauth/register", register),  # RFC 7591
    path(f"{_ISSUER}/oauth/revoke", revoke),  # RFC 7009
    path(f"{_ISSUER}/oauth/introspect", introspect),  # RFC 7662
    path(f"{_ISSUER}/oauth/userinfo", userinfo),  # OpenID Connect Core §5.3
]
