"""What must be known to decide about one call. Times are aware and in UTC."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

RISKS = {"read": 0, "change": 1, "dangerous": 2}
"""In rising order; an unknown class counts as above everything."""


@dataclass(frozen=True, slots=True)
class AgentFacts:
    state: str
    valid_until: datetime | None = None
    ceiling_risk: str = "dangerous"
    ceiling: frozenset[str] | None = None
    """Names of this resource's scopes that it may ever be granted; None where no list was drawn up."""


@dataclass(frozen=True, slots=True)
class OperationFacts:
    key: str
    scope: str | None
    risk: str = ""
    held: bool = False
    sign_in: Mapping[str, Any] = field(default_factory=dict)
    """How well the person must have signed in for it; see `conditions/sign_in.py`."""


@dataclass(frozen=True, slots=True)
class GrantFacts:
    expires_at: datetime
    ended: bool = False
    modes: Mapping[str, str] = field(default_factory=dict)
    """Scope name to always, ask or never. A scope that is not listed was not granted."""
    constraints: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CallFacts:
    """The one call. `arguments` is None where they were not read; `calls_today` where they were not counted yet.

    `acr` and `auth_time` (seconds since 1970) are the token's: how and when its person signed in.
    """

    now: datetime
    ip: str = ""
    arguments: Any = None
    calls_today: int | None = None
    approved: bool = False
    args_hash: str = ""
    acr: str = ""
    auth_time: int | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    call: CallFacts
    agent: AgentFacts | None
    operation: OperationFacts | None
    grant: GrantFacts | None
    token_scopes: frozenset[str] = frozenset()
    token_calls: frozenset[tuple[str, str]] | None = None
    """The calls that the token is good for (RFC 9396), as operation and hash of the arguments; None for any."""
    member_active: bool | None = None
    """None where the agent acts for itself."""
    resource_published: bool = True
    tenant_suspended: bool = False
