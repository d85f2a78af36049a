"""Unsafe settings do not start: system checks, each with what to do about it.

`manage.py check` lists them; every process that loads the project calls `refuse_unsafe` (api/apps.py).
"""

import ipaddress
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register  # noqa: A004  # Django's own name
from django.core.exceptions import ImproperlyConfigured

METADATA = {"169.254.169.254", "metadata.google.internal", "fd00:ec2::254"}


@register(Tags.security)
def unsafe_settings(app_configs: Sequence[Any] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """All that is wrong, in the order in which settings.py reads it."""
    found = [*_everywhere()]
    if settings.PRODUCTION:
        found += [*_in_production()]
    return found


def refuse_unsafe() -> None:
    """Nothing starts on these. Raises ImproperlyConfigured with all errors and what to do about each."""
    errors = [message for message in unsafe_settings() if message.is_serious()]
    if errors:
        raise ImproperlyConfigured("\n".join(f"{error.id}: {error.msg} {error.hint}" for error in errors))


def _everywhere() -> Iterator[CheckMessage]:
    knobs = settings.KNOBS
    if _is_inside(settings.HOME, settings.BASE_DIR):
        yield Error(
            f"AGENTAUTH_HOME ({settings.HOME}) is inside the checkout: an update or a commit could touch your data.",
            hint="Choose a folder outside, such as /var/lib/agentauth.",
            id="agentauth.E001",
        )
    if _origin(knobs.base_url) == _origin(knobs.gateway_url):
        yield Error(
            "The console and the gateway share an origin: what an upstream answers could use the console's cookies.",
            hint="Give AGENTAUTH_GATEWAY_URL another host or port than AGENTAUTH_BASE_URL.",
            id="agentauth.E002",
        )
    for name, url in (("AGENTAUTH_BASE_URL", knobs.base_url), ("AGENTAUTH_GATEWAY_URL", knobs.gateway_url)):
        if urlsplit(url).path or urlsplit(url).username:
            yield Error(
                f"{name} is more than an origin: {url}",
                hint="Give scheme and host, and the port if it is not the usual one: https://auth.example.com.",
                id="agentauth.E003",
            )
    if not 30 <= knobs.access_token_seconds <= 3600:
        yield Error(
            f"Access tokens live {knobs.access_token_seconds} seconds.",
            hint="Set AGENTAUTH_ACCESS_TOKEN_SECONDS between 30 and 3600; 300 is usual.",
            id="agentauth.E004",
        )
    if not 10 <= knobs.code_seconds <= 600:
        yield Error(
            f"Authorization codes live {knobs.code_seconds} seconds.",
            hint="Set AGENTAUTH_CODE_SECONDS between 10 and 600 (RFC 6749 §4.1.2); 60 is usual.",
            id="agentauth.E005",
        )


def _in_production() -> Iterator[CheckMessage]:
    knobs = settings.KNOBS
    for name, url in (("AGENTAUTH_BASE_URL", knobs.base_url), ("AGENTAUTH_GATEWAY_URL", knobs.gateway_url)):
        if not url.startswith("https://"):
            yield Error(
                f"{name} is {url}: in production tokens and cookies travel over TLS only.",
                hint=f"Put a TLS proxy in front and set {name} to its https:// address.",
                id="agentauth.E010",
            )
    if settings.DEBUG:
        yield Error(
            "AGENTAUTH_DEBUG is on in production: error pages would show settings and data.",
            hint="Take AGENTAUTH_DEBUG away.",
            id="agentauth.E011",
        )
    if knobs.demo_password:
        yield Error(
            "AGENTAUTH_DEMO_PASSWORD is set in production.",
            hint="Take it away; there are no demo people in production.",
            id="agentauth.E012",
        )
    if knobs.secret_key and len(knobs.secret_key) < 32:
        yield Error(
            "AGENTAUTH_SECRET_KEY is too short to be a secret.",
            hint="Use 50 random characters, or leave it out: one is made and kept under AGENTAUTH_HOME.",
            id="agentauth.E013",
        )
    for entry in knobs.allowed_hosts_outbound:
        if _leads_inside(entry):
            yield Error(
                f"AGENTAUTH_ALLOWED_HOSTS_OUTBOUND has {entry}: tenants could reach this machine's own services.",
                hint="Name the host at its address in your network, with its port.",
                id="agentauth.E014",
            )
    if not (knobs.database_url or knobs.database_app_url):
        yield Warning(
            "Production runs on the embedded PostgreSQL: one machine, and backups are yours to make.",
            hint="Set DATABASE_URL, or keep it so on purpose and see docs/operator.md for backups.",
            id="agentauth.W001",
        )


def _is_inside(folder: Path, other: Path) -> bool:
    folder, other = folder.resolve(), other.resolve()
    return folder == other or other in folder.parents


def _origin(url: str) -> tuple[str, str | None, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def _leads_inside(entry: str) -> bool:
    """Loopback or a cloud's metadata service, as `host`, `host:port` or `[v6]:port`."""
    host = (urlsplit(f"//{entry}").hostname or "").rstrip(".")
    if host in METADATA or host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return mapped.is_loopback or mapped.is_link_local or mapped.is_unspecified
