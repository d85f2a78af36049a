"""The record: searching all that was asked, allowed and refused, and the proof of each line."""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import orjson
from django.http import Http404, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET

from agentauth.console.histogram import Bars, bars
from agentauth.console.telling import Line, tell
from agentauth.grants.models import Grant
from agentauth.resources.models import Resource
from audit import search
from audit.actions import Action
from audit.conditions import condition
from audit.identity import verifier
from audit.models import Event, Leaf
from audit.proof import Proof, intact, proof_of
from audit.query import QueryError, Term, parse
from audit.record import Actor, record
from tenants.access import AUDITORS, TenantRequest, tenant_page
from tenants.models import Member

PAGE = 50
COUNTED = 10_000  # beyond this the page says "more than"
ENDS = f"-action:{Action.CALL_FINISHED}"  # how a call ended is told with its beginning
QUICK = (
    ("All", ""),
    ("Calls", "action:call"),
    ("Refused", "decision:refuse"),
    ("Asked", "decision:ask"),
    ("Grants", "action:grant"),
    ("Agents", "action:agent,credential"),
    ("Tokens", "action:token"),
    ("People", "action:member"),
)
SPANS = (("24 hours", "since:24h"), ("7 days", "since:7d"), ("30 days", "since:30d"))


@dataclass(frozen=True, slots=True)
class Token:
    """One term of the query, with the address of the search without it."""

    key: str
    value: str
    excluded: bool
    words: str
    without: str


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the record with its place in the tree, if it has one yet."""

    line: Line
    index: int | None
    resource: str
    person: str
    href: str

    @property
    def event(self) -> Event:
        return self.line.event

    @property
    def for_whom(self) -> str:
        """The first name of the person a call was made for; an agent without one acts for itself."""
        if not self.line.verdict or self.event.agent_id is None:
            return ""
        return self.person.split(maxsplit=1)[0] if self.person else "itself"


@dataclass(frozen=True, slots=True)
class Opened:
    """An opened line: all its fields and its proof."""

    row: Row
    proof: Proof | None
    steps: list[tuple[str, str, bool]]
    grant: Grant | None
    details: list[tuple[str, str]]


@require_GET
@tenant_page(roles=AUDITORS)
def record_page(request: TenantRequest) -> HttpResponse:
    query = " ".join(request.GET.get("q", "").split())
    added = " ".join(request.GET.get("add", "").split())
    if added:
        return _search_for(request, f"{query} {added}".strip())
    page: dict[str, Any] = {
        "query": query,
        "typed": request.GET.get("typed", ""),
        "quick": [(words, _address(request, q=one), one == query) for words, one in QUICK],
        "health": intact(request.tenant),
        "may_watch": request.member.may_administer,
    }
    try:
        page |= _found(request, query)
    except QueryError as wrong:
        page |= {"wrong": wrong, "rows": []}
        return render(request, "console/audit/search.html", page, status=422)
    return render(request, "console/audit/search.html", page)


@require_GET
@tenant_page(roles=AUDITORS)
def newest(request: TenantRequest) -> HttpResponse:
    """The first page's rows again, if there are others by now. Asked for by the page of those who watch live."""
    query = " ".join(request.GET.get("q", "").split())
    try:
        found = search.search(request.tenant, _shown(query), limit=PAGE)
    except QueryError:
        return HttpResponse(status=204)
    seen = _fingerprint(found.events)
    if seen == request.GET.get("seen") or not request.member.may_administer:
        return HttpResponse(status=204)
    page = {"rows": _rows(request, found.events, query), "watch": _watch(request, query, seen), "fresh": True}
    return render(request, "console/audit/_rows.html", page)


@require_GET
@tenant_page(roles=AUDITORS)
def event(request: TenantRequest, event_id: UUID) -> HttpResponse:
    """One line on a page of its own."""
    return render(request, "console/audit/event.html", {"opened": _open(request, _require(request, event_id), "")})


@require_GET
@tenant_page(roles=AUDITORS)
def proof_file(request: TenantRequest, event_id: UUID) -> HttpResponse:
    """What somebody needs to check this one line without us: the bytes that were hashed, the path, the signed head."""
    found = _require(request, event_id)
    proof = proof_of(request.tenant, found.id)
    if proof is None:
        raise Http404
    said = {
        "event": found.body,
        "index": proof.index,
        "leaf_hash": proof.leaf_hash.hex(),
        "path": [step.hex() for step in proof.path],
        "tree_size": proof.size,
        "root": proof.root.hex(),
        "checkpoint": proof.note,
        "log": verifier(request.tenant.slug).vkey,
    }
    response = HttpResponse(orjson.dumps(said, option=orjson.OPT_INDENT_2), content_type="application/json")
    response["Content-Disposition"] = f'attachment; filename="proof-{request.tenant.slug}-{proof.index}.json"'
    return response


def _found(request: TenantRequest, query: str) -> dict[str, Any]:
    before = request.GET.get("before", "")
    terms = parse(query)
    found = search.search(request.tenant, _shown(query), before=before or None, limit=PAGE)
    timed = any(term.key in ("since", "until", "created") for term in terms)
    opened = _opened(request, found.events, query)
    seen = _fingerprint(found.events)
    total = search.count(request.tenant, _shown(query), at_most=COUNTED + 1)
    graph: Bars = bars(search.histogram(request.tenant, _shown(query if timed else f"{query} since:7d"), 84))
    return {
        "tokens": _tokens(request, query, terms),
        "rows": _rows(request, found.events, query),
        "opened": opened,
        "total": min(total, COUNTED),
        "more_than": total > COUNTED,
        "bars": graph,
        "timed": timed,
        "spans": [(words, _address(request, q=_with_span(query, terms, span))) for words, span in SPANS],
        "export": "?" + urlencode({"q": query}) if query else "",
        "watch": "" if before or opened or not request.member.may_administer else _watch(request, query, seen),
        "page": {
            "next": _address(request, q=query, before=found.next_cursor) if found.next_cursor else "",
            "previous": _address(request, q=query) if before else "",
        },
    }


