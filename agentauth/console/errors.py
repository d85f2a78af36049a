"""What a person sees when something is missing, forbidden or broken."""

from django.http import HttpRequest, HttpResponse


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    return HttpResponse(
        "This form is no longer good. Go back, reload the page and send it again.",
        status=403,
    )
