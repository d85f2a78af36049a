"""What the API says about itself: OpenAPI document, a page that draws it, the list of problems, RFC 9728 metadata."""

from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.renderers import OpenApiJsonRenderer
from drf_spectacular.views import SpectacularAPIView
from rest_framework.exceptions import MethodNotAllowed
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from agentauth.api.problems import KINDS, not_found
from agentauth.keys.addresses import issuer, management_url
from agentauth.oauth.door import open_document
from agentauth.oauth.dpop import ALGORITHMS
from agentauth.resources.founding import MANAGEMENT_SCOPES
from tenants.models import Tenant


class Document(SpectacularAPIView):
    """OpenAPI 3.1, from the code."""

    renderer_classes = [OpenApiJsonRenderer]
    authentication_classes = []
    permission_classes = [AllowAny]


class BearerInDocument(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # as the package has it
    """How `TenantBearer` is written down."""

    target_class = "agentauth.api.authentication.TenantBearer"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "An access token of the tenant's issuer whose resource is this tenant's management address.",
        }


class Nowhere(APIView):
    """Anything else under /api/: the same problem as an unknown id."""

    authentication_classes = []
    permission_classes = [AllowAny]
    schema = None

    def _nothing(self, request: Request, **kwargs: Any) -> Response:
        if request.method == "OPTIONS":
            raise MethodNotAllowed("OPTIONS")
        raise not_found()

    get = post = put = patch = delete = options = _nothing


@require_safe
def docs(request: HttpRequest) -> HttpResponse:
    return render(request, "api/docs.html")


@require_safe
def problems(request: HttpRequest) -> HttpResponse:
    return render(request, "api/problems.html", {"kinds": KINDS.values()})


@open_document
def metadata(tenant: Tenant) -> Mapping[str, Any]:
    """RFC 9728 §3: which authorization server to ask for a token for this API."""
    return {
        "resource": management_url(tenant.slug),
        "resource_name": "AgentAuth",
        "authorization_servers": [issuer(tenant)],
        "scopes_supported": list(MANAGEMENT_SCOPES),
        "bearer_methods_supported": ["header"],
        "dpop_signing_alg_values_supported": list(ALGORITHMS),
        "dpop_bound_access_tokens_required": False,
    }
