"""What the browser's session says: when its person last signed in, and which browser this is."""

import hashlib
import secrets
from datetime import UTC, datetime
from urllib.parse import quote

from django.contrib.auth import logout
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import NoReverseMatch, reverse
from django.utils.timezone import now

from tenants.models import User

_BROWSER = "oauth-browser"
_ASKED = "oauth-sign-in-asked"
_METHODS = "account_authentication_methods"  # written at sign-in, with the second of each proof


def browser_mark(request: HttpRequest) -> str:
    """A value that only this browser's session has; a form that carries it can be answered by no other browser."""
    secret = request.session.get(_BROWSER)
    if not isinstance(secret, str):
        secret = request.session[_BROWSER] = secrets.token_urlsafe(32)
    return hashlib.sha256(secret.encode()).hexdigest()


def signed_in_at(request: HttpRequest, user: User) -> datetime:
    """When this person last proved to this browser's session who they are (OpenID Connect Core §2, `auth_time`)."""
    proofs = [entry.get("at") for entry in request.session.get(_METHODS) or [] if isinstance(entry, dict)]
    times = [at for at in proofs if isinstance(at, int | float)]
    if times:
        return datetime.fromtimestamp(max(times), UTC)
    return user.last_login or datetime.fromtimestamp(0, UTC)


def must_sign_in_again(request: HttpRequest, user: User, *, prompt_login: bool, max_age: int | None) -> bool:
    """OpenID Connect Core §3.1.2.1: for `prompt=login` once per request, for `max_age` when the sign-in is too old."""
    at = signed_in_at(request, user)
    if max_age is not None and (now() - at).total_seconds() > max_age and not _was_asked(request, at):
        return True
    return prompt_login and not _was_asked(request, at)


def _was_asked(request: HttpRequest, at: datetime) -> bool:
    asked = request.session.get(_ASKED) or {}
    since = asked.get(_request_mark(request))
    return isinstance(since, int | float) and at.timestamp() >= since


def to_sign_in_again(request: HttpRequest, user: User) -> HttpResponseRedirect:
    """Have the person prove again who they are, then come back to this very request."""
    asked = dict(list((request.session.get(_ASKED) or {}).items())[-4:])
    asked[_request_mark(request)] = int(now().timestamp())
    request.session[_ASKED] = asked
    back = quote(request.get_full_path(), safe="")
    try:
        if user.has_usable_password():
            return _see(f"{reverse('account_reauthenticate')}?next={back}")
    except NoReverseMatch:
        pass
    kept = {name: request.session[name] for name in (_ASKED, _BROWSER) if name in request.session}
    logout(request)
    request.session.update(kept)
    return to_sign_in(request)


def to_sign_in(request: HttpRequest) -> HttpResponseRedirect:
    return _see(f"/account/login/?next={quote(request.get_full_path(), safe='')}")


def _see(url: str) -> HttpResponseRedirect:
    response = HttpResponseRedirect(url)
    response["Cache-Control"] = "no-store"
    return response


def _request_mark(request: HttpRequest) -> str:
    return hashlib.sha256(request.get_full_path().encode()).hexdigest()[:32]
