"""Signing in: allauth's pages, one-time links, no sign-up by strangers. Then where to: one's organisation."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.internal.flows.login import perform_login, record_authentication
from allauth.account.models import Login
from django.conf import settings
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from audit.actions import Action
from audit.record import Actor, record
from tenants.access import memberships, to_sign_in
from tenants.models import SignInLink, Tenant, User
from tenants.rls import set_tenant


class ClosedSignUp(DefaultAccountAdapter):  # type: ignore[misc]  # allauth ships no types
    """People come by invitation; nobody signs up by themselves. Who came in is on record wherever they belong."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def login(self, request: HttpRequest, user: User) -> None:
        super().login(request, user)
        with transaction.atomic():
            for member in memberships(user):
                set_tenant(member.tenant_id)
                record(
                    Action.MEMBER_SIGNED_IN,
                    tenant_id=member.tenant_id,
                    actor=Actor("member", str(member.id)),
                    member_id=member.id,
                    ip=request.META.get("REMOTE_ADDR", ""),
                )

    def is_safe_url(self, url: str | None) -> bool:
        """Where an address leads stands before its query. Longer ones than Django looks at are what agents ask."""
        return bool(super().is_safe_url((url or "").partition("?")[0]))

    def get_reset_password_from_key_url(self, key: str) -> str:
        """Our own address, never the Host header of whoever asked: the mail goes to somebody else."""
        uid, _, rest = key.partition("-")
        path = reverse("account_reset_password_from_key", kwargs={"uidb36": uid, "key": rest})
        return f"{settings.KNOBS.base_url}{path}"

    def format_email_subject(self, subject: str) -> str:
        return subject

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """Addresses that nobody signs in with get no mail: strangers type them."""
        if template_prefix != "account/email/unknown_account":
            super().send_mail(template_prefix, email, context)

    def add_message(self, request: HttpRequest, level: int, *args: Any, **kwargs: Any) -> None:
        """Only what needs somebody: that signing in worked is seen without a sentence."""
        if level >= messages.WARNING:
            super().add_message(request, level, *args, **kwargs)


@require_http_methods(["GET", "POST"])
def link(request: HttpRequest, token: str) -> HttpResponseBase:
    """A link that works once. Opening it shows a button, so that a mail scanner does not use it up."""
    if request.method == "GET":
        return render(request, "account/sign_in_link.html", {"token": token})
    with transaction.atomic():
        user = SignInLink.redeem(token)
    if user is None:
        return render(request, "account/sign_in_link.html", {"spent": True}, status=410)
    record_authentication(request, user, method="link")
    return perform_login(request, Login(user=user, redirect_url="/"))  # type: ignore[no-any-return]  # second factor too


def start(request: HttpRequest) -> HttpResponse:
    """The front door: to one's only organisation, to a choice between several, or to the first steps."""
    if not isinstance(request.user, User):
        return to_sign_in(request) if settings.KNOBS.mode == "demo" or Tenant.objects.exists() else first_run(request)
    with transaction.atomic():
        places = memberships(request.user)
    if len(places) == 1:
        return HttpResponseRedirect(f"/t/{places[0].tenant.slug}/")
    return render(request, "account/places.html", {"places": places})


def first_run(request: HttpRequest) -> HttpResponse:
    return render(request, "console/first_run.html")
