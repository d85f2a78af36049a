"""Members: who belongs here, in which role; inviting, changing roles, letting go."""

from base64 import b64decode, b64encode
from typing import Any, ClassVar
from urllib.parse import quote
from uuid import UUID

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login
from django.core.exceptions import ValidationError
from django.core.mail import send_mail
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils.timezone import now
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from agentauth.agents.models import Agent, WrongState
from agentauth.grants import leaving
from agentauth.grants.models import Grant
from agentauth.keys.ring import seal, unseal
from tenants import inviting, roles
from tenants.access import ADMINS, AUDITORS, TenantRequest, require_tenant, tenant_page
from tenants.models import Invitation, Member, Role, Tenant
from tenants.rls import in_tenant

ROLE_WORDS: dict[str, str] = {
    Role.OWNER: "Everything, and makes other owners.",
    Role.ADMIN: "Registers agents and what they may reach, invites people, stops things.",
    Role.AUDITOR: "Searches the whole record and exports evidence. Changes nothing.",
    Role.MEMBER: "Lets agents act for them, answers their questions, takes it back.",
}
_LINK = "invitation-link"  # where the session keeps a new link until it has been shown


class Invite(forms.Form):
    email = forms.EmailField(label="E-mail address", max_length=254)
    role = forms.ChoiceField(label="Role", choices=Role.choices, initial=Role.MEMBER)


class Accept(forms.Form):
    name = forms.CharField(label="Your name", max_length=120, help_text="As others will read it.")
    password = forms.CharField(
        label="Password", widget=forms.PasswordInput, max_length=200, help_text="At least 12 characters."
    )


class _Empty(forms.Form):
    base_fields: ClassVar[dict[str, forms.Field]] = {}


