"""The console's map: a list for each noun, a line for each view. The name in quotes is what links ask for."""

from allauth.account import views as account
from django.urls import URLPattern, URLResolver, include, path, re_path
from django.views.generic import RedirectView

from agentauth.console import (
    agents,
    assurance,
    audit,
    catalogue,
    credentials,
    exports,
    frame,
    home,
    inbox,
    keys,
    members,
    my,
    operator,
    registering,
    resource_sign_in,
    resources,
    settings,
    sign_in,
    token_checks,
    trusted_issuers,
    ways,
    workloads,
)

Paths = list[URLPattern | URLResolver]

doors: Paths = [
    path("sign-in/<str:token>", sign_in.link, name="sign_in_link"),
    path("appearance/", frame.appearance, name="appearance"),
    path("account/2fa/", include("allauth.mfa.urls")),
    # Of allauth's account pages only these: who may change the address they sign in with could become somebody else
    path("account/login/", account.login, name="account_login"),
    path("account/logout/", account.logout, name="account_logout"),
    path("account/inactive/", account.account_inactive, name="account_inactive"),
    path("account/signup/", account.signup, name="account_signup"),  # closed: says so
    path("account/reauthenticate/", account.reauthenticate, name="account_reauthenticate"),
    path("account/password/change/", account.password_change, name="account_change_password"),
    path("account/password/set/", account.password_set, name="account_set_password"),
    path("account/password/reset/", account.password_reset, name="account_reset_password"),
    path("account/password/reset/done/", account.password_reset_done, name="account_reset_password_done"),
    re_path(
        r"^account/password/reset/key/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>.+)/$",
        account.password_reset_from_key,
        name="account_reset_password_from_key",
    ),
    path(
        "account/password/reset/key/done/",
        account.password_reset_from_key_done,
        name="account_reset_password_from_key_done",
    ),
]

TENANT = "t/<slug:tenant>/"
AGENT = f"{TENANT}agents/<uuid:agent_id>/"

homes: Paths = [
    path("t/<slug:tenant>", RedirectView.as_view(pattern_name="home", permanent=True)),
    path(TENANT, home.home, name="home"),
    path(f"{TENANT}door/", home.door, name="door"),
    path(f"{TENANT}settings/", settings.settings, name="settings"),
    path(f"{TENANT}settings/keys/", keys.keys, name="keys"),
    path(f"{TENANT}settings/keys/rotate/", keys.keys_rotate, name="keys_rotate"),
    path(f"{TENANT}settings/keys/period/", keys.keys_period, name="keys_period"),
    path(f"{TENANT}settings/keys/withdraw/", keys.keys_withdraw, name="keys_withdraw"),
]

agent_pages: Paths = [
    path(f"{TENANT}agents/", agents.agents, name="agents"),
    path(f"{TENANT}agents/new/", registering.agent_new, name="agent_new"),
    path(f"{TENANT}agents/stop/", agents.agents_stop, name="agents_stop"),
    path(AGENT, agents.agent, name="agent"),
    path(f"{AGENT}edit/", registering.agent_edit, name="agent_edit"),
    path(f"{AGENT}ways/", ways.agent_ways, name="agent_ways"),
    path(f"{AGENT}rule/", registering.agent_rule, name="agent_rule"),
    path(f"{AGENT}approve/", agents.agent_approve, name="agent_approve"),
    path(f"{AGENT}assure/", assurance.agent_assure, name="agent_assure"),
    path(f"{AGENT}relax/", assurance.agent_relax, name="agent_relax"),
    path(f"{AGENT}stop/", agents.agent_stop, name="agent_stop"),
    path(f"{AGENT}suspend/", agents.agent_suspend, name="agent_suspend"),
    path(f"{AGENT}ended/", agents.agent_ended, name="agent_ended"),
    path(f"{AGENT}let-back/", agents.agent_let_back, name="agent_let_back"),
    path(f"{AGENT}retire/", agents.agent_retire, name="agent_retire"),
    path(f"{AGENT}grants/<uuid:grant_id>/end/", agents.agent_end_grant, name="agent_end_grant"),
    path(f"{AGENT}credentials/new/", credentials.credential_new, name="credential_new"),
    path(f"{AGENT}credentials/<uuid:credential_id>/retire/", credentials.credential_retire, name="credential_retire"),
    path(f"{AGENT}workload/new/", workloads.workload_new, name="workload_new"),
    path(f"{AGENT}secret/", credentials.secret_once, name="secret_once"),
]

