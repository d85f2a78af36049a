"""Authorization codes: 256 random bits, kept as a hash, good once and for a minute (OAuth 2.1 §4.1.2)."""

import secrets
from datetime import timedelta

from django.conf import settings
from django.utils.timezone import now

from agentauth.grants.models import Grant
from agentauth.oauth.authorization_request import AuthorizationRequest
from agentauth.oauth.high_assurance import LONGEST_CODE
from agentauth.oauth.models import AuthorizationCode
from agentauth.oauth.step_up import SignIn
from tenants.models import secret_hash


def write_code(asked: AuthorizationRequest, grant: Grant, sign_in: SignIn) -> str:
    """A code for what the grant allows of what was asked. In the tenant's transaction."""
    assert grant.member_id is not None
    code = secrets.token_urlsafe(32)
    AuthorizationCode.objects.create(
        tenant_id=grant.tenant_id,
        code_hash=secret_hash(code),
        agent_id=grant.agent_id,
        grant=grant,
        member_id=grant.member_id,
        resource_id=grant.resource_id,
        redirect_uri=asked.to.redirect_uri,
        redirect_uri_given=asked.to.redirect_uri_given,
        code_challenge=asked.code_challenge,
        scope=allowed_of(asked, grant),
        protocol_scope=" ".join(asked.protocol_scope)[:60],
        nonce=asked.nonce,
        auth_time=sign_in.at,
        acr=sign_in.acr,
        authorization_details=list(asked.authorization_details),
        expires_at=now() + timedelta(seconds=_seconds(grant)),
        jkt=asked.dpop_jkt,
    )
    return code


def _seconds(grant: Grant) -> int:
    longest: int = settings.KNOBS.code_seconds
    return min(longest, LONGEST_CODE) if grant.agent.high_assurance else longest


def allowed_of(asked: AuthorizationRequest, grant: Grant) -> str:
    """What was asked for and is granted, as a scope."""
    names = grant.permissions.exclude(mode="never").order_by("scope__name").values_list("scope__name", flat=True)
    return " ".join(name for name in names if not asked.scope or name in asked.scope)
