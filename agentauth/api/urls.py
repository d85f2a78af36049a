"""The REST API's map: a line for each view, one tenant in every address of a noun."""

from django.urls import URLPattern, URLResolver, include, path, re_path

from agentauth.api import (
    agents,
    credentials,
    events,
    exports,
    grants,
    keys,
    reference,
    resources,
    settings,
    token_checks,
    trusted_issuers,
)

nouns: list[URLPattern | URLResolver] = [
    path("/agents", agents.Agents.as_view()),
    path("/agents/<uuid:agent>", agents.OneAgent.as_view()),
    path("/agents/<uuid:agent>/suspend", agents.SuspendAgent.as_view()),
    path("/agents/<uuid:agent>/let-back", agents.LetAgentBack.as_view()),
    path("/agents/<uuid:agent>/retire", agents.RetireAgent.as_view()),
    path("/agents/<uuid:agent>/approve", agents.ApproveAgent.as_view()),
    path("/agents/<uuid:agent>/credentials", credentials.AgentCredentials.as_view()),
    path("/agents/<uuid:agent>/credentials/<uuid:credential>/retire", credentials.RetireCredential.as_view()),
    path("/trusted-issuers", trusted_issuers.TrustedIssuers.as_view()),
    path("/trusted-issuers/<uuid:issuer>", trusted_issuers.OneTrustedIssuer.as_view()),
    path("/trusted-issuers/<uuid:issuer>/suspend", trusted_issuers.SuspendTrustedIssuer.as_view()),
    path("/trusted-issuers/<uuid:issuer>/let-back", trusted_issuers.LetTrustedIssuerBack.as_view()),
    path("/trusted-issuers/<uuid:issuer>/remove", trusted_issuers.RemoveTrustedIssuer.as_view()),
    path("/resources", resources.Resources.as_view()),
    path("/resources/<uuid:resource>", resources.OneResource.as_view()),
    path("/resources/<uuid:resource>/publish", resources.PublishResource.as_view()),
    path("/resources/<uuid:resource>/reread", resources.RereadResource.as_view()),
    path("/resources/<uuid:resource>/retire", resources.RetireResource.as_view()),
    path("/resources/<uuid:resource>/server-credentials", token_checks.TokenChecks.as_view()),
    path(
        "/resources/<uuid:resource>/server-credentials/<uuid:credential>/retire",
        token_checks.RetireTokenCheck.as_view(),
    ),
    path("/settings", settings.Settings.as_view()),
    path("/keys", keys.Keys.as_view()),
    path("/keys/rotate", keys.RotateKeys.as_view()),
    path("/keys/withdraw", keys.WithdrawKeys.as_view()),
    path("/grants", grants.Grants.as_view()),
    path("/grants/<uuid:grant>", grants.OneGrant.as_view()),
    path("/grants/<uuid:grant>/narrow", grants.NarrowGrant.as_view()),
    path("/grants/<uuid:grant>/revoke", grants.RevokeGrant.as_view()),
    path("/events", events.Events.as_view()),
    path("/events/<uuid:event>", events.OneEvent.as_view()),
    path("/exports", exports.Exports.as_view()),
    path("/exports/<uuid:export>", exports.OneExport.as_view()),
    path("/exports/<uuid:export>/cancel", exports.CancelExport.as_view()),
    path("/exports/<uuid:export>/bundle", exports.ExportBundle.as_view()),
]

urlpatterns: list[URLPattern | URLResolver] = [
    path("openapi.json", reference.Document.as_view(), name="api_document"),
    path("docs/", reference.docs, name="api_docs"),
    path("problems/", reference.problems, name="api_problems"),
    path("tenants/<slug:tenant>", include(nouns)),
    re_path(r"^[\s\S]*\Z", reference.Nowhere.as_view()),
]
