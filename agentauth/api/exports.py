"""Evidence over REST: order an export, watch it, stop it, fetch the bundle."""

from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import FileResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from agentauth.agents.models import WrongState
from agentauth.api.door import TenantView
from agentauth.api.paging import PageQuery, page
from agentauth.api.problems import invalid, not_found
from agentauth.api.reading import Nothing, Strict, Text, body, query
from agentauth.api.words import Answers
from audit.export.requesting import NoBundle, NotExportable, open_bundle, request_export
from audit.models import Export
from tenants.access import AUDITORS


class ExportShape(Strict):
    """An order for evidence, how far it is, and what came of it."""

    id = serializers.UUIDField()
    requested_by = serializers.UUIDField(help_text="The member on whose authority.")
    requested_at = serializers.DateTimeField()
    since = serializers.DateTimeField()
    until = serializers.DateTimeField(help_text="Not included.")
    query = Text()
    format = serializers.ChoiceField(Export.Format.choices)
    state = serializers.ChoiceField(Export.State.choices)
    rows_done = serializers.IntegerField()
    rows_total = serializers.IntegerField()
    tree_size = serializers.IntegerField(allow_null=True, help_text="Of the checkpoint that it proves against.")
    finished_at = serializers.DateTimeField(allow_null=True)
    expires_at = serializers.DateTimeField(allow_null=True, help_text="Until when the bundle can be fetched.")
    size_bytes = serializers.IntegerField()
    sha256 = Text(help_text="Of the bundle.")
    failure = Text()


class ExportPageShape(Strict):
    items = ExportShape(many=True)
    next = serializers.URLField(allow_null=True, help_text="The next page, or null at the end.")


class NewExport(Strict):
    since = serializers.DateTimeField()
    until = serializers.DateTimeField(help_text="Not included; an end in the future is now.")
    query = Text(max_length=500, allow_blank=True, default="", help_text="As in searching events; empty for all.")
    format = serializers.ChoiceField(Export.Format.choices, default=Export.Format.JSONL.value)


class ZipRenderer(BaseRenderer):
    """So that a client may say that it accepts the bundle's type. The file itself never goes through a renderer."""

    media_type = "application/zip"
    format = "zip"


class _Exports(TenantView):
    read_scope, write_scope = "exports:read", "exports:write"
    write_roles = AUDITORS

    def rows(self) -> "QuerySet[Export]":
        return Export.objects.filter(tenant=self.tenant)

    def find(self, export: UUID) -> Export:
        found = self.rows().filter(id=export).first()
        if found is None:
            raise not_found()
        return found


class Exports(_Exports):
    @extend_schema(
        operation_id="listExports", summary="List exports", parameters=[PageQuery], responses=Answers(ExportPageShape)
    )
    def get(self, request: Request) -> Response:
        return page(request, self.rows(), query(request, PageQuery), show)

    @extend_schema(
        operation_id="requestExport",
        summary="Order an export",
        description="Answers at once; the work is done in the background. Read it until `state` is ready.",
        request=NewExport,
        responses=Answers(ExportShape, status=202),
        examples=[
            OpenApiExample(
                "Refusals in January",
                request_only=True,
                value={
                    "since": "2027-01-01T00:00:00Z",
                    "until": "2027-02-01T00:00:00Z",
                    "query": "decision:refuse",
                    "format": "csv",
                },
            )
        ],
    )
    def post(self, request: Request) -> Response:
        said = body(request, NewExport)
        try:
            export = request_export(self.tenant, by=self.caller.person, **said)
        except NotExportable as wrong:
            raise invalid(wrong.field, wrong.message) from None
        here = f"{request._request.path}/{export.id}"
        return Response(show(export), status=202, headers={"Location": here})


class OneExport(_Exports):
    @extend_schema(operation_id="getExport", summary="How far an export is", responses=Answers(ExportShape))
    def get(self, request: Request, export: UUID) -> Response:
        query(request, Nothing)
        return Response(show(self.find(export)))


class CancelExport(_Exports):
    @extend_schema(
        operation_id="cancelExport", summary="Stop an export", request=Nothing, responses=Answers(ExportShape)
    )
    def post(self, request: Request, export: UUID) -> Response:
        body(request, Nothing)
        found = self.find(export)
        if not found.cancel(by=self.caller.person):
            raise WrongState(f"This export is {found.state}: there is nothing to stop.")
        return Response(show(found))


class ExportBundle(_Exports):
    renderer_classes = [JSONRenderer, ZipRenderer]

    @extend_schema(
        operation_id="downloadExport",
        summary="Fetch the bundle",
        description="A zip that verifies offline: `python verify.py BUNDLE`. That it was fetched is on record.",
        responses=Answers(OpenApiTypes.BINARY, media_type="application/zip"),
    )
    def get(self, request: Request, export: UUID) -> FileResponse:
        query(request, Nothing)
        found = self.find(export)
        try:
            path = open_bundle(found, by=self.caller.person)
        except NoBundle as why:
            raise WrongState(str(why)) from None
        name = f"{self.tenant.slug}-{found.since:%Y%m%d}-{found.until:%Y%m%d}-{str(found.id)[-8:]}.zip"
        return FileResponse(path.open("rb"), as_attachment=True, filename=name, content_type="application/zip")


def show(export: Export) -> dict[str, Any]:
    names = ("requested_at", "since", "until", "query", "format", "state", "rows_done", "rows_total", "tree_size",
             "finished_at", "expires_at", "size_bytes", "sha256", "failure")  # fmt: skip
    return {
        "id": str(export.id),
        "requested_by": str(export.requested_by),
        **{name: getattr(export, name) for name in names},
    }
