"""Agents' credentials over REST: another way in, and the end of one."""

from typing import Any
from uuid import UUID

from django.utils.timezone import now
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from agentauth.agents.models import Agent, Credential, TrustedIssuer, WrongState
from agentauth.agents.registering import add_secret, add_workload
from agentauth.api.agent_shapes import CredentialMadeShape, CredentialShape, NewCredential, show_credential
from agentauth.api.agents import AgentView, add_key_named
from agentauth.api.problems import invalid, not_found
from agentauth.api.reading import Nothing, body
from agentauth.api.words import Answers
from tenants.models import Member


class AgentCredentials(AgentView):
    @extend_schema(
        operation_id="addCredential",
        summary="Add a credential",
        description="Two may be live at once, so that a change costs no downtime.",
        request=NewCredential,
        responses=Answers(CredentialMadeShape, status=201),
    )
    def post(self, request: Request, agent: UUID) -> Response:
        said = body(request, NewCredential)
        found = self.find(agent, to_change=True)
        by, expires_at = self.caller.person, said["expires_at"]
        if found.state == Agent.State.RETIRED:
            raise WrongState("This agent is retired: it needs no credential any more.")
        self._require_no_borrowed_grants(found)
        if said["kind"] == Credential.Kind.WORKLOAD:
            return self._let_in(found, said, by)
        for name in ("trusted_issuer", "claims"):
            if name in said:
                raise invalid(name, "Only a workload takes this.")
        if said["kind"] == Credential.Kind.SECRET:
            if "public_jwk" in said:
                raise invalid("public_jwk", "A secret takes no key.")
            credential, secret = add_secret(found, by=by, expires_at=expires_at)
            return Response({"credential": show_credential(credential), "secret": secret}, status=201)
        if "public_jwk" not in said:
            raise invalid("public_jwk", "Give the public key.")
        credential = add_key_named("public_jwk", found, said["public_jwk"], by, expires_at=expires_at)
        return Response({"credential": show_credential(credential)}, status=201)

    def _require_no_borrowed_grants(self, agent: Agent) -> None:
        """Delegation only narrows: with a way in of its own making the caller would have all that the other has."""
        if self.caller.member is None and agent.grants.filter(ended_at=None, expires_at__gt=now()).exists():
            raise WrongState("This agent has been granted something. An admin gives it a way in, not another agent.")

    def _let_in(self, agent: Agent, said: dict[str, Any], by: Member) -> Response:
        for name in ("trusted_issuer", "claims"):
            if name not in said:
                raise invalid(name, "A workload needs this.")
        if "public_jwk" in said:
            raise invalid("public_jwk", "A workload takes no key.")
        issuer = TrustedIssuer.objects.filter(tenant=self.tenant, id=said["trusted_issuer"]).first()
        if issuer is None:
            raise invalid("trusted_issuer", "There is no trusted issuer with this id.")
        credential = add_workload(agent, issuer, said["claims"], by=by, expires_at=said["expires_at"])
        return Response({"credential": show_credential(credential)}, status=201)


class RetireCredential(AgentView):
    @extend_schema(
        operation_id="retireCredential",
        summary="Retire a credential",
        request=Nothing,
        responses=Answers(CredentialShape),
    )
    def post(self, request: Request, agent: UUID, credential: UUID) -> Response:
        body(request, Nothing)
        found = self.find(agent).credentials.select_for_update(of=("self",)).filter(id=credential).first()
        if found is None:
            raise not_found()
        found.retire(by=self.caller.person)
        return Response(show_credential(found))
