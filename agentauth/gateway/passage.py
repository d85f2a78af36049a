"""The steps that every call takes, whatever its protocol: intent, upstream, outcome. None can be skipped."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from agentauth.gateway.calls import Call
from agentauth.gateway.forward import UpstreamProblem
from agentauth.gateway.intent import Intent, Verdict
from agentauth.gateway.request import Gone, Request, TooLarge
from agentauth.gateway.whether import ends_at
from agentauth.gateway.worker import Worker
from agentauth.policy.decision import Reason, refuse
from audit.actions import Action

log = logging.getLogger(__name__)

WATCH_AFTER = 0.5  # seconds after which we watch whether a caller is still there


@dataclass(slots=True)
class Done:
    """What came of a call that was let in. `status` is what the caller was told, 0 if nothing any more."""

    status: int
    outcome: str = "ok"
    details: dict[str, Any] | None = None


Exchange = Callable[[Call], Awaitable[Done]]
TellProblem = Callable[[int, str, str], Awaitable[None]]
TellRefusal = Callable[[Verdict], Awaitable[None]]


async def pass_through(
    worker: Worker,
    request: Request,
    tenant_slug: str,
    intent: Intent,
    *,
    exchange: Exchange,
    tell_problem: TellProblem,
    tell_refusal: TellRefusal,
) -> None:
    """Admit, exchange, record. Raises Unrecorded when the intent cannot be written: then nothing went upstream."""
    call = Call(intent, tenant_slug, ends_at(intent.facts))
    worker.calls.add(call)
    try:
        verdict = await worker.ledger.admit(intent)
        if not verdict.decision.allowed:
            await tell_refusal(verdict)
            return
        worker.usage.saw(intent.tenant_id, intent.principal)
        done = await _exchange(
            worker, request, call, exchange=exchange, tell_problem=tell_problem, tell_refusal=tell_refusal
        )
        if done is not None:
            _finish(worker, call, done)
    finally:
        worker.calls.remove(call)


async def _exchange(
    worker: Worker,
    request: Request,
    call: Call,
    *,
    exchange: Exchange,
    tell_problem: TellProblem,
    tell_refusal: TellRefusal,
) -> Done | None:
    task = asyncio.current_task()
    assert task is not None
    watch = _Watch(request, call)
    call.task = task
    call.is_forwarding = True
    try:
        if call.cut_because:  # ended between its intent and now
            raise asyncio.CancelledError
        done = await exchange(call)
    except asyncio.CancelledError:
        call.is_forwarding = False
        if not call.cut_because:  # the worker is stopping
            _finish(worker, call, Done(0, "cancelled"))
            raise
        task.uncancel()
        done = await _tell_cut(request, call, tell_refusal)
    except UpstreamProblem as problem:
        call.is_forwarding = False
        if not request.began_answer:
            await tell_problem(problem.status, problem.title, problem.detail)
        done = Done(problem.status, problem.outcome)
    except TooLarge:
        call.is_forwarding = False
        if not request.began_answer:
            await tell_problem(413, "Too large", "The body is longer than this gateway lets through.")
        done = Done(413, "cancelled")
    except Gone:
        done = Done(0, "cancelled")
    except Exception:
        call.is_forwarding = False
        _finish(worker, call, Done(500, "upstream_error"))
        raise
    finally:
        call.is_forwarding = False
        watch.stop()
    if call.cut_because and task.cancelling():  # cut in its very last moment: the cancellation is still to come
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        task.uncancel()
    return done


async def _tell_cut(request: Request, call: Call, tell_refusal: TellRefusal) -> Done:
    """End what was begun. An answer that has not begun becomes a refusal; a stream simply ends."""
    details = {"reasons": list(call.cut_reasons)} if call.cut_reasons else None
    if request.began_answer and request.may_end_early:
        with suppress(TimeoutError, asyncio.CancelledError):
            async with asyncio.timeout(1):
                await request.write(b"", more=False)
    if call.cut_because != "revoked" or request.began_answer:
        return Done(0, call.cut_because, details)
    await tell_refusal(Verdict(refuse(Reason.TOKEN_REVOKED)))
    return Done(401, call.cut_because, details)


def _finish(worker: Worker, call: Call, done: Done) -> None:
    intent = call.intent
    scope = intent.facts.operation.scope if intent.facts.operation else None
    details = {**intent.details, **({"scope": scope} if scope else {}), **(done.details or {})}
    row = intent.event(
        Action.CALL_FINISHED,
        outcome=done.outcome,
        status=done.status or None,
        latency_us=int((time.perf_counter() - call.began) * 1_000_000),
        details=details,
    )
    worker.ledger.finish(intent.tenant_id, row)


class _Watch:
    """Notices a caller that hangs up while a long answer is on its way. Short calls never pay for it."""

    def __init__(self, request: Request, call: Call) -> None:
        self._request, self._call = request, call
        self._task: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER, self._begin)

    def _begin(self) -> None:
        if self._request.has_body and not self._request.read_all:  # somebody else reads it still
            self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER, self._begin)
            return
        self._task = asyncio.create_task(self._wait())

    async def _wait(self) -> None:
        await self._request.hang_up()
        self._call.cut("cancelled")

    def stop(self) -> None:
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