@require_GET
@tenant_page(roles=AUDITORS)
def members(request: TenantRequest) -> HttpResponse:
    people = Member.objects.filter(tenant=request.tenant).select_related("user").order_by("user__name", "id")
    owned: dict[UUID | None, list[Agent]] = {}
    for agent in Agent.objects.filter(tenant=request.tenant).exclude(state=Agent.State.RETIRED).order_by("name"):
        owned.setdefault(agent.owner_id, []).append(agent)
    here = [(member, owned.get(member.id, [])) for member in people if member.deactivated_at is None]
    page = {
        "here": here,
        "gone": [member for member in people if member.deactivated_at is not None],
        "invitations": inviting.open_invitations(request.tenant).select_related("invited_by__user").order_by("-id"),
        "may_change": request.member.may_administer,
        "one_owner": sum(member.role == Role.OWNER for member, _ in here) == 1,
        "roles": _roles(request.member),
    }
    return render(request, "console/members/list.html", page)


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_page(roles=ADMINS)
def invite(request: TenantRequest) -> HttpResponse:
    form = Invite(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            invitation, token = inviting.invite(request.tenant, by=request.member, **form.cleaned_data)
        except ValidationError as wrong:
            form.add_error(None, wrong)
        else:
            link = settings.KNOBS.base_url + reverse("join", args=[request.tenant.slug, token])
            _post(request, invitation, link)
            request.session[_LINK] = {"id": str(invitation.id), "link": _seal(invitation, link)}
            return HttpResponseRedirect(reverse("invited", args=[request.tenant.slug, invitation.id]), status=303)
    page = {"form": form, "roles": _roles(request.member), "chosen": form["role"].value()}
    return render(request, "console/members/invite.html", page, status=422 if form.errors else 200)


@never_cache
@require_GET
@tenant_page(roles=ADMINS)
def invited(request: TenantRequest, invitation_id: UUID) -> HttpResponse:
    """The invitation that was just sent. Its link is shown here once."""
    invitation = get_object_or_404(inviting.open_invitations(request.tenant), id=invitation_id)
    kept = request.session.get(_LINK) or {}
    link = ""
    if kept.get("id") == str(invitation_id):
        link = _unseal(invitation, kept["link"])
        del request.session[_LINK]
    return render(request, "console/members/invited.html", {"invitation": invitation, "link": link})


@require_POST
@tenant_page(roles=ADMINS)
def withdraw(request: TenantRequest, invitation_id: UUID) -> HttpResponse:
    invitation = get_object_or_404(inviting.open_invitations(request.tenant), id=invitation_id)
    inviting.withdraw(invitation, by=request.member)
    messages.success(request, f"The invitation of {invitation.email} is withdrawn. Its link is no longer good.")
    return _to_list(request)


@require_POST
@tenant_page(roles=ADMINS)
def change_role(request: TenantRequest, member_id: UUID) -> HttpResponse:
    member = _require_member(request, member_id)
    role = request.POST.get("role", "")
    try:
        roles.change_role(member, by=request.member, role=role)
    except ValidationError as wrong:
        messages.error(request, " ".join(wrong.messages))
    else:
        messages.success(request, f"{member.name} is {member.get_role_display().lower()} now.")
    return _to_list(request)


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_page(roles=ADMINS)
def deactivate(request: TenantRequest, member_id: UUID) -> HttpResponse:
    """Asks first and says what will end; then ends it."""
    member = _require_member(request, member_id)
    if request.method == "POST":
        try:
            roles.require_may_remove(member, by=request.member)
            ended = leaving.deactivate(member, by=request.member)
        except (ValidationError, WrongState) as wrong:
            messages.error(request, " ".join(getattr(wrong, "messages", [str(wrong)])))
        else:
            messages.success(request, f"{member.name} is out. {_what_ended(ended.grants, ended.tokens)}")
        return _to_list(request)
    agents = Agent.objects.filter(tenant=request.tenant, owner=member).exclude(state=Agent.State.RETIRED)
    grants = Grant.objects.filter(tenant=request.tenant, member=member, ended_at=None, expires_at__gt=now())
    grants = grants.select_related("agent", "resource").order_by("id")
    page = {"leaving": member, "agents": agents.order_by("name"), "grants": grants}
    return render(request, "console/members/deactivate.html", page)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def join(request: HttpRequest, tenant: str, token: str) -> HttpResponse:
    """The invited person's door. Only the link opens it: an unknown, used or old one is a page that says so."""
    place = require_tenant(tenant)
    with in_tenant(place.id):
        invitation = inviting.find_invitation(place, token)
        if invitation is None:
            return render(request, "console/members/join_gone.html", {"place": place}, status=404)
        return _join(request, place, invitation)


def _join(request: HttpRequest, place: Tenant, invitation: Invitation) -> HttpResponse:
    has_account = inviting.account_of(invitation) is not None
    visitor: Any = request.user if request.user.is_authenticated else None
    known = visitor is not None and visitor.email.casefold() == invitation.email.casefold()
    kind: type[forms.Form] = _Empty if known or has_account else Accept
    form = kind(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        said = {"name": form.cleaned_data.get("name", ""), "password": form.cleaned_data.get("password", "")}
        try:
            with transaction.atomic():
                member = inviting.accept(invitation, **said, signed_in=visitor if known else None)
        except ValidationError as wrong:
            form.add_error(None, wrong)
        else:
            if not known:
                login(request, member.user, backend="django.contrib.auth.backends.ModelBackend")
            return HttpResponseRedirect(reverse("home", args=[place.slug]), status=303)
    page = {"place": place, "invitation": invitation, "form": form, "has_account": has_account, "known": known}
    page |= {"words": ROLE_WORDS[invitation.role], "sign_in": f"/account/login/?next={quote(request.path)}"}
    return render(request, "console/members/join.html", page, status=422 if form.errors else 200)


def _require_member(request: TenantRequest, member_id: UUID) -> Member:
    people = Member.objects.filter(tenant=request.tenant, deactivated_at=None).select_related("user")
    member = people.filter(id=member_id).first()
    if member is None:
        raise Http404
    return member


def _roles(by: Member) -> list[tuple[str, str, str]]:
    """What this person may offer, with a sentence on each."""
    offered = [role for role in Role if role != Role.OWNER or by.role == Role.OWNER]
    return [(role.value, role.label, ROLE_WORDS[role]) for role in reversed(offered)]


def _seal(invitation: Invitation, link: str) -> str:
    """The link as the session keeps it for the moment between the form and the page that shows it."""
    sealed = seal(link.encode(), tenant_id=invitation.tenant_id, row_id=invitation.id, purpose=_LINK)
    return b64encode(sealed).decode()


def _unseal(invitation: Invitation, kept: str) -> str:
    opened = unseal(b64decode(kept), tenant_id=invitation.tenant_id, row_id=invitation.id, purpose=_LINK)
    return opened.decode()


def _post(request: TenantRequest, invitation: Invitation, link: str) -> None:
    """Mail the link at commit. A mail server that fails undoes nothing: the link is on screen."""
    subject = f"{request.member.name} invites you to {request.tenant.name}"
    text = (
        f"{request.member.name} invites you to {request.tenant.name} on AgentAuth.\n\n"
        f"Open this link within 7 days and set your password:\n{link}\n\n"
        "If you do not know why you got this, do nothing: the link ends by itself.\n"
    )
    transaction.on_commit(lambda: send_mail(subject, text, None, [invitation.email], fail_silently=True))


def _what_ended(grants: int, tokens: int) -> str:
    def count(number: int, word: str) -> str:
        return f"{number or 'No'} {word}{'' if number == 1 else 's'}"

    return f"{count(grants, 'grant')} and {count(tokens, 'token').lower()} ended."


def _to_list(request: TenantRequest) -> HttpResponse:
    return HttpResponseRedirect(reverse("members", args=[request.tenant.slug]), status=303)
