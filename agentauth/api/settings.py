"""What counts for the whole tenant, over REST: who may introduce themselves, and what they may do unapproved."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from agentauth.agents.introducing import set_introductions
from agentauth.agents.models import RISKS
from agentauth.api.door import TenantView
from agentauth.api.reading import Nothing, Strict, body, query
from agentauth.api.words import Answers
from tenants.models import Tenant


class SettingsShape(Strict):
    """Agents that nobody here registered."""

    open_registration = serializers.BooleanField(help_text="May clients introduce themselves (RFC 7591, documents)?")
    approval_first = serializers.BooleanField(help_text="May they do nothing before an admin has approved them?")
    unapproved_ceiling = serializers.ChoiceField(RISKS, help_text="The most they may be granted before that.")


class Settings(TenantView):
    read_scope, write_scope = "agents:read", "agents:write"

    @extend_schema(operation_id="getSettings", summary="Read the settings", responses=Answers(SettingsShape))
    def get(self, request: Request) -> Response:
        query(request, Nothing)
        return Response(show(self.tenant))

    @extend_schema(
        operation_id="changeSettings",
        summary="Change the settings",
        description="What is not named stays.",
        request=SettingsShape,
        responses=Answers(SettingsShape),
    )
    def patch(self, request: Request) -> Response:
        said = body(request, SettingsShape, partial=True)
        set_introductions(self.tenant, by=self.caller.person, **(show(self.tenant) | said))
        return Response(show(self.tenant))


def show(tenant: Tenant) -> dict[str, Any]:
    return {name: getattr(tenant, name) for name in ("open_registration", "approval_first", "unapproved_ceiling")}
