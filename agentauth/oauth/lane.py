"""The short lane: a request that was just answered is answered again without Django, while nothing has changed.

The ordinary way decides everything first. Of a token for an agent itself (OAuth 2.1 §4.2, client secret) and of an
access token introspected by its client (RFC 7662) the lane remembers what was said to exactly these bytes; the next one
gets the same, a token with times, `jti` and event of its own. Whatever is announced ends what it may be about; while
nothing is heard, after a minute, and for every refusal, the ordinary way answers. No token before its event's commit.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import Any
from uuid import UUID

import jwt
import orjson
from django.conf import settings
from django.core.exceptions import ObjectDoesNotExist
from django.db import DatabaseError, close_old_connections

from agentauth.agents.models import Credential
from agentauth.grants.models import Grant
from agentauth.keys.ring import RingError
from agentauth.keys.signing import NoSigningKey, signed_by, signer
from agentauth.oauth.client_authentication import read_credentials
from agentauth.oauth.errors import OAuthError, TemporarilyUnavailable
from agentauth.oauth.hearing import Hearing
from agentauth.oauth.ledger import Ledger, Unrecorded
from agentauth.oauth.memory import LONGEST, Headers, Introspected, Issuable, Memory, Remembered, any_resource_of
from agentauth.oauth.parameters import MAX_BODY, Parameters, from_form
from audit.actions import Action
from audit.models import Event
from audit.record import Actor, event_row
from tenants.access import find_tenant
from tenants.models import secret_hash
from tenants.rls import in_tenant, new_id

log = logging.getLogger(__name__)

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]

_FORM = "application/x-www-form-urlencoded"
_MAY_BE_SENT = {
    "token": {"grant_type", "client_id", "client_secret", "scope", "resource"},
    "introspect": {"token", "token_type_hint", "client_id", "client_secret"},
}
# With any of these a request says more than its form does
_SAYS_MORE = ("HTTP_DPOP", "HTTP_TRANSFER_ENCODING", "HTTP_CONTENT_ENCODING", "HTTP_EXPECT", "QUERY_STRING")
_SECRET_METHODS = ("client_secret_basic", "client_secret_post")
_CLAIMS = {"iss", "sub", "aud", "client_id", "scope", "exp", "iat", "jti", "grant_id"}
_SAID = {"access_token", "token_type", "expires_in", "scope"}
_DETAILS = {"jti", "scope", "expires", "grant_type"}
_CHANGES_NOTHING = ("GET", "HEAD", "OPTIONS")
_KEEP_CLEAR = 2.0  # seconds before an end at which the ordinary way takes over


@dataclass(frozen=True, slots=True)
class Request:
    """One that the lane may look at."""

    endpoint: str
    key: bytes
    body: bytes
    environ: Environ
    slug: str


class Lane:
    """In front of `ordinary`, a whole WSGI application."""

    def __init__(self, ordinary: Application) -> None:
        self._ordinary = ordinary
        self.memory = Memory()
        self.ledger = Ledger()
        self.hearing = Hearing(self.memory.on_notice, self._on_gap)
        self._tenants: dict[str, str] = {}
        self.answered = 0  # by the lane itself

    def stop(self) -> None:
        self.hearing.stop()
        self._on_gap()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        request = _read(environ)
        if request is None:
            return self._pass_on(environ, start_response)
        self.hearing.ensure_started()
        said = self._again(request) if self.hearing.is_fresh else None
        if said is None:
            return self._ask_and_remember(request, start_response)
        self.answered += 1
        status, headers, content = said
        start_response(status, [*headers, ("Content-Length", str(len(content)))])
        return [content]

    def _on_gap(self) -> None:
        """The database was away, or we were: what it was connected to and what was remembered are worth nothing."""
        self.memory.clear()
        self.ledger.reconnect()

    # -- the same again

    def _again(self, request: Request) -> tuple[str, Headers, bytes] | None:
        entry = self.memory.get(request.key)
        if entry is None:
            return None
        if entry.until < time.monotonic():
            self.memory.drop(request.key)
            return None
        if isinstance(entry, Introspected) and request.endpoint == "introspect":
            return ("200 OK", entry.headers, entry.body) if time.time() < entry.expires else None
        if isinstance(entry, Issuable) and request.endpoint == "token":
            return self._issue(entry, request.environ)
        return None

    def _issue(self, entry: Issuable, environ: Environ) -> tuple[str, Headers, bytes] | None:
        """As `token.issue` does. None when something it stands on has ended: the ordinary way says what."""
        at = int(time.time())
        if at + _KEEP_CLEAR > min(entry.ends, entry.credential_ends):
            return None
        jti, expires = str(new_id()), min(at + settings.KNOBS.access_token_seconds, entry.ends)
        claims = entry.claims | {"exp": expires, "iat": at, "jti": jti}
        said = {
            "access_token": signed_by(entry.signer, claims, "at+jwt"),
            "token_type": "Bearer",
            "expires_in": expires - at,
            "scope": claims["scope"],
        }
        details = {
            "jti": jti,
            "scope": claims["scope"],
            "expires": datetime.fromtimestamp(expires, UTC).isoformat(),
            "grant_type": "client_credentials",
        }
        row = event_row(
            Action.TOKEN_ISSUED,
            tenant_id=entry.tenant_id,
            ip=str(environ.get("REMOTE_ADDR") or "")[:45],
            details=details,
            **entry.event,
        )
        try:
            stands = self.ledger.record(row, entry.credential_id)
        except Unrecorded:  # no record, no token
            gone = TemporarilyUnavailable("No token can be recorded here now.").document()
            return "503 Service Unavailable", entry.headers, orjson.dumps(gone)
        return ("200 OK", entry.headers, orjson.dumps(said)) if stands else None

    # -- the ordinary way

    def _pass_on(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Whatever this changes counts here too before its answer is out, though no notice has come yet."""
        changes_nothing = environ.get("REQUEST_METHOD") in _CHANGES_NOTHING
        try:
            return self._ordinary(environ, start_response)
        finally:
            if not changes_nothing:
                self.hearing.doubt()

    def _ask_and_remember(self, request: Request, start_response: StartResponse) -> Iterable[bytes]:
        tenant_id = self._tenant_of(request.slug)
        before = self.memory.mark(tenant_id)
        told: dict[str, Any] = {"status": "", "headers": []}

        def listen(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            told.update(status=status, headers=headers)
            return start_response(status, headers, *more)

        try:
            answer = self._ordinary(request.environ, listen)
        finally:
            if told["status"] != "200 OK":
                self.hearing.doubt()  # a refusal may have ended something: a code used twice, a family
        if told["status"] != "200 OK" or not tenant_id:
            return answer
        content = b"".join(answer)
        if hasattr(answer, "close"):
            answer.close()
        try:
            close_old_connections()
            entry = _worth_remembering(request, UUID(tenant_id), told["headers"], content)
            if entry is not None:
                self.memory.keep(request.key, entry, tenant_id=tenant_id, unchanged_since=before)
        except (DatabaseError, ObjectDoesNotExist, OAuthError, NoSigningKey, RingError, jwt.PyJWTError):
            log.exception("an answer that cannot be remembered")
        return [content]

    def _tenant_of(self, slug: str) -> str:
        """Its id, which never changes; empty when there is none or nobody can say."""
        known = self._tenants.get(slug, "")
        if not known:
            try:
                close_old_connections()
                tenant = find_tenant(slug)
            except DatabaseError:
                return ""
            if tenant is None:
                return ""
            known = self._tenants[slug] = str(tenant.id)
        return known


def _worth_remembering(
    request: Request, tenant_id: UUID, headers: list[tuple[str, str]], content: bytes
) -> Remembered | None:
    """What was said, if it would be said again to the same request as long as nothing changes."""
    asked = from_form(request.body, _FORM)
    shown = read_credentials(asked, request.environ.get("HTTP_AUTHORIZATION", ""))
    named = {*asked, *(["resource"] if asked.resources else [])}
    if not named <= _MAY_BE_SENT[request.endpoint] or shown.method not in _SECRET_METHODS:
        return None
    if any(name.lower() in ("set-cookie", "date") for name, _ in headers):
        return None
    if ("content-type", "application/json") not in [(name.lower(), value) for name, value in headers]:
        return None  # signed for its client (RFC 9701 §6)
    said = orjson.loads(content)
    with in_tenant(tenant_id):
        hashes = [secret_hash(one) for one in shown.secrets]
        proofs = Credential.objects.select_related("agent", "agent__tenant").filter(
            tenant=tenant_id, agent__client_id=shown.client_id, secret_hash__in=hashes, retired_at=None
        )
        proof = proofs.first()
        if proof is None:
            return None
        fixed = tuple((name, value) for name, value in headers if name.lower() != "content-length")
        if request.endpoint == "introspect":
            return _introspected(proof, asked["token"], said, content, fixed)
        return _issuable(proof, asked, said, fixed)


def _introspected(
    proof: Credential, token: str, said: dict[str, Any], content: bytes, headers: Headers
) -> Introspected | None:
    """Only a token that stands on one agent and one grant: what was exchanged for another stands on more."""
    agent = proof.agent
    if said.get("active") is not True or said.get("token_type") != "Bearer":
        return None
    claims = jwt.decode(token, options={"verify_signature": False})  # verified a moment ago
    act = claims.get("act", {"sub": claims["sub"]})
    if not set(claims) <= _CLAIMS | {"act", "auth_time", "acr"} or act != {"sub": str(agent.id)}:
        return None
    stands_on = (agent.tenant_id, agent.id, claims["sub"], claims["grant_id"], claims["jti"])
    return Introspected(
        subjects=frozenset(map(str, stands_on)),
        until=time.monotonic() + LONGEST,
        headers=headers,
        body=content,
        expires=min(float(claims["exp"]), _end_of(proof)),
    )


def _issuable(proof: Credential, asked: Parameters, said: dict[str, Any], headers: Headers) -> Issuable | None:
    """Only a token, an answer and an event that are wholly of the kind that `Lane._issue` makes."""
    if asked["grant_type"] != "client_credentials" or set(said) != _SAID:
        return None
    agent, by = proof.agent, signer(proof.tenant_id)
    claims = jwt.decode(said["access_token"], options={"verify_signature": False})  # made a moment ago
    if set(claims) != _CLAIMS or claims["sub"] != str(agent.id):
        return None
    grant = Grant.objects.get(tenant=proof.tenant_id, pk=claims["grant_id"])
    event = _event_of(proof.tenant_id, UUID(claims["jti"]))
    ends = [int(grant.expires_at.timestamp())] + ([int(agent.valid_until.timestamp())] if agent.valid_until else [])
    expires = min(claims["iat"] + settings.KNOBS.access_token_seconds, *ends)
    if (
        event is None
        or event.agent_id != agent.id
        or set(event.details) != _DETAILS
        or jwt.get_unverified_header(said["access_token"]) != {"alg": "ES256", "typ": "at+jwt", "kid": by.kid}
        or (claims["exp"], said["expires_in"]) != (expires, expires - claims["iat"])
    ):
        return None
    subjects = {str(agent.tenant_id), str(agent.id), str(grant.id)}
    if not asked.resources:  # any new grant may change which is meant
        subjects.add(any_resource_of(str(agent.tenant_id)))
    return Issuable(
        subjects=frozenset(subjects),
        until=time.monotonic() + LONGEST,
        headers=headers,
        tenant_id=agent.tenant_id,
        claims={name: value for name, value in claims.items() if name not in ("exp", "iat", "jti")},
        signer=by,
        ends=min(ends),
        credential_id=proof.id,
        credential_ends=_end_of(proof),
        event={
            "actor": Actor(event.actor_kind, event.actor),
            "agent_id": event.agent_id,
            "member_id": event.member_id,
            "grant_id": event.grant_id,
            "resource_id": event.resource_id,
        },
    )


def _event_of(tenant_id: UUID, jti: UUID) -> Event | None:
    """The event of the token just issued. Ids are UUIDv7, so it is among those since the token's own millisecond."""
    since = UUID(int=jti.int >> 80 << 80)
    recent = Event.objects.filter(tenant=tenant_id, id__gte=since, action=Action.TOKEN_ISSUED).order_by("id")[:200]
    return next((event for event in recent if event.details.get("jti") == str(jti)), None)


def _end_of(proof: Credential) -> float:
    return proof.expires_at.timestamp() if proof.expires_at else float("inf")


def _read(environ: Environ) -> Request | None:
    """The request, if the lane may look at it; its body can then be read again by the ordinary way."""
    path = environ["PATH_INFO"]
    if environ["REQUEST_METHOD"] != "POST" or not path.startswith("/t/") or environ.get("SCRIPT_NAME"):
        return None
    parts = path.split("/")
    if len(parts) != 5 or parts[3] != "oauth" or parts[4] not in _MAY_BE_SENT:
        return None
    length = environ.get("CONTENT_LENGTH") or ""
    if not (length.isascii() and length.isdigit() and 0 < int(length) <= MAX_BODY):
        return None
    if environ.get("CONTENT_TYPE") != _FORM or any(environ.get(name) for name in _SAYS_MORE):
        return None
    if "token-introspection+jwt" in environ.get("HTTP_ACCEPT", "").lower():  # RFC 9701 §4: another answer
        return None
    body = environ["wsgi.input"].read(int(length))
    environ["wsgi.input"] = BytesIO(body)
    return Request(parts[4], _key(environ, body), body, environ, parts[2])


def _key(environ: Environ, body: bytes) -> bytes:
    """Of all that the ordinary way reads of this request but the caller's address, which only the event names."""
    read = (
        environ["PATH_INFO"],
        environ.get("HTTP_HOST", ""),
        environ.get("HTTP_AUTHORIZATION", ""),
        environ.get("wsgi.url_scheme", ""),
    )
    return hashlib.sha256("\0".join(read).encode("utf-8", "surrogateescape") + b"\0" + body).digest()
