"""Issuers at hosts of their own: the Host header says whose door this is, before any path is read.

At a tenant's own host only its issuer and the sign-in are to be found, under paths without the tenant's name; at the
installation's host that issuer is not there any more. Both hold for every address of the issuer, since the name that
the doors get out of a path says which host was asked (`IssuerName`).
"""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.auth.models import AnonymousUser
from django.contrib.auth.signals import user_logged_in
from django.core.exceptions import DisallowedHost
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponseBase
from django.http.request import split_domain_port
from django.urls import register_converter
from django.urls.converters import StringConverter

from tenants.access import IssuerName
from tenants.hosts import is_host_name
from tenants.models import Tenant

OWN_MAP = "agentauth.issuer_urls"
_SIGNED_IN_AT = "signed-in-at-host"


class NameInPath(StringConverter):
    """`t/<issuer:tenant>/…`: an issuer at a path of the installation's host."""

    def to_python(self, value: str) -> IssuerName:
        return IssuerName(value)


class NameInHost:
    """`<here:tenant>…`: takes no room in the path; the middleware below says who it is."""

    regex = ""

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return ""


register_converter(NameInPath, "issuer")
register_converter(NameInHost, "here")


class OwnHost:
    """Middleware, the first of all: it decides which hosts we answer at, and which map of paths counts there."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        host, _ = split_domain_port(request.get_host())
        if host not in settings.OUR_HOSTS:
            slug = find_slug(host)
            if slug is not None:
                request.own_issuer = IssuerName(slug, host)  # type: ignore[attr-defined]  # read below, by us alone
                request.urlconf = OWN_MAP
                # TLS may end in front of us; the issuer's scheme is the installation's
                request.META["wsgi.url_scheme"] = settings.KNOBS.base_url.partition(":")[0]
            elif not settings.ANY_HOST:
                raise DisallowedHost(f"{host} is no host of ours: AGENTAUTH_BASE_URL or a tenant's issuer host.")
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: dict[str, Any]) -> None:
        name = getattr(request, "own_issuer", None)
        if settings.SESSION_COOKIE_NAME in request.COOKIES:
            self._require_signed_in_here(request)
        if name is not None and kwargs.get("tenant") == "":
            kwargs["tenant"] = name

    def _require_signed_in_here(self, request: HttpRequest) -> None:
        """No browser brings a cookie to another host. Who rules a tenant's own host could, once it leads to them."""
        session = request.session
        if SESSION_KEY in session and session.get(_SIGNED_IN_AT, "") != _own_host(request):
            session.flush()
            request.user = AnonymousUser()


@receiver(user_logged_in)
def note_host(request: HttpRequest, **_: Any) -> None:
    if _own_host(request):
        request.session[_SIGNED_IN_AT] = _own_host(request)


def _own_host(request: HttpRequest) -> str:
    name: IssuerName | None = getattr(request, "own_issuer", None)
    return name.host if name is not None else ""


def find_slug(host: str) -> str | None:
    """Whose issuer is at this host. Asked of the database each time: it may have moved a moment ago."""
    if not is_host_name(host):
        return None
    return Tenant.objects.filter(issuer_host=host).values_list("slug", flat=True).first()
