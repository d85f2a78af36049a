"""The map: each public path. `console/`, `oauth/` and `api/` each list their own, with the document that defines it."""

from django.urls import URLPattern, URLResolver, include, path

from agentauth.api import health, reference

urlpatterns: list[URLPattern | URLResolver] = [
    path("", include("agentauth.oauth.urls")),
    path("livez", health.livez),
    path("readyz", health.readyz),
    path(".well-known/oauth-protected-resource/api/v1/tenants/<slug:tenant>", reference.metadata),  # RFC 9728
    path("api/v1/", include("agentauth.api.urls")),
    path("", include("agentauth.console.urls")),
]

handler500 = "agentauth.console.errors.broken"
