"""Ordering an export, guessing its size, fetching what came of it."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from django.db import transaction
from django.utils.timezone import now

from audit.actions import Action
from audit.conditions import condition
from audit.export.bundle import folder_of
from audit.export.running import in_period
from audit.export.tasks import enqueue
from audit.models import Export
from audit.query import QueryError
from audit.record import Actor, record
from audit.search import count_where

if TYPE_CHECKING:
    from tenants.models import Member, Tenant


class NotExportable(ValueError):
    """The order cannot be taken; `field` names what to change."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field, self.message = field, message


class NoBundle(Exception):
    """There is nothing to fetch, and why."""


def request_export(
    tenant: "Tenant",
    *,
    by: "Member",
    since: datetime,
    until: datetime,
    query: str = "",
    format: str = Export.Format.JSONL,  # noqa: A002  # the word of the form and the API
) -> Export:
    """Order the events from `since` up to, not including, `until`; a period that has not ended ends now.

    Call it in the tenant's transaction; work begins when that commits. Raises NotExportable.
    """
    until = _checked(tenant, since, until, query)
    if format not in Export.Format.values:
        raise NotExportable("format", f"Choose one of {', '.join(Export.Format.values)}.")
    with transaction.atomic():
        export = Export.objects.create(
            tenant_id=tenant.id, requested_by=by.id, since=since, until=until, query=query.strip(), format=format
        )
        record(
            Action.EXPORT_REQUESTED,
            tenant_id=tenant.id,
            actor=Actor("member", str(by.id)),
            member_id=by.id,
            subject_kind="export",
            subject=str(export.id),
            details={"since": since, "until": until, "query": query, "format": format},
        )
        # If the queue is down, the clock finds the order later: a failure here is no failure of the request
        transaction.on_commit(lambda: enqueue(export.id, tenant.id), robust=True)
    return export


def estimate(tenant: "Tenant", since: datetime, until: datetime, query: str = "") -> int:
    """How many events an export would hold now. Raises NotExportable."""
    until = _checked(tenant, since, until, query)
    return count_where(condition(tenant.id, query) & in_period(since, until))


def open_bundle(export: Export, *, by: "Member") -> Path:
    """The finished bundle's path; that it was fetched, and by whom, is recorded. Raises NoBundle."""
    if export.state != Export.State.READY:
        raise NoBundle(f"This export is {export.get_state_display().lower()}.")
    path = folder_of(export.tenant_id) / export.bundle
    if not export.bundle or (export.expires_at and export.expires_at <= now()) or not path.is_file():
        raise NoBundle("This export has expired. Order it again.")
    with transaction.atomic():
        record(
            Action.EXPORT_DOWNLOADED,
            tenant_id=export.tenant_id,
            actor=Actor("member", str(by.id)),
            member_id=by.id,
            subject_kind="export",
            subject=str(export.id),
            details={"sha256": export.sha256},
        )
    return path


def _checked(tenant: "Tenant", since: datetime, until: datetime, query: str) -> datetime:
    """The end of the period, which is not in the future."""
    if since.tzinfo is None or until.tzinfo is None:
        raise NotExportable("since" if since.tzinfo is None else "until", "Say in which time zone.")
    until = min(until, now())
    if since >= until:
        raise NotExportable("since", "The period must begin before it ends, and before now.")
    try:
        condition(tenant.id, query)
    except QueryError as wrong:
        raise NotExportable("query", str(wrong)) from wrong
    return until
