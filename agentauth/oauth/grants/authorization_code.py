"""The authorization code grant (OAuth 2.1 §4.1.3) with PKCE (RFC 7636)."""

from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.utils.timezone import now

from agentauth.agents.models import Agent
from agentauth.oauth.errors import InvalidGrant
from agentauth.oauth.families import end_reused
from agentauth.oauth.grants.authority import Authority, Family
from agentauth.oauth.models import AuthorizationCode
from agentauth.oauth.parameters import Parameters
from agentauth.oauth.pkce import check_form, matches
from tenants.models import secret_hash
from tenants.rls import new_id


def prove(asked: Parameters, client: Agent) -> Authority:
    """Bound to client, redirect URI, challenge and resource; a second use ends what the first one gave (§4.1.3)."""
    row = find(asked.require("code"), client)
    if row.agent_id != client.id:  # whoever presents it is not the one it was given to: nothing is said, nothing burnt
        raise InvalidGrant("The code is not good.", reason="code_of_another_client")
    if row.spent_at is not None:
        reused = InvalidGrant("The code is not good.", reason="code_reused", grant=row.grant)
        reused.aftermath = lambda: end_reused(row, row.family, kind="authorization_code")
        raise reused
    if row.expires_at <= now():
        raise InvalidGrant("The code is not good.", reason="code_expired", grant=row.grant)
    try:
        _require_same_browser(asked, row)
    except InvalidGrant as wrong:  # one try is all there is (RFC 7636 §7.1)
        wrong.aftermath, wrong.grant_id, wrong.member_id = (lambda: _burn(row)), row.grant_id, row.member_id
        raise
    if not row.grant.is_live or not (row.grant.member and row.grant.member.is_active):
        raise InvalidGrant("What was allowed has ended.", reason="grant_ended", grant=row.grant)
    details = tuple(row.authorization_details)
    family = Family(new_id(), row.scope, now() + timedelta(days=settings.KNOBS.refresh_token_days), details)

    def spend(jti: UUID) -> None:
        row.spent_at, row.access_jti, row.family = now(), jti, family.id
        row.save(update_fields=["spent_at", "access_jti", "family"])

    return Authority(
        grant=row.grant,
        scope=tuple(row.scope.split()),
        spend=spend,
        auth_time=row.auth_time,
        family=family,
        nonce=row.nonce,
        openid="openid" in row.protocol_scope.split(),
        bound_to=row.jkt,
        authorization_details=details,
        acr=row.acr,
    )


def _require_same_browser(asked: Parameters, row: AuthorizationCode) -> None:
    """Whoever redeems the code began it: the same redirect URI, if one is named, and the verifier (RFC 7636 §4.6)."""
    if asked.get("redirect_uri", row.redirect_uri) != row.redirect_uri:
        raise InvalidGrant("The redirect_uri differs.", reason="redirect_uri_differs")
    verifier = asked.get("code_verifier", "")
    check_form(verifier)
    if not matches(verifier, row.code_challenge):
        raise InvalidGrant("The code_verifier is wrong.", reason="pkce_wrong")


def find(code: str, client: Agent) -> AuthorizationCode:
    """The code's row, locked: of several who present it at once, the others wait here and then see it spent."""
    rows = AuthorizationCode.objects.filter(tenant_id=client.tenant_id, code_hash=secret_hash(code))
    row = rows.select_for_update(of=("self",)).select_related("grant__member__user", "grant__resource").first()
    if row is None:
        raise InvalidGrant("The code is not good.", reason="unknown_code")
    return row


def _burn(row: AuthorizationCode) -> None:
    AuthorizationCode.objects.filter(tenant_id=row.tenant_id, pk=row.pk, spent_at=None).update(spent_at=now())
