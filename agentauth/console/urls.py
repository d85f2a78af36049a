"""The console's map: a list for each noun, a line for each view. The name in quotes is what links ask for."""

from django.urls import URLPattern, URLResolver, include, path

from agentauth.console import agents, credentials, frame, home, registering, sign_in

Paths = list[URLPattern | URLResolver]

doors: Paths = [
    path("", sign_in.start, name="start"),
    path("sign-in/<str:token>", sign_in.link, name="sign_in_link"),
    path("appearance/", frame.appearance, name="appearance"),
    path("account/2fa/", include("allauth.mfa.urls")),
    path("account/", include("allauth.account.urls")),
]

TENANT = "t/<slug:tenant>/"
AGENT = f"{TENANT}agents/<uuid:agent_id>/"

homes: Paths = [
    path(TENANT, home.home, name="home"),
    path(f"{TENANT}door/", home.door, name="door"),
]

agent_pages: Paths = [
    path(f"{TENANT}agents/", agents.agents, name="agents"),
    path(f"{TENANT}agents/new/", registering.agent_new, name="agent_new"),
    path(f"{TENANT}agents/stop/", agents.agents_stop, name="agents_stop"),
    path(AGENT, agents.agent, name="agent"),
    path(f"{AGENT}edit/", registering.agent_edit, name="agent_edit"),
    path(f"{AGENT}rule/", registering.agent_rule, name="agent_rule"),
    path(f"{AGENT}approve/", agents.agent_approve, name="agent_approve"),
    path(f"{AGENT}stop/", agents.agent_stop, name="agent_stop"),
    path(f"{AGENT}suspend/", agents.agent_suspend, name="agent_suspend"),
    path(f"{AGENT}ended/", agents.agent_ended, name="agent_ended"),
    path(f"{AGENT}let-back/", agents.agent_let_back, name="agent_let_back"),
    path(f"{AGENT}retire/", agents.agent_retire, name="agent_retire"),
    path(f"{AGENT}grants/<uuid:grant_id>/end/", agents.agent_end_grant, name="agent_end_grant"),
    path(f"{AGENT}credentials/new/", credentials.credential_new, name="credential_new"),
    path(f"{AGENT}credentials/<uuid:credential_id>/retire/", credentials.credential_retire, name="credential_retire"),
    path(f"{AGENT}secret/", credentials.secret_once, name="secret_once"),
]

urlpatterns: Paths = [
    *doors,
    *homes,
    *agent_pages,
]
