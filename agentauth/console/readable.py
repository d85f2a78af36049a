"""What is not text is refused before any page reads it: NUL, which no column of PostgreSQL holds."""

from collections.abc import Callable, Iterator
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase, QueryDict


class Readable:
    """Middleware for pages. Protocol endpoints (those without a CSRF token) read strictly by themselves."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> HttpResponse | None:
        if getattr(view, "csrf_exempt", False):
            return None
        if any("\0" in text for text in _texts(request, kwargs)):
            return HttpResponse(
                "The request has a character that is not text.\n", status=400, content_type="text/plain"
            )
        return None


def _texts(request: HttpRequest, kwargs: dict[str, Any]) -> Iterator[str]:
    yield from (value for value in kwargs.values() if isinstance(value, str))
    sent: list[QueryDict] = [request.GET, request.POST]
    for data in sent:
        for name, values in data.lists():
            yield name
            yield from (value for value in values if isinstance(value, str))
