"""The frame around every page: where you are, where you may go, what waits for you, how far the record is signed."""

from dataclasses import dataclass, field
from functools import wraps
from typing import Any

from django.db import connection
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.urls import NoReverseMatch, reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.timezone import now
from django.views.decorators.http import require_POST

from agentauth.grants.models import Approval
from agentauth.oauth.backchannel_requests import open_for
from audit.proof import Health, intact
from tenants.access import View, memberships
from tenants.models import Member, Tenant, User
from tenants.rls import in_tenant

THEMES = (("system", "System"), ("light", "Day"), ("dark", "Night"))
THEME_COOKIE = "agentauth-look"


@dataclass(frozen=True, slots=True)
class Link:
    name: str
    href: str
    here: bool = False
    mine: bool = False
    count: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Frame:
    theme: str
    path: str
    user: User | None = None
    tenant: Tenant | None = None
    member: Member | None = None
    places: list[Link] = field(default_factory=list)
    nav: list[Link] = field(default_factory=list)
    own: list[Link] = field(default_factory=list)
    record: Health | None = None
    themes: tuple[tuple[str, str], ...] = THEMES

    @property
    def first_name(self) -> str:
        return self.user.name.split()[0] if self.user and self.user.name.strip() else ""

    @property
    def monogram(self) -> str:
        words = self.user.name.split() if self.user else []
        return "".join(word[0] for word in [*words[:1], *words[1:][-1:]]).upper()


def frame(request: HttpRequest) -> dict[str, Any]:
    """Context processor. Inside a tenant's door it reads the tenant; anywhere else only the person."""
    theme = request.COOKIES.get(THEME_COOKIE, "system")
    plain = Frame(theme=theme if theme in dict(THEMES) else "system", path=request.get_full_path())
    user = getattr(request, "user", None)
    if not isinstance(user, User) or not user.is_authenticated:
        return {"frame": plain}
    own = [
        link
        for link in (_link("Sign-in and passkeys", "mfa_index"), _link("Password", "account_change_password"))
        if link
    ]
    if user.is_operator and (operator := _link("This installation", "operator")):
        own.append(operator)
    tenant, member = getattr(request, "tenant", None), getattr(request, "member", None)
    if tenant is None or member is None:
        return {"frame": Frame(plain.theme, plain.path, user, own=own)}
    if member.may_administer and (href := _address("settings", tenant.slug)):  # not at an issuer's own host
        own.append(Link(f"Settings of {tenant.name}", href))
    if connection.in_atomic_block:
        return {"frame": _inside(request, plain, tenant, member, own)}
    with in_tenant(tenant.id):  # an error page, after the door has closed
        return {"frame": _inside(request, plain, tenant, member, own)}


def _inside(request: HttpRequest, plain: Frame, tenant: Tenant, member: Member, own: list[Link]) -> Frame:
    places = [
        Link(
            place.tenant.name,
            f"/t/{place.tenant.slug}/",
            place.tenant_id == tenant.id,
            note=place.get_role_display().lower(),
        )
        for place in memberships(member.user)
    ]
    return Frame(
        plain.theme, plain.path, member.user, tenant, member, places, _nav(request, tenant, member), own,
        intact(tenant),
    )  # fmt: skip


def _nav(request: HttpRequest, tenant: Tenant, member: Member) -> list[Link]:
    names = []
    if member.may_audit:
        names += [("Home", "home"), ("Agents", "agents")]
    if member.may_administer:
        names += [("Resources", "resources"), ("People", "members")]
    if member.may_audit:
        names += [("Record", "record")]
    links = []
    for words, name in [*names, ("My agents", "my_agents"), ("Inbox", "inbox")]:
        href = _address(name, tenant.slug)
        here = bool(href) and (request.path == href if name == "home" else request.path.startswith(href))
        count = waiting_for(member).count() + open_for(member).count() if name == "inbox" else 0
        if href:
            links.append(Link(words, href, here, mine=name == "my_agents", count=count))
    return links


def waiting_for(member: Member) -> Any:
    """The calls that wait for this person's yes: made for them, or by an agent of theirs that acts for itself."""
    mine = Q(grant__member=member) | Q(grant__member=None, grant__agent__owner=member)
    return Approval.objects.filter(mine, tenant_id=member.tenant_id, state=Approval.State.PENDING, expires_at__gt=now())


def _address(name: str, *args: str) -> str:
    try:
        return reverse(name, args=args)
    except NoReverseMatch:
        return ""


def _link(words: str, name: str) -> Link | None:
    href = _address(name)
    return Link(words, href) if href else None


def polled(view: View) -> View:
    """Outside the door of a part that a page asks for again and again: who is signed out gets the page anew, not a form
    in its middle. Without htmx the door answers as always."""

    @wraps(view)
    def answered(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.headers.get("HX-Request") and not request.user.is_authenticated:
            return HttpResponse(status=204, headers={"HX-Refresh": "true"})
        return view(request, *args, **kwargs)

    return answered


def back_to(request: HttpRequest, otherwise: str = "/") -> str:
    """Where a form said to return to, if that is one of our own pages."""
    wanted = request.POST.get("next", "")
    ours = url_has_allowed_host_and_scheme(
        wanted, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return wanted if ours else otherwise


@require_POST
def appearance(request: HttpRequest) -> HttpResponseRedirect:
    """Day, night or as the system says: kept in a cookie of this browser."""
    response = HttpResponseRedirect(back_to(request))
    response.status_code = 303
    theme = request.POST.get("theme", "")
    if theme in dict(THEMES):
        response.set_cookie(
            THEME_COOKIE, theme, max_age=365 * 86400, samesite="Lax", httponly=True, secure=request.is_secure()
        )
    return response
