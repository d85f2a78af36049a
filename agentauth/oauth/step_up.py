"""How well a person has signed in, and having them do it anew or better (RFC 9470; OpenID Connect Core §3.1.2.1).

A sign-in is told as a pair that never says too much: a level, and when the person last proved themselves at that level.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf

from allauth.account.internal.flows.login import get_authentication_records
from allauth.mfa.models import Authenticator
from django.http import HttpRequest, HttpResponseRedirect
from django.utils.timezone import now

from agentauth.oauth.authorization_request import AuthorizationRequest
from agentauth.oauth.errors import LoginRequired, SecondFactorMissing, UnmetAuthenticationRequirements
from agentauth.oauth.session import asked_to_sign_in_at, to_sign_in_again
from agentauth.policy.conditions.sign_in import LEVELS, reaches
from tenants.models import User

ONE, TWO, PASSKEY = LEVELS
_PAGES = {ONE: "account_reauthenticate", TWO: "mfa_reauthenticate", PASSKEY: "mfa_reauthenticate_webauthn"}
_LONG_AGO = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class SignIn:
    """`acr` is one of LEVELS, or empty where this server does not know how it was done."""

    acr: str
    at: datetime


def sign_in_for(request: HttpRequest, user: User, asked: AuthorizationRequest) -> SignIn:
    """The best that the session can say for this request: the highest level proven recently enough."""
    return _best(request, user, _since(request, asked))


def step_up(
    request: HttpRequest, user: User, asked: AuthorizationRequest, *, silent: bool
) -> HttpResponseRedirect | None:
    """None where the sign-in will do; else the way to a better one.

    Raises LoginRequired where nothing may be shown, UnmetAuthenticationRequirements where this person has no way to
    sign in as was asked.
    """
    since = _since(request, asked)
    found = _best(request, user, since)
    reached = not asked.acr_values or any(reaches(found.acr, wanted) for wanted in asked.acr_values)
    if reached and found.at.timestamp() >= since:
        return None
    possible = _possible(user)
    able = [level for level in possible if any(reaches(level, wanted) for wanted in asked.acr_values)]
    if asked.acr_values and not able:
        raise _unmet(asked)
    if silent:
        raise LoginRequired("The sign-in is too old, or too weak.")
    return to_sign_in_again(request, user, page=_PAGES[able[0]] if able else _PAGES[ONE], what=asked.device)


def _unmet(asked: AuthorizationRequest) -> UnmetAuthenticationRequirements:
    """Nobody reaches a level that is not ours; any of ours can be set up."""
    said = "This person cannot sign in as was asked."
    would_do = [level for level in LEVELS if any(reaches(level, wanted) for wanted in asked.acr_values)]
    return (
        SecondFactorMissing(said, only_passkey=would_do == [PASSKEY])
        if would_do
        else UnmetAuthenticationRequirements(said)
    )


def _best(request: HttpRequest, user: User, since: float) -> SignIn:
    proofs = sorted(_proofs(request, user), key=lambda proof: proof[1])
    if not proofs:
        return SignIn("", user.last_login or _LONG_AGO)
    for level in reversed(LEVELS):
        times = [at for proven, at in proofs if reaches(proven, level)]
        if times and times[-1] >= since:
            return SignIn(level, datetime.fromtimestamp(times[-1], UTC))
    level, at = proofs[-1]
    return SignIn(level, datetime.fromtimestamp(at, UTC))


def _proofs(request: HttpRequest, user: User) -> Iterator[tuple[str, float]]:
    """Each way in which this person has proven who they are in this session, and when."""
    for entry in get_authentication_records(request, user):
        at = entry.get("at")
        if not isinstance(at, int | float):
            continue
        if entry.get("method") != "mfa":
            yield ONE, at
        else:  # comes after another factor, or is a passkey, which is both by itself
            yield PASSKEY if entry.get("type") == Authenticator.Type.WEBAUTHN else TWO, at


def _possible(user: User) -> list[str]:
    """The levels that this person has the means for, weakest first."""
    kinds = set(Authenticator.objects.filter(user=user).values_list("type", flat=True))
    means = {ONE: True, TWO: Authenticator.Type.TOTP in kinds, PASSKEY: Authenticator.Type.WEBAUTHN in kinds}
    return [level for level in LEVELS if means[level]]


def _since(request: HttpRequest, asked: AuthorizationRequest) -> float:
    """Seconds since 1970 from which on a sign-in counts. Who was sent to sign in for this very request has done it."""
    sent_at = asked_to_sign_in_at(request, asked.device)  # every device's code is typed in at the same address
    bounds = [0.0]
    if asked.max_age is not None:
        bounds.append(min(now().timestamp() - asked.max_age, inf if sent_at is None else sent_at))
    if "login" in asked.prompt:
        bounds.append(inf if sent_at is None else sent_at)
    return max(bounds)