def _search_for(request: TenantRequest, query: str) -> HttpResponse:
    """Somebody searched: it is on record who looked for what. The address then holds the whole query."""
    try:
        condition(request.tenant.id, query)
    except QueryError:
        return HttpResponseRedirect(_address(request, q=query, typed=query))
    record(
        Action.RECORD_SEARCHED,
        tenant_id=request.tenant.id,
        actor=Actor("member", str(request.member.id)),
        member_id=request.member.id,
        details={"query": query},
    )
    return HttpResponseRedirect(_address(request, q=query))


def _shown(query: str) -> str:
    """The query as it is run: ends of calls stay out unless they are asked for."""
    asks = any(
        term.key in ("outcome", "call") or (term.key == "action" and any("finish" in value for value in term.values))
        for term in parse(query)
    )
    return query if asks else f"{query} {ENDS}".strip()


def _tokens(request: TenantRequest, query: str, terms: list[Term]) -> list[Token]:
    starts = [term.position for term in terms] + [len(query)]
    tokens = []
    for at, term in enumerate(terms):
        without = f"{query[: starts[at]].strip()} {query[starts[at + 1] :].strip()}".strip()
        value = ", ".join(term.values)
        words = f"{term.key or 'text'} {value}"
        tokens.append(Token(term.key, value, term.excluded, words, _address(request, q=without)))
    return tokens


def _with_span(query: str, terms: list[Term], span: str) -> str:
    starts = [term.position for term in terms] + [len(query)]
    kept = [
        query[starts[at] : starts[at + 1]].strip()
        for at, term in enumerate(terms)
        if term.key not in ("since", "until", "created")
    ]
    return " ".join([*kept, span])


def _rows(request: TenantRequest, events: Iterable[Event], query: str) -> list[Row]:
    shown = list(events)
    places = dict(
        Leaf.objects.filter(tenant=request.tenant, event_id__in=[one.id for one in shown]).values_list(
            "event_id", "index"
        )
    )
    before = request.GET.get("before", "")
    people = Member.objects.filter(tenant=request.tenant, id__in={one.member_id for one in shown if one.member_id})
    names: dict[UUID | None, str] = {person.id: person.name for person in people.select_related("user")}
    at = Resource.objects.filter(tenant=request.tenant, id__in={one.resource_id for one in shown if one.resource_id})
    where: dict[UUID | None, str] = dict(at.values_list("id", "name"))
    return [
        Row(
            line=line,
            index=places.get(line.event.id),
            resource=where.get(line.event.resource_id, ""),
            person=names.get(line.event.member_id, ""),
            href=_address(request, q=query, before=before, open=str(line.event.id)) + f"#e-{line.event.id}",
        )
        for line in tell(request.tenant, shown)
    ]


def _opened(request: TenantRequest, events: Iterable[Event], query: str) -> Opened | None:
    wanted = request.GET.get("open", "")
    return next((_open(request, one, query) for one in events if str(one.id) == wanted), None)


def _open(request: TenantRequest, found: Event, query: str) -> Opened:
    proof = proof_of(request.tenant, found.id)
    grant = Grant.objects.filter(tenant=request.tenant, id=found.grant_id).first() if found.grant_id else None
    details = [(str(key).replace("_", " "), _plain(value)) for key, value in (found.details or {}).items() if value]
    return Opened(_rows(request, [found], query)[0], proof, _steps(request, proof), grant, details)


def _steps(request: TenantRequest, proof: Proof | None) -> list[tuple[str, str, bool]]:
    """What was checked just now, in four steps: words, evidence, and whether it holds."""
    if proof is None:
        return []
    leaf = " ".join(proof.leaf_hash.hex()[at : at + 4] for at in range(0, 16, 4))
    return [
        (f"Line {proof.index:,}", f"leaf {leaf} …", proof.holds),
        ("In the tree", f"{len(proof.path)} hashes lead to the root", proof.holds),
        (f"Signed by {request.tenant.name}’s log", f"head of {proof.size:,} lines", proof.holds),
        ("Checked just now", proof.problem or "hashed again from what stands here", proof.holds),
    ]


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    return orjson.dumps(value).decode()


def _watch(request: TenantRequest, query: str, seen: str) -> str:
    return reverse("record_newest", args=[request.tenant.slug]) + "?" + urlencode({"q": query, "seen": seen})


def _fingerprint(events: Iterable[Event]) -> str:
    return sha256(" ".join(str(one.id) for one in events).encode()).hexdigest()[:16]


def _address(request: TenantRequest, **said: str | None) -> str:
    kept = {key: value for key, value in said.items() if value}
    address = reverse("record", args=[request.tenant.slug])
    return f"{address}?{urlencode(kept)}" if kept else address


def _require(request: TenantRequest, event_id: UUID) -> Event:
    found = Event.objects.filter(tenant=request.tenant, id=event_id).first()
    if found is None:
        raise Http404
    return found
