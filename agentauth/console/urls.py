"""The console's map: a list for each noun, a line for each view. The name in quotes is what links ask for."""

from django.urls import URLPattern, URLResolver, include, path

from agentauth.console import frame, sign_in

Paths = list[URLPattern | URLResolver]

doors: Paths = [
    path("", sign_in.start, name="start"),
    path("sign-in/<str:token>", sign_in.link, name="sign_in_link"),
    path("appearance/", frame.appearance, name="appearance"),
    path("account/2fa/", include("allauth.mfa.urls")),
    path("account/", include("allauth.account.urls")),
]

urlpatterns: Paths = [
    *doors,
]
