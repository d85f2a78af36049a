"""Trusted issuers over REST: whose tokens count here besides our own, for people or for machines."""

from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from agentauth.agents.models import RISKS, TrustedIssuer, WrongState
from agentauth.agents.trusted import ALGORITHMS
from agentauth.agents.trusting import LONGEST_GRANT, trust_issuer, try_trusting
from agentauth.api.door import TenantView
from agentauth.api.paging import PageQuery, page
from agentauth.api.problems import invalid, not_found
from agentauth.api.reading import Nothing, Strict, Text, body, query
from agentauth.api.words import Answers, EndedShape, show_ended
from agentauth.grants.distrusting import remove_issuer, suspend_issuer
from agentauth.oauth.trust.looking import NotThere, look


class NewTrustedIssuer(Strict):
    kind = serializers.ChoiceField(TrustedIssuer.Kind.choices)
    name = Text(max_length=80)
    issuer = Text(max_length=500, help_text="Exactly as in `iss` of its tokens; for SPIFFE the domain, spiffe://…")
    keys_from = serializers.ChoiceField(TrustedIssuer.KeysFrom.choices, default="discovery")
    jwks_uri = Text(max_length=500, allow_blank=True, default="", help_text="For `address`.")
    jwks = serializers.DictField(required=False, allow_null=True, default=None, help_text="For `pasted`: public keys.")
    algorithms = serializers.ListField(child=serializers.ChoiceField(ALGORITHMS), default=list(ALGORITHMS))
    audience = Text(
        max_length=500, allow_blank=True, default="", help_text="What `aud` of its tokens must be; empty: our issuer."
    )
    email_domains = serializers.ListField(child=Text(max_length=253), default=list, max_length=50)
    ceiling_risk = serializers.ChoiceField(RISKS, default="change", help_text="The most it may allow for a person.")
    grant_days = serializers.IntegerField(min_value=1, max_value=LONGEST_GRANT, default=30)
    act_order = serializers.ChoiceField(
        TrustedIssuer.ActOrder.choices, default="", allow_blank=True, help_text="Empty: its tokens are not exchanged."
    )


class TrustedIssuerShape(NewTrustedIssuer):
    """Somebody else's issuer whose tokens count here."""

    id = serializers.UUIDField()
    created_at = serializers.DateTimeField()
    suspended_at = serializers.DateTimeField(allow_null=True)
    removed_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True)


class TrustedIssuerPageShape(Strict):
    items = TrustedIssuerShape(many=True)
    next = serializers.URLField(allow_null=True, help_text="The next page, or null at the end.")


class TrustedIssuerEndedShape(Strict):
    trusted_issuer = TrustedIssuerShape()
    ended = EndedShape()


class _TrustedIssuers(TenantView):
    read_scope, write_scope = "agents:read", "agents:write"

    def rows(self) -> "QuerySet[TrustedIssuer]":
        return TrustedIssuer.objects.filter(tenant=self.tenant)

    def find(self, issuer: UUID) -> TrustedIssuer:
        found = self.rows().filter(id=issuer).first()
        if found is None:
            raise not_found()
        return found

    def require_person(self, kind: str) -> None:
        """Whoever has an identity provider believed can be anybody here: more than an agent by itself may hand on."""
        if kind == TrustedIssuer.Kind.ENTERPRISE and self.caller.member is None:
            raise WrongState("A sign-in provider speaks for people. An admin has it trusted, not an agent for itself.")


class TrustedIssuers(_TrustedIssuers):
    @extend_schema(
        operation_id="listTrustedIssuers",
        summary="List trusted issuers",
        parameters=[PageQuery],
        responses=Answers(TrustedIssuerPageShape),
    )
    def get(self, request: Request) -> Response:
        return page(request, self.rows(), query(request, PageQuery), show)

    @extend_schema(
        operation_id="trustIssuer",
        summary="Trust an issuer",
        description=(
            "Its keys are looked at first; what cannot be read is not trusted. An identity provider (`enterprise`) "
            "speaks for people, so the token has to act for an admin."
        ),
        request=NewTrustedIssuer,
        responses=Answers(TrustedIssuerShape, status=201),
        examples=[
            OpenApiExample(
                "GitHub Actions",
                request_only=True,
                value={
                    "kind": "workload",
                    "name": "GitHub Actions",
                    "issuer": "https://token.actions.githubusercontent.com",
                },
            )
        ],
    )
    def post(self, request: Request) -> Response:
        said = body(request, NewTrustedIssuer)
        self.require_person(said["kind"])
        try_trusting(self.tenant, by=self.caller.person, **said)
        try:  # after our own complaints, which cost nobody a request; nothing is locked meanwhile
            look(**{name: said[name] for name in ("kind", "issuer", "keys_from", "jwks_uri", "jwks")})
        except NotThere as why:
            raise invalid(why.field, str(why)) from None
        made = trust_issuer(self.tenant, by=self.caller.person, **said)
        headers = {"Location": f"{request._request.path}/{made.id}"}
        return Response(show(made), status=201, headers=headers)


class OneTrustedIssuer(_TrustedIssuers):
    @extend_schema(
        operation_id="getTrustedIssuer", summary="Read a trusted issuer", responses=Answers(TrustedIssuerShape)
    )
    def get(self, request: Request, issuer: UUID) -> Response:
        query(request, Nothing)
        return Response(show(self.find(issuer)))


class SuspendTrustedIssuer(_TrustedIssuers):
    @extend_schema(
        operation_id="suspendTrustedIssuer",
        summary="Trust an issuer no more, for now",
        description="Grants that it gave in people's place end, tokens that it got are void.",
        request=Nothing,
        responses=Answers(TrustedIssuerEndedShape),
    )
    def post(self, request: Request, issuer: UUID) -> Response:
        body(request, Nothing)
        found = self.find(issuer)
        ended = suspend_issuer(found, by=self.caller.person)
        return Response({"trusted_issuer": show(found), "ended": show_ended(ended)})


class RemoveTrustedIssuer(_TrustedIssuers):
    @extend_schema(
        operation_id="removeTrustedIssuer",
        summary="Trust an issuer never again",
        description="As suspending, and workload identities that stand on it are retired. It can be added anew.",
        request=Nothing,
        responses=Answers(TrustedIssuerEndedShape),
    )
    def post(self, request: Request, issuer: UUID) -> Response:
        body(request, Nothing)
        found = self.find(issuer)
        ended = remove_issuer(found, by=self.caller.person)
        return Response({"trusted_issuer": show(found), "ended": show_ended(ended)})


class LetTrustedIssuerBack(_TrustedIssuers):
    @extend_schema(
        operation_id="letTrustedIssuerBack",
        summary="Trust a suspended issuer again",
        request=Nothing,
        responses=Answers(TrustedIssuerShape),
    )
    def post(self, request: Request, issuer: UUID) -> Response:
        body(request, Nothing)
        found = self.find(issuer)
        self.require_person(found.kind)
        found.let_back(by=self.caller.person)
        return Response(show(found))


def show(issuer: TrustedIssuer) -> dict[str, Any]:
    names: list[str] = list(TrustedIssuerShape().get_fields())
    return {name: getattr(issuer, name) for name in names}
