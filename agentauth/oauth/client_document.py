"""Client ID Metadata Documents (draft-ietf-oauth-client-id-metadata-document-02): client_id is the URL of one."""

import re
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from django.utils.timezone import now

from agentauth.agents.models import Agent
from agentauth.oauth.client_metadata import ClientMetadata, read_document
from agentauth.oauth.errors import InvalidClient, InvalidClientMetadata, OAuthError, TemporarilyUnavailable
from agentauth.oauth.freshness import lifetime
from agentauth.oauth.registration_document import parsed
from agentauth.oauth.self_registration import admit, renew
from agentauth.outbound.crowd import place_outside
from agentauth.outbound.fetch import FetchFailed, FetchRefused, fetch
from tenants.models import Tenant
from tenants.rls import in_tenant

_MAX_BYTES = 32 * 1024  # §6.6 recommends 5 KB; some real ones carry keys and logos
_TIMEOUT = 5.0
_URL = re.compile(r"https://[A-Za-z0-9.-]+(:[0-9]{1,5})?/[A-Za-z0-9._~:/?&=%+,;@!$'()*-]*\Z")


def is_document_url(client_id: str) -> bool:
    """§3: https, a host, a path, no fragment, no user, no dot segments, plain characters."""
    if len(client_id) > 500 or not _URL.match(client_id):
        return False
    parts = urlsplit(client_id)
    segments = parts.path.lower().replace("%2e", ".").split("/")
    return parts.path not in ("", "/") and "." not in segments and ".." not in segments


def looks_like_document(client_id: str) -> bool:
    """Our own ids never have a scheme (§3)."""
    return client_id.startswith(("https:", "http:"))


def needs_reading(agent: Agent | None) -> bool:
    """Never seen, or no longer fresh."""
    return agent is None or agent.document_fresh_until is None or agent.document_fresh_until <= now()


def client_of_document(tenant: Tenant, client_id: str, known: Agent | None, *, ip: str) -> Agent:
    """The agent that the document at `client_id` describes now. If it cannot be read, the last good copy counts.

    Not in a transaction: it goes out to somebody else's server. Errors are never kept (§4.1).
    """
    if not is_document_url(client_id):
        raise InvalidClient("The client_id is not a document URL.", reason="client_document_url")
    try:
        metadata, fresh = read(client_id)
    except OAuthError:
        if known is not None:
            return known
        raise
    at = now()
    times: dict[str, Any] = {"document_fetched_at": at, "document_fresh_until": at + timedelta(seconds=fresh)}
    with in_tenant(tenant.id):
        agent = Agent.objects.select_for_update().filter(tenant=tenant, client_id=client_id).first()
        if agent is None:
            kind = Agent.Registration.DOCUMENT
            return admit(tenant, metadata, registration=kind, client_id=client_id, ip=ip, **times)
        renew(agent, metadata, **times)
        return agent


def read(client_id: str) -> tuple[ClientMetadata, float]:
    """What the document says and how many seconds it stays fresh. Raises OAuthError with a plain reason."""
    try:
        with place_outside() as placed:
            if not placed:
                raise TemporarilyUnavailable("Too many documents are being read. Try again.", reason="document_crowd")
            fetched = fetch(client_id, accept="application/json, */*;q=0.1", max_bytes=_MAX_BYTES, timeout=_TIMEOUT)
    except (FetchRefused, FetchFailed):
        raise InvalidClient("The client document cannot be read.", reason="client_document_unreachable") from None
    if fetched.status != 200:  # §4: nothing else will do
        raise InvalidClient("The client document cannot be read.", reason="client_document_unreachable")
    if fetched.media_type != "application/json" and not fetched.media_type.endswith("+json"):
        raise InvalidClient("The client document is not JSON.", reason="client_document_malformed")
    try:
        document = parsed(fetched.body)
    except InvalidClientMetadata as wrong:
        raise InvalidClient(wrong.description, reason="client_document_malformed") from None
    if document.get("client_id") != client_id:  # §4.1: simple string comparison
        raise InvalidClient("The client document names another client_id.", reason="client_document_of_another")
    return read_document(document), lifetime(fetched.headers, usual=0)  # who says nothing may change it any moment
