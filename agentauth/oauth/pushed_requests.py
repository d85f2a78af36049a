"""Requests that were sent ahead (RFC 9126): kept under a hash, claimed by one browser, answered once."""

import secrets
from datetime import timedelta

from django.utils.timezone import now

from agentauth.agents.models import Agent
from agentauth.oauth.errors import InvalidRequestUri
from agentauth.oauth.models import PushedRequest
from agentauth.oauth.parameters import Parameters
from tenants.models import secret_hash

PREFIX = "urn:ietf:params:oauth:request_uri:"
SECONDS = 60  # until a browser must have brought it (§2.2)
_TO_ANSWER = timedelta(minutes=30)  # once a browser has: its person may have to sign in first
_CREDENTIALS = ("client_secret", "client_assertion", "client_assertion_type")


def keep(asked: Parameters, client: Agent, **learnt: str) -> str:
    """The new request's address (§2.2), with what else we learnt of it. In the tenant's transaction."""
    pairs = [(name, value) for name, value in asked.items() if name not in (*_CREDENTIALS, *learnt)]
    secret = secrets.token_urlsafe(32)
    PushedRequest.objects.create(
        tenant_id=client.tenant_id,
        uri_hash=secret_hash(secret),
        agent=client,
        parameters=[*pairs, *learnt.items(), *(("resource", url) for url in asked.resources)],
        expires_at=now() + timedelta(seconds=SECONDS),
    )
    return PREFIX + secret


def is_pushed(asked: Parameters) -> bool:
    return asked.get("request_uri", "").startswith(PREFIX)


def claim(request_uri: str, client: Agent, browser: str) -> PushedRequest:
    """The request, which from now on is this browser's until it is answered; or InvalidRequestUri (§4).

    In the tenant's transaction. `browser` is the mark of its session.
    """
    row = find(request_uri, client)
    if row is None:
        raise InvalidRequestUri("This request is not known.", reason="unknown_request_uri")
    if row.agent_id != client.id:  # §2.2: bound to the client that sent it; nothing is used up for its finder
        raise InvalidRequestUri("This request is not known.", reason="request_uri_of_another_client")
    if row.spent_at is not None:
        raise used_before()
    if row.browser not in ("", browser):
        raise InvalidRequestUri("This request was opened in another browser.", reason="request_uri_other_browser")
    if row.expires_at <= now():
        raise InvalidRequestUri("This request is too old.", reason="request_uri_expired")
    if not row.browser:
        row.browser, row.expires_at = browser, now() + _TO_ANSWER
        row.save(update_fields=["browser", "expires_at"])
    return row


def find(request_uri: str, client: Agent) -> PushedRequest | None:
    """The row, locked: of several browsers that bring it at once, the others wait here and then see whose it is."""
    rows = PushedRequest.objects.filter(
        tenant_id=client.tenant_id, uri_hash=secret_hash(request_uri.removeprefix(PREFIX))
    )
    return rows.select_for_update().first()


def parameters_of(row: PushedRequest, beside: Parameters) -> Parameters:
    """What was pushed, and nothing else: what stands beside its address is not read (RFC 9101 §6.3)."""
    if "request" in beside.sound():  # RFC 9101 §5: never both
        raise InvalidRequestUri("request and request_uri do not go together.", reason="beside_request_uri")
    return Parameters([(name, value) for name, value in row.parameters])


def spend(row: PushedRequest | None) -> bool:
    """True if this is its first answer, or if nothing was pushed. Together with the answer, in one transaction."""
    if row is None:
        return True
    rows = PushedRequest.objects.filter(tenant_id=row.tenant_id, pk=row.pk, spent_at=None)
    return rows.update(spent_at=now()) == 1


def used_before() -> InvalidRequestUri:
    return InvalidRequestUri("This request was used before.", reason="request_uri_reused")