TRUSTED = f"{TENANT}settings/trusted/<uuid:issuer_id>/"

trust_pages: Paths = [
    path(f"{TENANT}settings/trusted/", trusted_issuers.trusted_issuers, name="trusted_issuers"),
    path(f"{TENANT}settings/trusted/new/", trusted_issuers.trusted_issuer_new, name="trusted_issuer_new"),
    path(TRUSTED, trusted_issuers.trusted_issuer, name="trusted_issuer"),
    path(f"{TRUSTED}look/", trusted_issuers.trusted_issuer_look, name="trusted_issuer_look"),
    path(f"{TRUSTED}suspend/", trusted_issuers.trusted_issuer_suspend, name="trusted_issuer_suspend"),
    path(f"{TRUSTED}let-back/", trusted_issuers.trusted_issuer_let_back, name="trusted_issuer_let_back"),
    path(f"{TRUSTED}remove/", trusted_issuers.trusted_issuer_remove, name="trusted_issuer_remove"),
    path(
        f"{TRUSTED}people/<uuid:link_id>/forget/", trusted_issuers.trusted_issuer_unlink, name="trusted_issuer_unlink"
    ),
]

resource_pages: Paths = [
    path(f"{TENANT}resources/", resources.resources, name="resources"),
    path(f"{TENANT}resources/new/api/", resources.new_api, name="resource_new_api"),
    path(f"{TENANT}resources/new/mcp/", resources.new_mcp, name="resource_new_mcp"),
    path(f"{TENANT}resources/adopt/<uuid:entry_id>/", catalogue.adopt, name="resource_adopt"),
    path(f"{TENANT}resources/<slug:slug>/", resources.resource, name="resource"),
    path(f"{TENANT}resources/<slug:slug>/scopes/", resources.save_scopes, name="resource_scopes"),
    path(f"{TENANT}resources/<slug:slug>/publish/", resources.publish, name="resource_publish"),
    path(f"{TENANT}resources/<slug:slug>/edit/", resources.edit, name="resource_edit"),
    path(f"{TENANT}resources/<slug:slug>/credential/", resources.credential, name="resource_credential"),
    path(f"{TENANT}resources/<slug:slug>/sign-in/", resource_sign_in.sign_in_rule, name="resource_sign_in"),
    path(f"{TENANT}resources/<slug:slug>/reread/", resources.reread, name="resource_reread"),
    path(f"{TENANT}resources/<slug:slug>/accept/", resources.accept_changes, name="resource_accept"),
    path(f"{TENANT}resources/<slug:slug>/retire/", resources.retire, name="resource_retire"),
    path(f"{TENANT}resources/<slug:slug>/checks/new/", token_checks.server_secret_new, name="server_secret_new"),
    path(f"{TENANT}resources/<slug:slug>/checks/key/", token_checks.server_key_new, name="server_key_new"),
    path(f"{TENANT}resources/<slug:slug>/checks/secret/", token_checks.server_secret, name="server_secret"),
    path(
        f"{TENANT}resources/<slug:slug>/checks/<uuid:credential_id>/retire/",
        token_checks.server_secret_retire,
        name="server_secret_retire",
    ),
]

