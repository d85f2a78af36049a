"""What a person sees of the authorization server besides the question itself, and how they leave it."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from agentauth.oauth.errors import OAuthError
from tenants.models import Tenant

# No `form-action`: browsers hold it against every redirect after the form, and where a client's callback leads from
# there we cannot know. These pages run no script and show all foreign text escaped.
WITHOUT_SCRIPT = "default-src 'none'; style-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'"


def refused(
    request: HttpRequest, tenant: Tenant, error: OAuthError, status: int = 400, *, is_answer: bool = False
) -> HttpResponse:
    """Told to the person, since there is nobody else to tell (OAuth 2.1 §4.1.2.1).

    `is_answer`: it was their own answer that could not be taken, for which no program is to blame.
    """
    told = {"organisation": tenant, "error": error, "is_answer": is_answer}
    told["is_second"] = error.reason == "consent_answered"
    page = render(request, "oauth/refused.html", told, status=status)
    page["Content-Security-Policy"] = WITHOUT_SCRIPT
    page["Cache-Control"] = "no-store"
    return page


class _SeeOther(HttpResponse):
    """303 to any scheme: an app's own too, which was checked when it was registered."""

    status_code = 303


def seen(url: str) -> HttpResponse:
    """RFC 9700 §4.12: 303, so that no browser sends a form's content on. The address holds a code: no referrer."""
    headers = {"Location": url, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    return _SeeOther(headers=headers)
