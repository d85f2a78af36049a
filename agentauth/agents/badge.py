"""The verification line of a badge: two machine-readable lines, the same on the badge and in the record. Pure."""

import hashlib
import re
import unicodedata

from agentauth.agents.models import Agent

_WIDTH = 33
_FILL = "<"


def verification_line(agent: Agent) -> tuple[str, str]:
    """Issuer and name; then key fingerprint, end date, issue number and two check digits over all of it."""
    name = f"AGENT{_FILL}{_letters(agent.tenant.slug)}{_FILL * 2}{_letters(agent.name)}"
    until = f"{agent.valid_until:%y%m%d}" if agent.valid_until else "OPEN"
    facts = f"{_fingerprint(agent)}{_FILL * 2}{until}{_FILL * 2}N{agent.number}"
    first, second = name[:_WIDTH].ljust(_WIDTH, _FILL), facts.ljust(_WIDTH - 2, _FILL)
    return first, second + _check_digits(first + second)


def _letters(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text.upper()).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Z0-9]+", _FILL, plain.replace("'", "")).strip(_FILL)


def _fingerprint(agent: Agent) -> str:
    """The first 48 bits over the newest live credential, or over the client id where there is none."""
    newest = max((c for c in agent.credentials.all() if c.is_live), key=lambda c: c.created_at, default=None)
    proof = (newest.kid.encode() or bytes(newest.secret_hash or b"")) if newest else agent.client_id.encode()
    digits = hashlib.sha256(proof).hexdigest()[:12].upper()
    return ".".join(digits[at : at + 4] for at in (0, 4, 8))


def _check_digits(line: str) -> str:
    """Weights 7 3 1 as on travel documents, modulo 97."""
    values = [0 if c == _FILL else int(c, 36) if c.isalnum() else 0 for c in line]
    return f"{sum(value * (7, 3, 1)[at % 3] for at, value in enumerate(values)) % 97:02d}"
