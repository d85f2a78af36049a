"""Millions of live refresh tokens and many agents, as if the install had long been in use."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

_AGENTS = """
INSERT INTO agents_agent SELECT (jsonb_populate_record(a, jsonb_build_object(
    'id', uuidv7(), 'client_id', 'big-' || n, 'name', 'Agent ' || n))).*
FROM agents_agent a, generate_series(1, %(count)s) n WHERE a.id = %(agent_id)s
"""
_TOKENS = """
INSERT INTO oauth_refreshtoken (id, tenant_id, token_hash, family, agent_id, grant_id, resource_id, scope, auth_time,
    acr, created_at, expires_at, family_expires_at, access_jti, authorization_details, jkt)
SELECT uuidv7(), %(tenant_id)s, sha256(n::text::bytea), uuidv7(), g.id, uuidv7(), %(resource_id)s, 'rooms:read', now(),
    '', now(), now() + interval '20 days', now() + interval '20 days', uuidv7(), '[]', ''
FROM generate_series(%(first)s, %(last)s) n
JOIN (SELECT id, row_number() OVER () - 1 AS number FROM agents_agent WHERE tenant_id = %(tenant_id)s) g
    ON g.number = n %% (SELECT count(*) FROM agents_agent WHERE tenant_id = %(tenant_id)s)
"""
_STEP = 500_000


def fill(facts: dict[str, Any], *, tokens: int, agents: int) -> None:
    """As the superuser, past row-level security and foreign keys; the rows are as the application would leave them."""
    import psycopg

    from agentauth.embedded import postgres

    began = time.monotonic()
    with psycopg.connect(postgres.cluster().dsn("agentauth"), autocommit=True) as db:
        db.execute("SET session_replication_role = replica")
        db.execute("SET synchronous_commit = off")
        known = {name: facts[name] for name in ("tenant_id", "agent_id", "resource_id")}
        db.execute(_AGENTS, known | {"count": agents})
        for first in range(1, tokens + 1, _STEP):
            db.execute(_TOKENS, known | {"first": first, "last": min(first + _STEP - 1, tokens)})
            print(
                f"{first + _STEP - 1:,} refresh tokens, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True
            )
        db.execute("VACUUM ANALYZE agents_agent")
        db.execute("VACUUM ANALYZE oauth_refreshtoken")
        db.execute("CHECKPOINT")
    os.sync()  # else every commit that is measured waits behind what was filled in
