"""What the browser's session says: which browser this is, and when it was sent to sign in."""

import hashlib
import secrets
from urllib.parse import quote

from django.contrib.auth import logout
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import reverse
from django.utils.timezone import now

from agentauth.oauth.errors import RequestTooLarge
from tenants.models import User

_BROWSER = "oauth-browser"
_ASKED = "oauth-sign-in-asked"
_LONGEST = 16_000  # characters of a request's address, inside that of the sign-in


def browser_mark(request: HttpRequest) -> str:
    """A value that only this browser's session has; a form that carries it can be answered by no other browser."""
    secret = request.session.get(_BROWSER)
    if not isinstance(secret, str):
        secret = request.session[_BROWSER] = secrets.token_urlsafe(32)
    return hashlib.sha256(secret.encode()).hexdigest()


def asked_to_sign_in_at(request: HttpRequest, what: str = "") -> float | None:
    """When this browser was last sent to sign in for this very request, in seconds since 1970.

    `what` is asked about, where the address does not say that.
    """
    since = (request.session.get(_ASKED) or {}).get(_request_mark(request, what))
    return since if isinstance(since, int | float) else None


def forget_sign_in(request: HttpRequest) -> None:
    """This request has been answered: the very same, when it comes again, wants a sign-in of its own."""
    asked = request.session.get(_ASKED) or {}
    if asked.pop(_request_mark(request, ""), None) is not None:
        request.session[_ASKED] = asked


def to_sign_in_again(request: HttpRequest, user: User, *, page: str, what: str = "") -> HttpResponseRedirect:
    """Have the person prove again who they are at `page`, by its name, then come back to this very request."""
    _note_asked(request, what)
    if page != "account_reauthenticate" or user.has_usable_password():
        return _see(f"{reverse(page)}?next={_way_back(request)}")
    kept = {name: request.session[name] for name in (_ASKED, _BROWSER) if name in request.session}
    logout(request)
    request.session.update(kept)
    return to_sign_in(request)


def to_sign_in(request: HttpRequest, *, anew: bool = False) -> HttpResponseRedirect:
    """`anew`: the request wants to see a sign-in, and this will have been it."""
    if anew:
        _note_asked(request, "")
    return _see(f"/account/login/?next={_way_back(request)}")


def require_way_back(request: HttpRequest) -> None:
    """Refuse what would not come through a sign-in whole, whoever has signed in already. Raises RequestTooLarge."""
    if len(_way_back(request)) > _LONGEST:
        raise RequestTooLarge("The request is too long. Send it ahead (RFC 9126).", reason="address_too_long")


def _way_back(request: HttpRequest) -> str:
    return quote(request.get_full_path(), safe="")


def _note_asked(request: HttpRequest, what: str) -> None:
    asked = dict(list((request.session.get(_ASKED) or {}).items())[-4:])
    request.session[_ASKED] = asked | {_request_mark(request, what): now().timestamp()}


def _see(url: str) -> HttpResponseRedirect:
    response = HttpResponseRedirect(url)
    response["Cache-Control"] = "no-store"
    return response


def _request_mark(request: HttpRequest, what: str) -> str:
    return hashlib.sha256(f"{request.get_full_path()}\0{what}".encode()).hexdigest()[:32]
