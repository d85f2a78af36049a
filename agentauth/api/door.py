"""The door of the REST API: every view is one transaction in one tenant, on record under the agent and the person."""

import time
from typing import Any, ClassVar
from uuid import UUID

from django.db import InterfaceError, OperationalError, transaction
from django.http import HttpRequest, HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from agentauth.api.authentication import Caller, NeedsYes, caller_of, operation_of
from agentauth.api.problems import Problem, not_found
from agentauth.grants.approvals import ask
from agentauth.keys.addresses import pages_url
from agentauth.oauth.possession import nonce_header
from audit.actions import Action
from audit.record import ANONYMOUS, Actor, record
from tenants.access import ADMINS, AUDITORS, find_tenant
from tenants.models import Role, Tenant
from tenants.rls import in_tenant, new_id


class TenantView(APIView):
    """One noun's view. `read_scope` and `write_scope` name what a token needs, the roles what its person needs.

    A GET and a POST each run inside the tenant's transaction. An answer of 400 or more takes back whatever was written,
    and the refusal is put on record by itself.
    """

    read_scope: ClassVar[str] = ""
    write_scope: ClassVar[str] = ""
    read_roles: ClassVar[frozenset[Role]] = AUDITORS
    write_roles: ClassVar[frozenset[Role]] = ADMINS
    metadata_class = None  # OPTIONS tells nothing: the OpenAPI document tells all

    request: Request

    @property
    def caller(self) -> Caller:
        return caller_of(self.request)

    @property
    def tenant(self) -> Tenant:
        return self.caller.tenant

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            return self._inside(request, *args, **kwargs)
        except (OperationalError, InterfaceError) as error:
            return self._outside(request, error)

    def _inside(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        began = time.perf_counter_ns()
        tenant = find_tenant(kwargs.pop("tenant"))
        if tenant is None:
            return self._outside(request, not_found())
        request.tenant = tenant  # type: ignore[attr-defined]  # as every door does
        call = new_id()
        with in_tenant(tenant.id):
            answer = super().dispatch(request, *args, **kwargs)
            if answer.status_code >= 400:
                transaction.set_rollback(True)
            else:
                self._record_call(call, answer, began)
        if answer.status_code >= 400 and self._says_who():
            with in_tenant(tenant.id):
                self._record_refusal(call, tenant, answer)
                self._ask(tenant, answer)
        answer["AgentAuth-Call"] = str(call)
        answer["Cache-Control"] = "no-store"
        for name, value in nonce_header(request).items():
            answer[name] = value
        return answer

    def _outside(self, request: HttpRequest, why: Exception) -> HttpResponseBase:
        """An answer without a tenant: there is none of this name (as for an unknown id), or no database."""
        self.headers = self.default_response_headers
        drf_request = self.initialize_request(request)
        self.request = drf_request
        self.format_kwarg = None
        answer = self.handle_exception(why)
        return self.finalize_response(drf_request, answer)

    # On record: as an agent's call through the gateway is, so that "what my agents did for me" misses nothing.

    def _who(self) -> dict[str, Any]:
        why = getattr(self, "_refused_because", None)
        caller = why.whose if isinstance(why, Problem) and why.whose else getattr(self.request, "_user", None)
        if not isinstance(caller, Caller):
            return {"actor": ANONYMOUS}
        return {
            "actor": Actor("agent", str(caller.agent.id)),
            "agent_id": caller.agent.id,
            "member_id": caller.member.id if caller.member else None,
            "grant_id": caller.grant.id,
            "resource_id": caller.grant.resource_id,
        }

    def _what(self, call: UUID) -> dict[str, Any]:
        reads = self.request.method in ("GET", "HEAD", "OPTIONS")
        return {
            "call_id": call,
            "operation": operation_of(self.request),
            "ip": self.request.META.get("REMOTE_ADDR", ""),
            "details": {
                "protocol": "rest",
                "method": self.request.method,
                "path": self.request._request.path[:300],
                "scope": self.read_scope if reads else self.write_scope,
            },
        }

    def _record_call(self, call: UUID, answer: HttpResponseBase, began: int) -> None:
        tenant_id = self.tenant.id
        said = {**self._who(), **self._what(call)}
        record(Action.CALL_ALLOWED, tenant_id=tenant_id, decision="allow", **said)
        took = (time.perf_counter_ns() - began) // 1000
        record(
            Action.CALL_FINISHED,
            tenant_id=tenant_id,
            outcome="ok",
            status=answer.status_code,
            latency_us=took,
            **said,
        )

    def handle_exception(self, exc: Exception) -> Response:
        self._refused_because = exc
        return super().handle_exception(exc)

    def _ask(self, tenant: Tenant, answer: HttpResponseBase) -> None:
        why = getattr(self, "_refused_because", None)
        if isinstance(why, NeedsYes) and isinstance(answer, Response):
            question = ask(why.grant, operation=why.operation, args=why.shown, args_hash=why.args_hash)
            answer.data |= {"approval": str(question.id), "ask_at": f"{pages_url(tenant.slug)}/my/inbox/{question.id}/"}

    def _says_who(self) -> bool:
        """A request without any token is nobody's: not worth a line. One with a bad token is; a nonce told is not."""
        why = getattr(self, "_refused_because", None)
        if isinstance(why, Problem) and why.kind.code == "use-nonce":
            return False
        return bool(self.request._request.headers.get("Authorization"))

    def _record_refusal(self, call: UUID, tenant: Tenant, answer: HttpResponseBase) -> None:
        why = getattr(self, "_refused_because", None)
        asks = isinstance(why, NeedsYes)
        record(
            Action.CALL_ASKED if asks else Action.CALL_REFUSED,
            tenant_id=tenant.id,
            decision="ask" if asks else "refuse",
            reasons=[why.reason if isinstance(why, Problem) else _code(answer).replace("-", "_")],
            status=answer.status_code,
            **{**self._who(), **self._what(call)},
        )


def _code(answer: HttpResponseBase) -> str:
    data = answer.data if isinstance(answer, Response) else None
    return str(data.get("type", "")).rpartition("#")[2] if isinstance(data, dict) else ""
