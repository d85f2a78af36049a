"""Letting an API check tokens itself, over REST: the secrets and keys of its own server (RFC 7662)."""

from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from agentauth.api.door import TenantView
from agentauth.api.problems import invalid, not_found
from agentauth.api.reading import Nothing, Strict, Text, body, query
from agentauth.api.words import Answers
from agentauth.resources.checking import add_server_credential, add_server_key, client_id_of
from agentauth.resources.models import Resource, ServerCredential
from tenants.models import Member


class ServerCredentialShape(Strict):
    """With it the resource's own server asks whether a token counts. It gets no tokens."""

    id = serializers.UUIDField()
    client_id = Text(help_text="The name that goes with the secret.")
    kind = serializers.ChoiceField(["secret", "key"])
    hint = Text(help_text="The last four characters of the secret, or of the key's id.")
    created_at = serializers.DateTimeField()
    retired_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True)


class NewServerCredential(Strict):
    public_jwk = serializers.DictField(required=False, help_text="The public key, if it proves itself with one.")


class ServerCredentialsShape(Strict):
    items = ServerCredentialShape(many=True)


class ServerCredentialMadeShape(Strict):
    credential = ServerCredentialShape()
    secret = Text(allow_null=True, help_text="Shown this once; null for a key.")


class _Checks(TenantView):
    read_scope, write_scope = "resources:read", "resources:write"

    def find(self, resource: UUID) -> Resource:
        found = Resource.objects.filter(tenant=self.tenant, id=resource).first()
        if found is None:
            raise not_found()
        return found


class TokenChecks(_Checks):
    @extend_schema(
        operation_id="listServerCredentials",
        summary="List a resource's own secrets for checking tokens",
        responses=Answers(ServerCredentialsShape),
    )
    def get(self, request: Request, resource: UUID) -> Response:
        query(request, Nothing)
        found = self.find(resource)
        rows = found.server_credentials.order_by("-id")
        return Response({"items": [show(one, found) for one in rows]})

    @extend_schema(
        operation_id="addServerCredential",
        summary="Let an API check tokens itself",
        description="With a new secret, or with a key of its own (private_key_jwt). Two may be live at once, so that "
        "a change costs no downtime.",
        request=NewServerCredential,
        responses=Answers(ServerCredentialMadeShape, status=201),
    )
    def post(self, request: Request, resource: UUID) -> Response:
        said = body(request, NewServerCredential)
        found, by = self.find(resource), self.caller.person
        credential, secret = _add(found, said["public_jwk"], by) if said else add_server_credential(found, by=by)
        return Response({"credential": show(credential, found), "secret": secret}, status=201)


class RetireTokenCheck(_Checks):
    @extend_schema(
        operation_id="retireServerCredential",
        summary="Retire such a secret",
        request=Nothing,
        responses=Answers(ServerCredentialShape),
    )
    def post(self, request: Request, resource: UUID, credential: UUID) -> Response:
        body(request, Nothing)
        found = self.find(resource)
        one = found.server_credentials.select_for_update(of=("self",)).filter(id=credential).first()
        if one is None:
            raise not_found()
        one.retire(by=self.caller.person)
        return Response(show(one, found))


def _add(resource: Resource, public_jwk: dict[str, Any], by: Member) -> tuple[ServerCredential, None]:
    try:
        return add_server_key(resource, public_jwk, by=by), None
    except ValidationError as wrong:
        raise invalid("public_jwk", " ".join(wrong.messages)) from None


def show(credential: ServerCredential, resource: Resource) -> dict[str, Any]:
    names = ("hint", "created_at", "retired_at", "last_used_at")
    said = {name: getattr(credential, name) for name in names}
    said["kind"] = "secret" if credential.public_jwk is None else "key"
    return {"id": str(credential.id), "client_id": client_id_of(resource)} | said
