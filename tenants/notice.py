"""Telling every process at commit that something changed: one channel, small messages, never for audit inserts."""

from uuid import UUID

import orjson
from django.db import connection

CHANNEL = "agentauth"


def announce(tenant_id: UUID, what: str, subject: str = "") -> None:
    """NOTIFY `{"tenant", "what", "subject"}`; delivered if and when this transaction commits.

    `what` is a revocation's kind ("grant", "agent", …) or "config" for anything that a snapshot holds.
    """
    payload = orjson.dumps({"tenant": str(tenant_id), "what": what, "subject": subject}).decode()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, payload])
