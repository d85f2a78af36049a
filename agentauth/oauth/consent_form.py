"""The consent page's form: it carries the whole request, signed, for one person in one browser, to be used once."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.core import signing
from django.http import HttpRequest
from django.utils.timezone import now

from agentauth.agents.models import Agent
from agentauth.oauth.authorization_request import AuthorizationRequest
from agentauth.oauth.errors import InvalidRequest
from agentauth.oauth.session import browser_mark
from agentauth.oauth.spent import spend_once
from agentauth.oauth.step_up import SignIn
from agentauth.resources.models import Scope
from tenants.models import Member, Tenant

_SALT = "agentauth.oauth.consent"
_GOOD_FOR = 30 * 60  # seconds from the question to the answer


@dataclass(frozen=True, slots=True)
class ConsentForm:
    """What was asked, as it was signed."""

    asked: AuthorizationRequest
    scopes: list[str]
    member: UUID
    client: UUID
    sign_in: SignIn  # as the question's request had it, whatever the session says later
    once: str
    until: datetime

    def spend(self, tenant: Tenant) -> bool:
        """True for the first answer. In the tenant's transaction."""
        return spend_once(tenant.id, "consent", hashlib.sha256(self.once.encode()).digest(), self.until)


def sign_form(
    request: HttpRequest,
    tenant: Tenant,
    *,
    asked: AuthorizationRequest,
    scopes: list[Scope],
    member: Member,
    client: Agent,
    sign_in: SignIn,
) -> str:
    form = {
        "asked": asked.as_data(),
        "scopes": [scope.name for scope in scopes],
        "member": str(member.id),
        "client": str(client.id),
        "browser": browser_mark(request),
        "once": secrets.token_urlsafe(16),
        "sign_in": [sign_in.acr, sign_in.at.timestamp()],
        "until": int(now().timestamp()) + 2 * _GOOD_FOR,
    }
    return signing.dumps(form, salt=_salt(tenant), compress=True)


def read_form(request: HttpRequest, tenant: Tenant) -> ConsentForm:
    """Signed by us for this tenant, this person and this browser, and not long ago. Raises InvalidRequest."""
    try:
        form = signing.loads(request.POST.get("request", ""), salt=_salt(tenant), max_age=_GOOD_FOR)
    except signing.SignatureExpired:
        raise InvalidRequest(
            "This question is too old. Start again where you came from.", reason="consent_old"
        ) from None
    except signing.BadSignature:
        raise InvalidRequest("This form is not one of ours.", reason="consent_forged") from None
    if not secrets.compare_digest(str(form.get("browser")), browser_mark(request)):
        raise InvalidRequest("This question was asked in another browser.", reason="consent_other_browser")
    try:
        return _as_signed(form)
    except (KeyError, TypeError, ValueError):  # in the middle of an upgrade
        raise InvalidRequest(
            "This question was asked by another version. Start again where you came from.", reason="consent_old"
        ) from None


def _as_signed(form: dict[str, Any]) -> ConsentForm:
    acr, at = form["sign_in"]
    return ConsentForm(
        asked=AuthorizationRequest.from_data(form["asked"]),
        scopes=form["scopes"],
        member=UUID(form["member"]),
        client=UUID(form["client"]),
        sign_in=SignIn(acr, datetime.fromtimestamp(at, UTC)),
        once=form["once"],
        until=datetime.fromtimestamp(form["until"], UTC),
    )


def _salt(tenant: Tenant) -> str:
    return f"{_SALT}/{tenant.id}"
