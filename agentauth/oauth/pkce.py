"""Proof key for code exchange (RFC 7636), S256 only. Pure."""

import hashlib
import re
import secrets
from base64 import urlsafe_b64encode

from agentauth.oauth.errors import InvalidGrant, InvalidRequest

_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}\Z")  # §4.2: BASE64URL of a SHA-256
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}\Z")  # §4.1


def require_challenge(challenge: str, method: str) -> str:
    """§4.4.1, OAuth 2.1 §4.1.1: without one, or with `plain` (also by leaving the method out), there is no code."""
    if not challenge:
        raise InvalidRequest("PKCE is required: send code_challenge.", reason="pkce_missing")
    if method != "S256":
        raise InvalidRequest("Use code_challenge_method S256.", reason="pkce_not_s256")
    if not _CHALLENGE.match(challenge):
        raise InvalidRequest("The code_challenge is not a SHA-256 in base64url.", reason="pkce_malformed")
    return challenge


def check_form(verifier: str) -> None:
    """§4.1: a verifier of another shape cannot be right, and short ones invite guessing."""
    if not verifier:
        raise InvalidGrant("The code_verifier is missing.", reason="pkce_missing")
    if not _VERIFIER.match(verifier):
        raise InvalidGrant("The code_verifier has the wrong form.", reason="pkce_malformed")


def matches(verifier: str, challenge: str) -> bool:
    """§4.6."""
    return secrets.compare_digest(challenge_of(verifier), challenge)


def challenge_of(verifier: str) -> str:
    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
