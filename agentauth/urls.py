"""The map: each public path and the document that defines it. `console/`, `oauth/` and `api/` each list their own below."""

from django.urls import URLPattern, URLResolver, include, path

urlpatterns: list[URLPattern | URLResolver] = [
    path("", include("agentauth.oauth.urls")),
    path("api/v1/", include("agentauth.api.urls")),
    path("", include("agentauth.console.urls")),
]

handler500 = "agentauth.console.errors.broken"
