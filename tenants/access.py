"""The doors: who may come in, and into which tenant. Behind a door every query is in the tenant's transaction."""

from collections.abc import Callable, Collection
from functools import wraps
from typing import Any, overload
from urllib.parse import quote

from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponseBase, HttpResponseRedirect

from tenants.models import SLUG, Member, Role, Tenant, User
from tenants.rls import set_tenant, set_user

ADMINS = frozenset({Role.OWNER, Role.ADMIN})
AUDITORS = frozenset({Role.OWNER, Role.ADMIN, Role.AUDITOR})
EVERYBODY = frozenset(Role)


class TenantRequest(HttpRequest):
    """A request behind a tenant's door."""

    user: User
    tenant: Tenant
    member: Member


class IssuerName(str):
    """A tenant's name out of an issuer's address, and the host that was asked, if that is a tenant's own."""

    host: str

    def __new__(cls, slug: str, host: str = "") -> "IssuerName":
        name = super().__new__(cls, slug)
        name.host = host
        return name


def find_tenant(slug: str) -> Tenant | None:
    """The tenant with this name in its address, unless the operator closed it. An issuer only where it is one."""
    try:
        SLUG(slug)
    except ValidationError:  # nobody is called so; also what no column can hold, such as NUL
        return None
    found = Tenant.objects.filter(slug=slug, suspended_at=None)
    if isinstance(slug, IssuerName):
        found = found.filter(issuer_host=slug.host)
    return found.first()


def require_tenant(slug: str) -> Tenant:
    tenant = find_tenant(slug)
    if tenant is None:
        raise Http404
    return tenant


View = Callable[..., HttpResponseBase]


@overload
def tenant_page(view: View) -> View: ...
@overload
def tenant_page(*, roles: Collection[Role]) -> Callable[[View], View]: ...
def tenant_page(view: View | None = None, *, roles: Collection[Role] = EVERYBODY) -> Any:
    """The door of a tenant's pages: sign-in, membership, role, then the view inside the tenant's transaction.

    Used bare or as `@tenant_page(roles=ADMINS)`. An unknown tenant and somebody else's look the same: 404.
    """

    def door(inside: View) -> View:
        @wraps(inside)
        def guarded(request: TenantRequest, tenant: str, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not request.user.is_authenticated:
                return to_sign_in(request)
            with transaction.atomic():
                place = require_tenant(tenant)
                set_user(request.user.id)
                set_tenant(place.id)
                # Not before: the page that says "not found" shows something of `request.tenant`
                request.member, request.tenant = require_membership(place, request.user), place
                if request.member.role not in roles:
                    raise PermissionDenied("Your role does not open this page.")
                response = inside(request, *args, **kwargs)
                render = getattr(response, "render", None)
                return render() if callable(render) else response  # inside the transaction: templates query too

        return guarded

    return door(view) if view else door


def operator_page(view: View) -> View:
    """The door of the operator's pages. They are in no tenant, so row-level security shows them none's rows."""

    @wraps(view)
    def guarded(request: TenantRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return to_sign_in(request)
        if not request.user.is_operator:
            raise Http404
        with transaction.atomic():
            return view(request, *args, **kwargs)

    return guarded


def require_membership(tenant: Tenant, user: User) -> Member:
    """The active membership of `user`, inside the tenant's transaction; 404 without."""
    member = Member.objects.select_related("user").filter(tenant=tenant, user=user, deactivated_at=None).first()
    if member is None or not user.is_active:
        raise Http404
    return member


def memberships(user: User) -> list[Member]:
    """Where this person belongs, over all tenants. In a transaction."""
    set_user(user.id)
    rows = Member.objects.select_related("tenant").filter(user=user, deactivated_at=None, tenant__suspended_at=None)
    return list(rows.order_by("tenant__name"))


def to_sign_in(request: HttpRequest) -> HttpResponseRedirect:
    return HttpResponseRedirect(f"/account/login/?next={quote(request.get_full_path())}")
