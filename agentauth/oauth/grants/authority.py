"""What a grant proves: who acts, for whom, where, with which permissions at most, and how it is used up."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from agentauth.agents.models import Agent
from agentauth.grants.models import Grant
from agentauth.oauth.parameters import Parameters

# Called with the jti of the access token that is being issued; uses the artefact up
Spend = Callable[[UUID], None]


@dataclass(frozen=True, slots=True)
class Family:
    """The refresh tokens that come of one consent (OAuth 2.1 §4.3.1): they live and die together."""

    id: UUID
    scope: str  # as consented; a narrower request narrows only its own access token (RFC 6749 §6)
    expires_at: datetime
    authorization_details: tuple[dict[str, Any], ...] = ()  # likewise (RFC 9396 §6)


@dataclass(frozen=True, slots=True)
class Delegation:
    """The token that another was exchanged for (RFC 8693): whose it is, its actors, what stood behind it, its end."""

    sub: str
    sub_is_agent: bool
    act: dict[str, Any] | None  # the actors before this one, the latest outermost (§4.1)
    via: list[dict[str, str]]  # each token before this one: when it or its grant ends, so does what came of it
    expires: int | None = None  # seconds since 1970; None: it sets no end of its own


@dataclass(frozen=True, slots=True)
class Authority:
    """Proven, not yet used. `scope` are names, still to be cut by what the grant and the ceiling allow now."""

    grant: Grant
    scope: tuple[str, ...]
    spend: Spend
    auth_time: datetime | None = None
    family: Family | None = None
    nonce: str = ""
    openid: bool = False
    delegation: Delegation | None = None
    gives_part: bool = False  # RFC 6749 §3.3: of what was asked for, what is granted; else asking for more is refused
    bound_to: str = ""  # the only key (RFC 7638 thumbprint) that may use this artefact (RFC 9449 §5, §10)
    authorization_details: tuple[dict[str, Any], ...] = ()  # RFC 9396, as allowed
    acr: str = ""  # RFC 9470
    vouched_by: dict[str, str] | None = None  # the foreign token behind it, for the record: issuer, jti


# In the tenant's transaction, under a row lock. Raises OAuthError; what a refusal leaves behind is its aftermath
Prove = Callable[[Parameters, Agent], Authority]
