"""What the operator of this installation allows beyond public addresses. Read on every call, never kept."""

from urllib.parse import urlsplit

from agentauth import settings


def allowed_hosts() -> tuple[str, ...]:
    """`host` or `host:port` entries that may be reached at any address; the demo's office is one of them."""
    hosts = tuple(settings.KNOBS.allowed_hosts_outbound)
    if settings.KNOBS.mode == "demo":
        office = urlsplit(settings.KNOBS.office_url)
        hosts += (f"{office.hostname}:{office.port or (443 if office.scheme == 'https' else 80)}",)
    return hosts


def https_only() -> bool:
    """In production what leaves the house is encrypted, unless the operator named the host."""
    return settings.KNOBS.mode == "production"
