"""Is the console's origin alive, and may it be given traffic?"""

import logging

from django.db import DatabaseError, connection
from django.http import HttpRequest, JsonResponse

log = logging.getLogger(__name__)


def livez(request: HttpRequest) -> JsonResponse:
    """The process answers. Nothing else is asked, so that a slow database does not get it killed."""
    return _answer({"status": "ok"}, 200)


def readyz(request: HttpRequest) -> JsonResponse:
    """The database answers, is migrated, and our role cannot step over the walls between tenants."""
    reason = _not_ready()
    return _answer(
        {"status": "ok"} if reason is None else {"status": "unavailable", "reason": reason}, 503 if reason else 200
    )


def _not_ready() -> str | None:
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT rolsuper OR rolbypassrls, to_regclass('audit_event') IS NOT NULL, "
                "EXISTS (SELECT FROM pg_class "
                "WHERE relname = 'audit_event' AND pg_has_role(current_user, relowner, 'USAGE')) "
                "FROM pg_roles WHERE rolname = current_user"
            )
            row = cursor.fetchone()
    except DatabaseError as error:
        log.warning("not ready: %s", error)
        return "the database does not answer"
    if row is None:
        return "the database does not know our role"
    bypasses, migrated, owns = row
    if bypasses or owns:
        return "the database role could bypass row-level security; use agentauth_app, which owns nothing"
    return None if migrated else "the database is not migrated"


def _answer(body: dict[str, str], status: int) -> JsonResponse:
    return JsonResponse(body, status=status, headers={"Cache-Control": "no-store"})
