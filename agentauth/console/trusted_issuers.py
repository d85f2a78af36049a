"""Trusted issuers: whose word counts here besides our own, and ending that."""

from collections.abc import Callable
from typing import Any, TypeVar
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from agentauth.agents.models import Credential, MemberLink, TrustedIssuer, VouchedGrant, WrongState
from agentauth.agents.trusting import trust_issuer, try_trusting
from agentauth.console.handing import HandedOut
from agentauth.console.templatetags.look import plural
from agentauth.console.trust_form import GITHUB, TrustForm
from agentauth.grants.distrusting import remove_issuer, suspend_issuer
from agentauth.grants.models import Grant
from agentauth.keys.addresses import issuer as our_issuer
from agentauth.oauth.trust import keys
from agentauth.oauth.trust.looking import NotThere, Seen, look
from tenants.access import ADMINS, TenantRequest, tenant_page
from tenants.revocation import Ended

T = TypeVar("T")

_USUAL = {"kind": "workload", "keys_from": "discovery", "ceiling_risk": "change", "grant_days": 30, "act_order": ""}
_OF_GITHUB = {"name": "GitHub Actions", "issuer": GITHUB}


@require_GET
@tenant_page(roles=ADMINS)
def trusted_issuers(request: TenantRequest) -> HttpResponse:
    rows = TrustedIssuer.objects.filter(tenant=request.tenant, removed_at=None).order_by("name", "id")
    return render(request, "console/trusted/list.html", {"issuers": list(rows)})


@require_http_methods(["GET", "POST"])
def trusted_issuer_new(request: HttpRequest, tenant: str) -> HttpResponseBase:
    """Its keys are asked for outside the transaction, and after our own complaints, which cost nobody a request."""
    answer: HttpResponseBase = _ask(request, tenant=tenant)
    if not isinstance(answer, HandedOut):
        return answer
    form, seen = answer.what, None
    said = form.said()
    try:
        seen = look(**{name: said[name] for name in ("kind", "issuer", "keys_from", "jwks_uri", "jwks")})
    except NotThere as why:
        form.add_error(why.field, str(why))
    trusted: HttpResponseBase = _trust(request, tenant=tenant, form=form, seen=seen)
    return trusted


@tenant_page(roles=ADMINS)
def _ask(request: TenantRequest) -> HttpResponse:
    usual = _USUAL | (_OF_GITHUB if request.GET.get("of") == "github" else {})
    form = TrustForm(request.POST if request.method == "POST" else None, initial=usual)
    if request.method == "POST" and form.is_valid():
        _said(request, form, to=try_trusting)
        if not form.errors:
            return HandedOut(form)
    return _form(request, form)


@tenant_page(roles=ADMINS)
def _trust(request: TenantRequest, form: TrustForm, seen: Seen | None) -> HttpResponse:
    made = _said(request, form, to=trust_issuer) if seen else None
    if seen is None or made is None:
        return _form(request, form)
    messages.success(request, f"{made.name} is trusted from now on. {seen.sentence}")
    return HttpResponseRedirect(_to(request, made), status=303)


def _said(request: TenantRequest, form: TrustForm, *, to: Callable[..., T]) -> T | None:
    """What `to` makes of the form, or None with its complaints at the fields."""
    try:
        return to(request.tenant, by=request.member, **form.said())
    except ValidationError as wrong:
        for field, texts in wrong.message_dict.items():
            form.add_error(field if field in form.fields else None, texts)
        return None


def _form(request: TenantRequest, form: TrustForm) -> HttpResponse:
    page = {"form": form, "us": our_issuer(request.tenant)}
    return render(request, "console/trusted/new.html", page, status=422 if form.errors else 200)


@require_GET
@tenant_page(roles=ADMINS)
def trusted_issuer(request: TenantRequest, issuer_id: UUID) -> HttpResponse:
    issuer = _require(request, issuer_id)
    return render(request, "console/trusted/show.html", _all_of(request, issuer))


@require_POST
def trusted_issuer_look(request: TenantRequest, tenant: str, issuer_id: UUID) -> HttpResponseBase:
    """Ask it now, for whoever wonders why a token is refused."""
    answer: HttpResponseBase = _find(request, tenant=tenant, issuer_id=issuer_id)
    if not isinstance(answer, HandedOut):
        return answer
    issuer: TrustedIssuer = answer.what
    try:
        seen = look(
            kind=issuer.kind,
            issuer=issuer.issuer,
            keys_from=issuer.keys_from,
            jwks_uri=issuer.jwks_uri,
            jwks=issuer.jwks,
        )
        messages.success(request, seen.sentence)
    except NotThere as why:
        messages.warning(request, f"{why} Until it answers, the keys that we have go on counting.")
    return HttpResponseRedirect(_to(request, issuer), status=303)


