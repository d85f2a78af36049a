"""What a person sees when something is missing, forbidden or broken. Nothing of the cause goes outside."""

import logging
import secrets

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string

logger = logging.getLogger(__name__)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    return render(request, "403.html", {"stale": True}, status=403)


def broken(request: HttpRequest) -> HttpResponse:
    """A 500 with a number that stands in the log too. No database, no session: they may be what broke."""
    number = f"e-{secrets.token_hex(4)}"
    logger.error("%s is the failure above, at %s %s", number, request.method, request.path)
    return HttpResponse(render_to_string("500.html", {"number": number}), status=500)
