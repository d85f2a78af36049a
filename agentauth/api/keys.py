"""Signing keys over REST: which there are, another one now, or all of them withdrawn; and how often by the clock."""

from typing import Any

from django.db.models import Q
from django.utils.timezone import now
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from agentauth.api.door import TenantView
from agentauth.api.reading import Nothing, Strict, Text, body, query
from agentauth.api.words import Answers, EndedShape, show_ended
from agentauth.keys import rotating
from agentauth.keys.addresses import issuer
from agentauth.keys.models import SigningKey
from tenants.models import Tenant


class KeyShape(Strict):
    """One published key. Of those not retired, the newest whose `signs_from` has come signs."""

    kid = Text(help_text="As in the header of tokens and in the key set.")
    created_at = serializers.DateTimeField()
    signs_from = serializers.DateTimeField(help_text="In the future for a key that is published ahead of its turn.")
    retired_at = serializers.DateTimeField(allow_null=True, help_text="Since when it signs no more.")
    unpublish_at = serializers.DateTimeField(allow_null=True, help_text="Until when tokens of it verify.")


class KeysShape(Strict):
    issuer = serializers.URLField(help_text="What every token names as `iss`.")
    rotation_days = serializers.IntegerField(min_value=0, max_value=3650, help_text="0: on demand only.")
    next_at = serializers.DateTimeField(allow_null=True, help_text="When the next key begins to sign.")
    keys = KeyShape(many=True)


class KeysChange(Strict):
    rotation_days = serializers.IntegerField(min_value=0, max_value=3650)


class Keys(TenantView):
    read_scope, write_scope = "keys:read", "keys:write"

    @extend_schema(operation_id="getKeys", summary="Read issuer and signing keys", responses=Answers(KeysShape))
    def get(self, request: Request) -> Response:
        query(request, Nothing)
        return Response(show(self.tenant))

    @extend_schema(
        operation_id="changeKeys",
        summary="Set how often a new key is made",
        request=KeysChange,
        responses=Answers(KeysShape),
    )
    def patch(self, request: Request) -> Response:
        said = body(request, KeysChange)
        rotating.set_rotation(self.tenant, said["rotation_days"], by=self.caller.actor)
        return Response(show(self.tenant))


class RotateKeys(TenantView):
    write_scope = "keys:write"

    @extend_schema(
        operation_id="rotateKeys",
        summary="Make a new key that signs from now on",
        description="Tokens of the former keys verify until they end.",
        request=Nothing,
        responses=Answers(KeysShape),
    )
    def post(self, request: Request) -> Response:
        body(request, Nothing)
        rotating.rotate(self.tenant.id, by=self.caller.actor)
        return Response(show(self.tenant))


class WithdrawKeys(TenantView):
    write_scope = "keys:write"

    @extend_schema(
        operation_id="withdrawKeys",
        summary="Make a new key and withdraw every other one at once",
        description="For when somebody else may have a key: every access token issued so far is void, yours as well.",
        request=Nothing,
        responses=Answers(EndedShape),
    )
    def post(self, request: Request) -> Response:
        body(request, Nothing)
        ended = rotating.distrust(self.tenant.id, by=self.caller.actor)
        return Response(show_ended(ended))


def show(tenant: Tenant) -> dict[str, Any]:
    published = SigningKey.objects.filter(Q(unpublish_at=None) | Q(unpublish_at__gt=now()), tenant=tenant)
    shape = KeyShape(published.order_by("-signs_from"), many=True)
    return {
        "issuer": issuer(tenant),
        "rotation_days": tenant.key_rotation_days,
        "next_at": rotating.schedule(tenant).next_at,
        "keys": shape.data,
    }
