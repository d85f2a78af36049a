"""What every answer tells the browser: nothing from elsewhere, nothing inline, nobody may frame us."""

from collections.abc import Callable, Iterable

from django.http import HttpRequest, HttpResponseBase

POLICY: dict[str, str] = {
    "default-src": "'none'",
    "style-src": "'self'",
    "script-src": "'self'",
    "img-src": "'self' data:",
    "connect-src": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
    "base-uri": "'none'",
}
PERMISSIONS = ", ".join(
    f"{feature}=()" for feature in ("camera", "geolocation", "microphone", "payment", "usb", "browsing-topics")
)


def widen(response: HttpResponseBase, directive: str, sources: Iterable[str]) -> None:
    """Let one page do more, e.g. `widen(page, "form-action", ["https://client.example"])`.

    Browsers hold `form-action` against the redirect after a form too, so a consent page must name where it leads.
    """
    wider: dict[str, list[str]] = getattr(response, "csp_wider", {})
    wider.setdefault(directive, []).extend(sources)
    response.csp_wider = wider  # type: ignore[attr-defined]  # read below, by us alone


class SecurityHeaders:
    """Middleware: the policy above on every response that has none of its own."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if "Content-Security-Policy" not in response:
            response["Content-Security-Policy"] = policy(getattr(response, "csp_wider", {}))
        response.setdefault("Permissions-Policy", PERMISSIONS)
        response.setdefault("Cross-Origin-Resource-Policy", "same-origin")
        if response.get("Content-Type", "").startswith("text/html"):
            response.setdefault("Cache-Control", "no-store")
        return response


def policy(wider: dict[str, list[str]]) -> str:
    """The header's value. A source that could break out of its directive is left out."""
    lines = []
    for directive, sources in POLICY.items():
        more = [source for source in wider.get(directive, ()) if not set(source) & set(" ;,\r\n\t'\"")]
        own = "" if more and sources == "'none'" else sources
        lines.append(" ".join(filter(None, [directive, own, *more])))
    return "; ".join(lines)