@tenant_page(roles=ADMINS)
def _find(request: TenantRequest, issuer_id: UUID) -> HttpResponse:
    return HandedOut(_require(request, issuer_id))


@require_POST
@tenant_page(roles=ADMINS)
def trusted_issuer_suspend(request: TenantRequest, issuer_id: UUID) -> HttpResponse:
    return _stopped(request, issuer_id, suspend_issuer, "is not believed any more")


@require_http_methods(["GET", "POST"])
@tenant_page(roles=ADMINS)
def trusted_issuer_remove(request: TenantRequest, issuer_id: UUID) -> HttpResponse:
    """Asks first: workload identities that stand on it are retired."""
    if request.method == "POST":
        return _stopped(request, issuer_id, remove_issuer, "is removed")
    issuer = _require(request, issuer_id)
    return render(request, "console/trusted/remove.html", _all_of(request, issuer))


@require_POST
@tenant_page(roles=ADMINS)
def trusted_issuer_let_back(request: TenantRequest, issuer_id: UUID) -> HttpResponse:
    issuer = _require(request, issuer_id)
    try:
        issuer.let_back(by=request.member)
        messages.success(
            request, f"{issuer.name} is believed again. What ended stays ended; it says anew what it allows."
        )
    except WrongState as wrong:
        messages.warning(request, str(wrong))
    return HttpResponseRedirect(_to(request, issuer), status=303)


@require_POST
@tenant_page(roles=ADMINS)
def trusted_issuer_unlink(request: TenantRequest, issuer_id: UUID, link_id: UUID) -> HttpResponse:
    issuer = _require(request, issuer_id)
    link = MemberLink.objects.filter(tenant=request.tenant, trusted_issuer=issuer, id=link_id).first()
    if link is None:
        raise Http404
    link.unlink(by=request.member)
    messages.success(request, "Forgotten. Its next token with that person’s verified address says it anew.")
    return HttpResponseRedirect(_to(request, issuer), status=303)


def _stopped(request: TenantRequest, issuer_id: UUID, stop: Any, what: str) -> HttpResponse:
    issuer = _require(request, issuer_id)
    try:
        ended: Ended = stop(issuer, by=request.member)
        counts = f"{plural(ended.grants, 'grant,grants')} and {plural(ended.tokens, 'live token,live tokens')}"
        messages.success(request, f"{issuer.name} {what}; {counts} ended. Grants that people gave themselves stay.")
    except WrongState as wrong:
        messages.warning(request, str(wrong))
    gone = issuer.removed_at is not None
    there = reverse("trusted_issuers", args=[request.tenant.slug]) if gone else _to(request, issuer)
    return HttpResponseRedirect(there, status=303)


def _all_of(request: TenantRequest, issuer: TrustedIssuer) -> dict[str, Any]:
    links = MemberLink.objects.filter(tenant=request.tenant, trusted_issuer=issuer).select_related("member__user")
    let_in = Credential.objects.filter(tenant=request.tenant, trusted_issuer=issuer, retired_at=None)
    vouched = VouchedGrant.objects.filter(tenant=request.tenant, trusted_issuer=issuer, withdrawn_at=None)
    live = Grant.objects.filter(tenant=request.tenant, id__in=vouched.values("grant_id"), ended_at=None)
    return {
        "issuer": issuer,
        "links": links.order_by("member__user__name"),
        "let_in": let_in.select_related("agent").order_by("agent__name"),
        "grants": live.select_related("agent", "resource", "member__user").order_by("-id")[:50],
        "audience": issuer.audience or our_issuer(request.tenant),
        "kids": [key.get("kid", "without a name") for key in keys.known(issuer)],
    }


def _require(request: TenantRequest, issuer_id: UUID) -> TrustedIssuer:
    found = TrustedIssuer.objects.filter(tenant=request.tenant, id=issuer_id, removed_at=None).first()
    if found is None:
        raise Http404
    return found


def _to(request: TenantRequest, issuer: TrustedIssuer) -> str:
    return reverse("trusted_issuer", args=[request.tenant.slug, issuer.id])