my_pages: Paths = [
    path(f"{TENANT}my/agents/", my.my_agents, name="my_agents"),
    path(f"{TENANT}my/agents/new/", my.give_grant, name="give_grant"),
    path(f"{TENANT}my/agents/ended/", my.ended_grants, name="ended_grants"),
    path(f"{TENANT}my/agents/revoke-all/", my.revoke_all, name="revoke_all"),
    path(f"{TENANT}my/agents/<uuid:grant_id>/did/", my.did_under, name="did_under"),
    path(f"{TENANT}my/agents/<uuid:grant_id>/narrow/", my.narrow, name="narrow_grant"),
    path(f"{TENANT}my/agents/<uuid:grant_id>/revoke/", my.revoke_grant, name="revoke_grant"),
    path(f"{TENANT}my/agents/<uuid:grant_id>/stopped/", my.stopped, name="stopped"),
    path(f"{TENANT}my/did/", my.did, name="did"),
    path(f"{TENANT}my/did.csv", my.did_csv, name="did_csv"),
    path(f"{TENANT}my/inbox/", inbox.inbox, name="inbox"),
    path(f"{TENANT}my/inbox/<uuid:approval_id>/", inbox.question, name="question"),
    path(f"{TENANT}my/inbox/<uuid:approval_id>/time-left/", inbox.time_left, name="time_left"),
    path(f"{TENANT}my/inbox/<uuid:approval_id>/allow/", inbox.allow_once, name="allow_once"),
    path(f"{TENANT}my/inbox/<uuid:approval_id>/refuse/", inbox.refuse, name="refuse"),
]

member_pages: Paths = [
    path(f"{TENANT}members/", members.members, name="members"),
    path(f"{TENANT}members/invite/", members.invite, name="member_invite"),
    path(f"{TENANT}members/invited/<uuid:invitation_id>/", members.invited, name="invited"),
    path(f"{TENANT}members/invited/<uuid:invitation_id>/withdraw/", members.withdraw, name="invitation_withdraw"),
    path(f"{TENANT}members/<uuid:member_id>/role/", members.change_role, name="member_role"),
    path(f"{TENANT}members/<uuid:member_id>/deactivate/", members.deactivate, name="member_deactivate"),
    path(f"{TENANT}join/<str:token>/", members.join, name="join"),
]

record_pages: Paths = [
    path(f"{TENANT}audit/", audit.record_page, name="record"),
    path(f"{TENANT}audit/newest/", audit.newest, name="record_newest"),
    path(f"{TENANT}audit/exports/", exports.exports, name="exports"),
    path(f"{TENANT}audit/exports/new/", exports.new_export, name="export_new"),
    path(f"{TENANT}audit/exports/<uuid:export_id>/", exports.export, name="export"),
    path(f"{TENANT}audit/exports/<uuid:export_id>/progress/", exports.progress, name="export_progress"),
    path(f"{TENANT}audit/exports/<uuid:export_id>/cancel/", exports.cancel_export, name="export_cancel"),
    path(f"{TENANT}audit/exports/<uuid:export_id>/bundle.zip", exports.download, name="export_download"),
    path(f"{TENANT}audit/<uuid:event_id>/", audit.event, name="event"),
    path(f"{TENANT}audit/<uuid:event_id>/proof.json", audit.proof_file, name="proof_file"),
]

operator_pages: Paths = [
    path("operator/", operator.tenants, name="operator"),
    path("operator/tenants/new/", operator.new_tenant, name="operator_new"),
    path("operator/tenants/<uuid:tenant_id>/", operator.tenant_founded, name="operator_tenant"),
    path("operator/tenants/<uuid:tenant_id>/issuer/", operator.tenant_issuer, name="operator_issuer"),
    path("operator/catalogue/", catalogue.catalogue, name="catalogue"),
    path("operator/catalogue/new/", catalogue.offer, name="catalogue_offer"),
    path("operator/catalogue/<uuid:entry_id>/withdraw/", catalogue.withdraw, name="catalogue_withdraw"),
]

urlpatterns: Paths = [
    path("", sign_in.start, name="start"),
    *doors,
    *homes,
    *agent_pages,
    *trust_pages,
    *resource_pages,
    *my_pages,
    *member_pages,
    *record_pages,
    *operator_pages,
]
