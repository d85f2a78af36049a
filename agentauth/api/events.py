"""The record over REST: search it in the console's language, read one event with its proof."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from agentauth.api.door import TenantView
from agentauth.api.paging import PageQuery, listed
from agentauth.api.problems import Problem, not_found
from agentauth.api.reading import Nothing, Strict, Text, query
from agentauth.api.words import Answers
from audit.actions import Action
from audit.models import Event
from audit.proof import proof_of
from audit.query import QueryError
from audit.record import record
from audit.search import search
from tenants.access import EVERYBODY
from tenants.models import Tenant


class ActorShape(Strict):
    kind = Text(help_text="member, agent, operator, task, anonymous")
    id = Text()


class SubjectShape(Strict):
    kind = Text()
    id = Text()


class EventShape(Strict):
    """One line of the record. Ids are kept, not names."""

    id = serializers.UUIDField()
    at = serializers.DateTimeField()
    action = Text(help_text="What happened, e.g. `call.refused`.")
    actor = ActorShape()
    agent = serializers.UUIDField(allow_null=True)
    member = serializers.UUIDField(allow_null=True)
    grant = serializers.UUIDField(allow_null=True)
    resource = serializers.UUIDField(allow_null=True)
    operation = Text()
    subject = SubjectShape(allow_null=True)
    decision = Text()
    reasons = serializers.ListField(child=Text())
    outcome = Text()
    status = serializers.IntegerField(allow_null=True)
    latency_us = serializers.IntegerField(allow_null=True)
    args_hash = Text()
    call = serializers.UUIDField(allow_null=True)
    ip = Text()
    details = serializers.DictField()


class ProofShape(Strict):
    """That the event stands in the signed tree (RFC 9162). Hashes are hexadecimal."""

    index = serializers.IntegerField()
    leaf_hash = Text(help_text="SHA-256 of a zero byte and `body`.")
    path = serializers.ListField(child=Text(), help_text="The audit path, from the leaf up.")
    size = serializers.IntegerField()
    root = Text()  # type: ignore[assignment]  # a field, not the property
    checkpoint = Text(help_text="The signed tree head (C2SP signed note).")
    problem = Text(help_text="What does not hold; empty when the server finds the proof sound.")


class EventWholeShape(EventShape):
    """An event as it was hashed, and its proof."""

    body = Text(help_text="The exact text that was hashed.")
    proof = ProofShape(  # a field
        allow_null=True, help_text="null until the sequencer has given the event its place."
    )


class EventPageShape(Strict):
    items = EventShape(many=True)
    next = serializers.URLField(allow_null=True, help_text="Older events, or null at the end.")


class EventQuery(PageQuery):
    q = serializers.CharField(
        required=False,
        allow_blank=True,
        default="",
        max_length=500,
        help_text="The console's search language: `agent:\"Matt's assistant\" decision:refuse since:7d`.",
    )
    cursor = serializers.CharField(required=False, max_length=200, help_text="From `next` of the page before.")


class Events(TenantView):
    read_scope = "events:read"
    read_roles = EVERYBODY

    @extend_schema(
        operation_id="searchEvents",
        summary="Search the record",
        description="Newest first. A plain member sees what was done by and for them. A search is itself on record.",
        parameters=[EventQuery],
        responses=Answers(EventPageShape),
    )
    def get(self, request: Request) -> Response:
        asked = query(request, EventQuery)
        own = self.caller.member.id if self.caller.member and self.caller.sees_only_own else None
        try:
            found = search(self.tenant, asked["q"], before=asked.get("cursor"), limit=asked["limit"], only_member=own)
        except QueryError as error:
            said = {"field": "q", "detail": str(error), "position": error.position}
            raise Problem("invalid", "This search cannot be understood.", errors=[said]) from None
        if "cursor" not in asked:
            record(
                Action.RECORD_SEARCHED,
                tenant_id=self.tenant.id,
                actor=self.caller.actor,
                agent_id=self.caller.agent.id,
                member_id=self.caller.member.id if self.caller.member else None,
                details={"query": asked["q"]},
            )
        return listed(request, (show(event) for event in found.events), found.next_cursor)


class OneEvent(TenantView):
    read_scope = "events:read"
    read_roles = EVERYBODY

    @extend_schema(operation_id="getEvent", summary="Read one event and its proof", responses=Answers(EventWholeShape))
    def get(self, request: Request, event: UUID) -> Response:
        query(request, Nothing)
        found = self.find(event)
        return Response(show(found) | {"body": found.body, "proof": _proof(self.tenant, found)})

    def find(self, event: UUID) -> Event:
        found = Event.objects.filter(tenant=self.tenant, id=event).first()
        if found is None or (self.caller.sees_only_own and not self._is_own(found)):
            raise not_found()
        return found

    def _is_own(self, event: Event) -> bool:
        member = self.caller.member
        return member is not None and (
            event.member_id == member.id or (event.actor_kind, event.actor) == ("member", str(member.id))
        )


def _proof(tenant: Tenant, event: Event) -> dict[str, Any] | None:
    proof = proof_of(tenant, event.id)
    if proof is None:
        return None
    return {
        "index": proof.index,
        "leaf_hash": proof.leaf_hash.hex(),
        "path": [step.hex() for step in proof.path],
        "size": proof.size,
        "root": proof.root.hex(),
        "checkpoint": proof.note,
        "problem": proof.problem,
    }


def show(event: Event) -> dict[str, Any]:
    return {
        "id": str(event.id),
        "at": event.at,
        "action": event.action,
        "actor": {"kind": event.actor_kind, "id": event.actor},
        "agent": event.agent_id,
        "member": event.member_id,
        "grant": event.grant_id,
        "resource": event.resource_id,
        "operation": event.operation,
        "subject": {"kind": event.subject_kind, "id": event.subject} if event.subject else None,
        "decision": event.decision,
        "reasons": event.reasons,
        "outcome": event.outcome,
        "status": event.status,
        "latency_us": event.latency_us,
        "args_hash": event.args_hash,
        "call": event.call_id,
        "ip": event.ip,
        "details": event.details,
    }
