"""The compact form of a JWS (RFC 7515 §7.1): three parts of base64url, and nothing else anywhere (§5.2 no. 2). Pure.

Libraries pass over padding and stray characters; then one token could be written in many ways, each with a hash of
its own.
"""

import re

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\Z")


def is_compact(token: str) -> bool:
    """Is it written as a JWS must be? What it holds is another question."""
    return _COMPACT.match(token) is not None
