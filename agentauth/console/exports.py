"""Evidence exports: order one, watch it being made, fetch it, check it anywhere."""

from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import FileResponse, Http404, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.timezone import now
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from audit.checkpoint import NoLogKey
from audit.export.requesting import NoBundle, NotExportable, estimate, open_bundle, request_export
from audit.identity import verifier
from audit.models import Export
from tenants.access import AUDITORS, TenantRequest, tenant_page
from tenants.models import Member

PAGE = 25


class Order(forms.Form):
    since = forms.DateField(
        label="From", widget=forms.DateInput(attrs={"type": "date"}), help_text="Its first moment, UTC."
    )
    until = forms.DateField(
        label="To and including", widget=forms.DateInput(attrs={"type": "date"}), help_text="Today counts up to now."
    )
    query = forms.CharField(
        label="Only lines that fit",
        required=False,
        max_length=500,
        help_text="As in the search of the record. Empty for every line, which also proves that none is missing.",
    )
    format = forms.ChoiceField(
        label="Format",
        choices=((Export.Format.JSONL, "JSON lines"), (Export.Format.CSV, "CSV")),
        initial=Export.Format.JSONL,
    )

    def period(self) -> tuple[datetime, datetime]:
        """The chosen days as moments; the end is the one after the last day."""
        said = self.cleaned_data
        return _midnight(said["since"]), _midnight(said["until"] + timedelta(days=1))


