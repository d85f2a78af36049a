"""Names of hosts that a tenant may have for its issuer."""

import re
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ValidationError

_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)\Z")


def is_host_name(text: str) -> bool:
    """A name with a dot, in small letters (RFC 1123 §2.1; other scripts as A-labels), and no address."""
    labels = text.split(".")
    whole = 3 < len(text) <= 253 and len(labels) > 1
    return whole and all(_LABEL.match(label) for label in labels) and not labels[-1].isdigit()


def read_issuer_host(text: str) -> str:
    """What somebody typed, as it is stored; empty for none. Raises ValidationError, saying what would be right."""
    host = text.strip().lower().removesuffix(".")
    if not host:
        return ""
    if not is_host_name(host):
        raise ValidationError("Give the name of a host alone, such as auth.acme.example: no scheme, port or path.")
    for taken, what in ((settings.KNOBS.base_url, "console"), (settings.KNOBS.gateway_url, "gateway")):
        if host == urlsplit(taken).hostname:
            raise ValidationError(f"The {what} is at this host. An issuer of its own needs one that nobody else has.")
    return host
