"""One transaction for all calls that wait: what was revoked, what counts once, what is asked, and the rows of each.

A commit of its own for each would cost ten times as much. The same transaction asks for revocations, so none that was
committed before is missed.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from agentauth.gateway.database import ENTER, Connection
from agentauth.gateway.intent import Intent, Line, Row, Verdict
from agentauth.grants.approvals import LIFETIME as APPROVAL_LIFETIME
from agentauth.grants.arguments import shown
from agentauth.policy.decision import Decision, Effect, Reason, refuse
from agentauth.policy.evaluate import standing
from audit.actions import Action
from audit.record import COLUMNS
from tenants.rls import new_id

_COLUMNS = ", ".join(COLUMNS)
_JSON_COLUMNS = (COLUMNS.index("reasons"), COLUMNS.index("details"))

# One JSON parameter for a whole batch: row-level security forbids COPY, and a statement for each row costs more.
# A batch that is written again after a lost answer changes nothing.
_INSERT = (
    f"WITH event AS (INSERT INTO audit_event ({_COLUMNS}) "
    f"SELECT {_COLUMNS} FROM json_populate_recordset(NULL::audit_event, %s::json) "
    "ON CONFLICT DO NOTHING RETURNING id, tenant_id) "
    "INSERT INTO audit_unsequenced (id, tenant_id) SELECT id, tenant_id FROM event"
)
_REVOKED = (
    "SELECT kind, subject, max(greatest(at, coalesce(lifted_at, at))) FROM tenants_revocation "
    "WHERE tenant_id = %s AND kind IN ('tenant', 'member', 'agent', 'grant', 'token') AND subject = ANY(%s) "
    "GROUP BY kind, subject"
)
# RFC 9449 §11.1: each proof once, at whichever worker; in the order of their marks, so that two never wait in a circle
_SPEND_PROOFS = (
    "INSERT INTO oauth_spentonce AS spent (id, tenant_id, kind, value_hash, expires_at) "
    "SELECT id, %s, 'dpop', mark, ends FROM unnest(%s::uuid[], %s::bytea[], %s::timestamptz[]) AS one (id, mark, ends) "
    "WHERE NOT EXISTS (SELECT FROM oauth_spentonce WHERE tenant_id = %s AND kind = 'dpop' AND value_hash = mark) "
    "ORDER BY mark ON CONFLICT DO NOTHING RETURNING spent.id"
)
_LOCK_GRANT = "SELECT 1 FROM grants_grant WHERE tenant_id = %s AND id = %s FOR NO KEY UPDATE"
_COUNT_TODAY = (
    "SELECT count(*) FROM audit_event WHERE tenant_id = %s AND grant_id = %s AND at >= %s "
    f"AND action = '{Action.CALL_ALLOWED.value}' AND details ? 'scope'"
)
_APPROVALS = (
    "SELECT id, state FROM grants_approval WHERE tenant_id = %s AND grant_id = %s AND operation = %s "
    "AND args_hash = %s AND state IN ('given', 'pending', 'refused') AND expires_at > now() "
    "ORDER BY state = 'given' DESC, asked_at DESC FOR UPDATE"
)
_SPEND = "UPDATE grants_approval SET state = 'used' WHERE tenant_id = %s AND id = %s"
_ASK = (
    "INSERT INTO grants_approval"
    " (id, tenant_id, grant_id, operation, args, args_hash, state, asked_at, expires_at, reason)"
    " VALUES (%s, %s, %s, %s, %s::jsonb, %s, 'pending', now(), now() + %s, '')"
)


class Transaction:
    """One commit for many calls. Row-level security shows one tenant at a time, so the work goes tenant by tenant."""

    def __init__(self, db: Connection, intents: Sequence[Intent], lines: Sequence[Line]) -> None:
        self._db, self._intents = db, intents
        self._by_tenant: dict[UUID, list[Intent]] = {}
        self._rows: dict[UUID, list[Row]] = {}
        self._verdicts: dict[UUID, Verdict] = {}
        self._proven: set[UUID] = set()  # calls whose proof nobody had used before
        self.committing = False
        for intent in intents:
            self._by_tenant.setdefault(intent.tenant_id, []).append(intent)
        for line in lines:
            self._rows.setdefault(line.tenant_id, []).append(line.row)

    async def run(self) -> list[Verdict]:
        revoked = await self._begin()
        for tenant_id, intents in self._by_tenant.items():
            rows = self._rows.setdefault(tenant_id, [])
            entered = False
            # In the order of their grants, so that two workers never wait for each other's locks
            for intent in sorted(intents, key=lambda one: one.principal.grant_id):
                decision = _judge(intent, revoked[tenant_id])
                if intent.proof is not None and intent.call_id not in self._proven:
                    decision = refuse(Reason.PROOF_REPLAYED)
                verdict = Verdict(decision)
                if _must_count(intent, decision) or decision.asked:
                    if not entered:
                        await self._db.execute(ENTER, [str(tenant_id)])
                        entered = True
                    if rows:  # counted are the calls before this one, so they must be there
                        await self._insert(rows)
                        rows.clear()
                    verdict = await self._judge_with_more(intent, decision, rows)
                self._verdicts[intent.call_id] = verdict
                rows.append(intent.row(verdict))
        await self._commit()
        return [self._verdicts[intent.call_id] for intent in self._intents]

    async def _begin(self) -> dict[UUID, dict[tuple[str, str], datetime]]:
        """What of all this was revoked, as of now: the statement sees whatever was committed before it began."""
        if not self._by_tenant:
            await self._db.execute("BEGIN")
            return {}
        cursors, spent = {}, []
        async with self._db.pipeline():
            await self._db.execute("BEGIN")
            for tenant_id, intents in sorted(self._by_tenant.items(), key=lambda one: one[0]):
                subjects = list({subject for intent in intents for subject in intent.subjects()})
                await self._db.execute(ENTER, [str(tenant_id)])
                cursors[tenant_id] = await self._db.execute(_REVOKED, [tenant_id, subjects])
                proofs = [(one.call_id, one.proof.mark, one.proof.expires) for one in intents if one.proof]
                if proofs:
                    columns = [list(column) for column in zip(*proofs, strict=True)]
                    spent.append(await self._db.execute(_SPEND_PROOFS, [tenant_id, *columns, tenant_id]))
            for cursor in spent:
                self._proven |= {call_id for (call_id,) in await cursor.fetchall()}
            return {
                tenant_id: {(kind, subject): until for kind, subject, until in await cursor.fetchall()}
                for tenant_id, cursor in cursors.items()
            }

    async def _commit(self) -> None:
        async with self._db.pipeline():
            for tenant_id, rows in self._rows.items():
                if rows:
                    await self._db.execute(ENTER, [str(tenant_id)])
                    await self._insert(rows)
            self.committing = True
            await self._db.execute("COMMIT")

    async def _insert(self, rows: list[Row]) -> None:
        await self._db.execute(_INSERT, [orjson.dumps([_as_object(row) for row in rows]).decode()])

    async def _judge_with_more(self, intent: Intent, decision: Decision, rows: list[Row]) -> Verdict:
        """What only the database knows: how many calls there were today, whether the person was asked and said yes."""
        tenant_id, grant_id = intent.tenant_id, intent.principal.grant_id
        await self._db.execute(_LOCK_GRANT, [tenant_id, grant_id])
        if _must_count(intent, decision):
            midnight = intent.facts.call.now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
            counted = await (await self._db.execute(_COUNT_TODAY, [tenant_id, grant_id, midnight])).fetchone()
            assert counted is not None
            call = replace(intent.facts.call, calls_today=counted[0])
            intent.facts = replace(intent.facts, call=call)
            decision = intent.judge(intent.facts)
        return await self._ask(intent, decision, rows) if decision.asked else Verdict(decision)

    async def _ask(self, intent: Intent, decision: Decision, rows: list[Row]) -> Verdict:
        tenant_id, grant_id = intent.tenant_id, intent.principal.grant_id
        cursor = await self._db.execute(_APPROVALS, [tenant_id, grant_id, intent.operation, intent.args_hash])
        for approval_id, state in await cursor.fetchall():
            if state == "given":
                await self._db.execute(_SPEND, [tenant_id, approval_id])
                call = replace(intent.facts.call, approved=True)
                return Verdict(intent.judge(replace(intent.facts, call=call)), approval_id)
            if state == "refused":
                return Verdict(refuse(Reason.APPROVAL_REFUSED, scope=decision.scope), approval_id)
            return Verdict(decision, approval_id)
        if intent.principal.member_id is None:
            return Verdict(refuse(Reason.NEEDS_APPROVAL, scope=decision.scope))  # there is nobody to ask
        approval_id = new_id()
        args = orjson.dumps(shown(intent.arguments), option=orjson.OPT_NON_STR_KEYS).decode()
        fields = [approval_id, tenant_id, grant_id, intent.operation, args, intent.args_hash, APPROVAL_LIFETIME]
        await self._db.execute(_ASK, fields)
        asked = intent.event(Action.APPROVAL_ASKED, subject_kind="approval", subject=str(approval_id))
        rows.append(asked)
        return Verdict(decision, approval_id)


def _judge(intent: Intent, revoked: dict[tuple[str, str], datetime]) -> Decision:
    if intent.is_revoked(revoked):
        return refuse(*standing(intent.facts), Reason.TOKEN_REVOKED)
    return intent.judge(intent.facts)


def _must_count(intent: Intent, decision: Decision) -> bool:
    grant = intent.facts.grant
    return decision.effect is not Effect.REFUSE and grant is not None and "calls_per_day" in grant.constraints


def _as_object(row: Row) -> dict[str, Any]:
    found = dict(zip(COLUMNS, row, strict=True))
    for at in _JSON_COLUMNS:
        found[COLUMNS[at]] = orjson.Fragment(row[at])
    return found


async def revoked_of(db: Connection, intents: Sequence[Intent]) -> list[bool]:
    """Which of these (of one tenant, in its transaction) were revoked since their tokens were issued."""
    subjects = list({subject for intent in intents for subject in intent.subjects()})
    cursor = await db.execute(_REVOKED, [intents[0].tenant_id, subjects])
    known = {(kind, subject): until for kind, subject, until in await cursor.fetchall()}
    return [intent.is_revoked(known) for intent in intents]
