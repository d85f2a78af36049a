"""Errors of the protocol: a class per code of the RFCs, each knowing its status.

`description` is ours and plain ASCII without quotes (RFC 6749 §5.2); what a caller sent is never repeated in it.
"""

from collections.abc import Callable
from typing import ClassVar
from uuid import UUID

from agentauth.grants.models import Grant


class OAuthError(Exception):
    """A refusal with the RFC's own code. A raise rolls back; what must stay behind it is done by `aftermath`.

    `reason` is the word for the record, where it is finer than the code. `aftermath` runs in a transaction of its own
    after the rollback, inside the tenant: the family revoked after a replay, the code burnt by a wrong verifier.
    """

    code: ClassVar[str] = "invalid_request"
    status: ClassVar[int] = 400
    on_record: ClassVar[bool] = True

    def __init__(
        self,
        description: str = "",
        *,
        reason: str = "",
        grant: Grant | None = None,
        member_id: UUID | None = None,
        aftermath: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(description)
        self.description = description
        self.reason = reason or self.code
        self.grant_id = grant.id if grant else None
        self.member_id = grant.member_id if grant else member_id
        self.aftermath = aftermath

    def document(self) -> dict[str, str]:
        """RFC 6749 §5.2."""
        said = {"error": self.code}
        return said | {"error_description": self.description} if self.description else said


class InvalidRequest(OAuthError):
    """RFC 6749 §5.2."""


class RequestTooLarge(OAuthError):
    status = 413


class UnsupportedMediaType(OAuthError):
    """RFC 6749 §5.2: 400, like every malformed request."""


class InvalidClient(OAuthError):
    """RFC 6749 §5.2: 401, and a challenge where the client tried the Authorization header."""

    code = "invalid_client"
    status = 401


class InvalidGrant(OAuthError):
    code = "invalid_grant"


class UnauthorizedClient(OAuthError):
    code = "unauthorized_client"


class UnsupportedGrantType(OAuthError):
    code = "unsupported_grant_type"


class UnsupportedResponseType(OAuthError):
    """RFC 6749 §4.1.2.1."""

    code = "unsupported_response_type"


class InvalidScope(OAuthError):
    code = "invalid_scope"


class AccessDenied(OAuthError):
    code = "access_denied"


class ApprovalFirst(AccessDenied):
    """The organisation wants an admin to answer for this client before anybody is asked."""


class InvalidTarget(OAuthError):
    """RFC 8707 §2."""

    code = "invalid_target"


class InvalidAuthorizationDetails(OAuthError):
    """RFC 9396 §5."""

    code = "invalid_authorization_details"


class UnmetAuthenticationRequirements(OAuthError):
    """RFC 9470 §5: the person cannot sign in as strongly as was asked."""

    code = "unmet_authentication_requirements"


class SecondFactorMissing(UnmetAuthenticationRequirements):
    """They have not set up what it takes, and can: a passkey, or where that will do a code from an app."""

    def __init__(self, description: str, *, only_passkey: bool) -> None:
        super().__init__(description)
        self.only_passkey = only_passkey


class LoginRequired(OAuthError):
    """OpenID Connect Core §3.1.2.6, as the next one."""

    code = "login_required"


class ConsentRequired(OAuthError):
    code = "consent_required"


class RequestNotSupported(OAuthError):
    """OpenID Connect Core §3.1.2.6: we take no request objects."""

    code = "request_not_supported"


class RequestUriNotSupported(OAuthError):
    code = "request_uri_not_supported"


class InvalidRequestUri(OAuthError):
    """OpenID Connect Core §3.1.2.6: told to the person, since what would say where to send it cannot be used."""

    code = "invalid_request_uri"


class InvalidDPoPProof(OAuthError):
    """RFC 9449 §5."""

    code = "invalid_dpop_proof"


class UseDPoPNonce(OAuthError):
    """RFC 9449 §8. Not a refusal: the client is told the nonce to use, and comes again."""

    code = "use_dpop_nonce"
    on_record = False


class InvalidRedirectUri(OAuthError):
    """RFC 7591 §3.2.2, as the next one."""

    code = "invalid_redirect_uri"


class InvalidClientMetadata(OAuthError):
    code = "invalid_client_metadata"


class InvalidToken(OAuthError):
    """RFC 6750 §3.1, for the registration access token (RFC 7592 §2) and at the UserInfo endpoint."""

    code = "invalid_token"
    status = 401


class InsufficientScope(OAuthError):
    """RFC 6750 §3.1: the token is good, but not for this."""

    code = "insufficient_scope"
    status = 403


class AgentStopped(OAuthError):
    """RFC 7592 §2.1: its token is right, and yet it may not."""

    code = "access_denied"
    status = 403


class RegistrationClosed(OAuthError):
    """This tenant takes no registrations from outside: OAuth names no code, 403 says it."""

    code = "access_denied"
    status = 403


class AuthorizationPending(OAuthError):
    """RFC 8628 §3.5, as the next two. Not a refusal: the person has not answered yet."""

    code = "authorization_pending"
    on_record = False


class UnknownUserId(OAuthError):
    """OpenID Connect CIBA Core §13, as the next two."""

    code = "unknown_user_id"


class InvalidBindingMessage(OAuthError):
    code = "invalid_binding_message"


class AskingDenied(AccessDenied):
    """Before any person was asked: who may ask is our policy."""

    status = 403


class SlowDown(OAuthError):
    code = "slow_down"


class ExpiredToken(OAuthError):
    code = "expired_token"


class TooManyRequests(OAuthError):
    """RFC 6585 §4. The code is the one that RFC 8628 and servers use for going too fast."""

    code = "slow_down"
    status = 429


class TemporarilyUnavailable(OAuthError):
    code = "temporarily_unavailable"
    status = 503