@dataclass(frozen=True, slots=True)
class Job:
    """An export as its page and the list show it."""

    export: Export
    by: str

    @property
    def title(self) -> str:
        first, last = self.export.since, self.export.until - timedelta(microseconds=1)
        days = f"{first:%-d %b %Y}" if first.date() == last.date() else f"{first:%-d %b} to {last:%-d %b %Y}"
        return f"{days}, {'selected lines' if self.export.query else 'all lines'}"

    @property
    def is_moving(self) -> bool:
        return self.export.state in (Export.State.QUEUED, Export.State.RUNNING)

    @property
    def is_ready(self) -> bool:
        over = self.export.expires_at is not None and self.export.expires_at <= now()
        return self.export.state == Export.State.READY and not over

    @property
    def speed(self) -> int:
        """Lines a second since it was asked for."""
        took = ((self.export.finished_at or now()) - self.export.requested_at).total_seconds()
        return round(self.export.rows_done / took) if took > 0 else 0

    @property
    def percent(self) -> int:
        return min(self.export.rows_done * 100 // self.export.rows_total, 100) if self.export.rows_total else 0

    @property
    def words(self) -> str:
        waiting = "Waiting for a worker" if not self.export.rows_done else "Being written"
        named = {
            Export.State.QUEUED: waiting,
            Export.State.RUNNING: "Being written" if self.export.rows_total else "Counting",
            Export.State.FAILED: "Not made",
            Export.State.CANCELLED: "Cancelled",
        }
        return named.get(Export.State(self.export.state), "Ready" if self.is_ready else "Its file has ended")

    @property
    def file_name(self) -> str:
        return f"evidence-{self.export.since:%Y-%m-%d}-{str(self.export.id)[-6:]}.zip"


@require_GET
@tenant_page(roles=AUDITORS)
def exports(request: TenantRequest) -> HttpResponse:
    found = Export.objects.filter(tenant=request.tenant).order_by("-id")
    before = request.GET.get("before", "")
    if before:
        found = found.filter(id__lt=_uuid_or_404(before))
    shown = list(found[: PAGE + 1])
    older = "?" + urlencode({"before": str(shown[PAGE - 1].id)}) if len(shown) > PAGE else ""
    page = {
        "jobs": _jobs(request, shown[:PAGE]),
        "page": {"next": older, "previous": request.path if before else ""},
    }
    return render(request, "console/audit/exports.html", page)


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_page(roles=AUDITORS)
def new_export(request: TenantRequest) -> HttpResponse:
    """GET with a period counts its lines, POST orders it."""
    asked = "since" in request.GET
    first = {"since": _first_of_month(), "until": now().date(), "query": request.GET.get("q", "")}
    form = Order(request.POST if request.method == "POST" else request.GET if asked else None, initial=first)
    lines = None
    if form.is_bound and form.is_valid():
        since, until = form.period()
        said = {"since": since, "until": until, "query": form.cleaned_data["query"]}
        try:
            if request.method == "POST":
                export = request_export(request.tenant, by=request.member, format=form.cleaned_data["format"], **said)
                return _to_job(request, export.id)
            lines = estimate(request.tenant, **said)
        except NotExportable as wrong:
            form.add_error(wrong.field if wrong.field in form.fields else None, wrong.message)
    page = {"form": form, "lines": lines, "spans": _spans(request), "chosen_format": form["format"].value()}
    part = bool(request.headers.get("HX-Request")) and request.method == "GET"
    template = "console/audit/_estimate.html" if part else "console/audit/export_new.html"
    return render(request, template, page, status=422 if form.errors and request.method == "POST" else 200)


@require_GET
@tenant_page(roles=AUDITORS)
def export(request: TenantRequest, export_id: UUID) -> HttpResponse:
    return render(request, "console/audit/export.html", _job_page(request, export_id))


@require_GET
@tenant_page(roles=AUDITORS)
def progress(request: TenantRequest, export_id: UUID) -> HttpResponse:
    """The job's part again, asked for by its page while it is being made."""
    return render(request, "console/audit/_job.html", _job_page(request, export_id))


@require_POST
@tenant_page(roles=AUDITORS)
def cancel_export(request: TenantRequest, export_id: UUID) -> HttpResponse:
    found = _require(request, export_id)
    if found.cancel(by=request.member):
        messages.success(request, "Cancelled. Nothing of it is kept.")
    else:
        messages.info(request, "It was over already.")
    return _to_job(request, export_id)


@require_GET
@tenant_page(roles=AUDITORS)
def download(request: TenantRequest, export_id: UUID) -> HttpResponseBase:
    """The bundle. That it was fetched is on record."""
    found = _require(request, export_id)
    try:
        path = open_bundle(found, by=request.member)
    except NoBundle as gone:
        messages.error(request, str(gone))
        return _to_job(request, export_id)
    name = f"{request.tenant.slug}-{Job(found, '').file_name}"
    return FileResponse(path.open("rb"), as_attachment=True, filename=name, content_type="application/zip")


def _job_page(request: TenantRequest, export_id: UUID) -> dict[str, Any]:
    found = _require(request, export_id)
    try:
        vkey = verifier(request.tenant.slug).vkey
    except NoLogKey:
        vkey = ""
    job = _jobs(request, [found])[0]
    return {"job": job, "vkey": vkey, "file_name": f"{request.tenant.slug}-{job.file_name}"}


def _jobs(request: TenantRequest, found: list[Export]) -> list[Job]:
    people = Member.objects.filter(tenant=request.tenant, id__in={one.requested_by for one in found})
    names = {person.id: person.name for person in people.select_related("user")}
    return [Job(one, names.get(one.requested_by, "somebody who left")) for one in found]


def _require(request: TenantRequest, export_id: UUID) -> Export:
    found = Export.objects.filter(tenant=request.tenant, id=export_id).first()
    if found is None:
        raise Http404
    return found


def _spans(request: TenantRequest) -> list[tuple[str, str]]:
    """Whole periods that people ask for, as addresses that fill the form."""
    today = now().astimezone(UTC).date()
    month = _first_of_month()
    last = month - timedelta(days=1)
    year = today.replace(month=1, day=1)
    spans = (
        ("This month", month, today),
        (f"{last:%B}", last.replace(day=1), last.replace(day=monthrange(last.year, last.month)[1])),
        ("30 days", today - timedelta(days=29), today),
        ("This year", year, today),
    )
    kept = request.GET.get("query", request.GET.get("q", ""))
    return [
        (
            words,
            "?" + urlencode({"since": first.isoformat(), "until": end.isoformat(), "query": kept, "format": "jsonl"}),
        )
        for words, first, end in spans
    ]


def _first_of_month() -> date:
    return now().astimezone(UTC).date().replace(day=1)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _uuid_or_404(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Http404 from None


def _to_job(request: TenantRequest, export_id: UUID) -> HttpResponse:
    return HttpResponseRedirect(reverse("export", args=[request.tenant.slug, export_id]), status=303)
