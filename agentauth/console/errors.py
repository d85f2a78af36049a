"""What a person sees when something is missing, forbidden or broken. Nothing of the cause goes outside."""

import logging
import re
import secrets
import sys

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.template.loader import render_to_string

from agentauth.keys.ring import RingError

logger = logging.getLogger(__name__)

_FOR_PROGRAMS = re.compile(r"/\.well-known/|/oauth/(?!(?:authorize|consent|device)\b)")


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    return render(request, "403.html", {"stale": True}, status=403)


def broken(request: HttpRequest) -> HttpResponse:
    """A 500 with a number that stands in the log too. No database, no session: they may be what broke.

    Without the database, or the key ring that a page needs, it is a 503: nothing was changed.
    """
    cause = sys.exc_info()[1]
    if isinstance(cause, OperationalError | InterfaceError):
        return _unavailable(request)
    if isinstance(cause, RingError):
        logger.error("at %s %s: %s", request.method, request.path, cause)
        return HttpResponse(render_to_string("500.html", {"no_ring": True}), status=503)
    number = f"e-{secrets.token_hex(4)}"
    logger.error("%s is the failure above, at %s %s", number, request.method, request.path)
    return HttpResponse(render_to_string("500.html", {"number": number}), status=500)


def _unavailable(request: HttpRequest) -> HttpResponse:
    """For programs in their own words (RFC 6749 §4.1.2.1), for people as a page."""
    logger.error("the database does not answer, at %s %s", request.method, request.path)
    if _FOR_PROGRAMS.search(request.path):
        said = {"error": "temporarily_unavailable", "error_description": "The database does not answer. Try again."}
        answer: HttpResponse = JsonResponse(said, status=503)
    else:
        answer = HttpResponse(render_to_string("500.html", {"unavailable": True}), status=503)
    answer["Retry-After"], answer["Cache-Control"] = "2", "no-store"
    return answer
