"""The way to a resource's server: its address and its credential, sealed at rest, shown to nobody, logged nowhere."""

import re
from base64 import b64encode
from collections.abc import Mapping

from django.core.exceptions import ValidationError
from django.db import transaction

from agentauth.keys import ring
from agentauth.outbound.addresses import FetchRefused, read_url
from agentauth.outbound.connector import check_url
from agentauth.resources.models import Resource
from audit.actions import Action
from audit.record import Actor, record
from tenants.models import Member
from tenants.notice import announce

PURPOSE = "upstream"
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,60}\Z")
_OURS = re.compile(
    r"(host|connection|keep-alive|te|trailer|transfer-encoding|upgrade|content-.*|accept.*|forwarded|x-forwarded-.*"
    r"|proxy-.*|mcp-.*|agentauth-.*|set-cookie)\Z",
    re.IGNORECASE,
)
_LONGEST_SECRET = 8192


def clean_upstream_url(url: str, kind: str) -> str:
    """The address as we keep it. Raises ValidationError for one that breaks the rules of the way out."""
    url = url.strip()
    try:
        destination = check_url(url)
    except FetchRefused as refused:
        raise ValidationError({"upstream_url": refused.reason}) from None
    if kind == Resource.Kind.REST and "?" in url:
        raise ValidationError({"upstream_url": "The address of an API must not have a query (?…)."})
    if any(segment in (".", "..") for segment in destination.target.partition("?")[0].split("/")):
        raise ValidationError({"upstream_url": "The address must not have dot segments."})
    return url.rstrip("/") if kind == Resource.Kind.REST else url


def headers_for(auth: str, header: str, secret: str) -> dict[str, str]:
    """The request headers that carry a credential. Raises ValidationError keyed by field; never quotes the secret."""
    if auth == Resource.UpstreamAuth.NONE:
        return {}
    wrong: dict[str, str] = {}
    if auth not in Resource.UpstreamAuth.values:
        wrong["auth"] = "Choose how the server knows us."
    if not secret:
        wrong["secret"] = "Enter the credential."  # a message
    elif len(secret) > _LONGEST_SECRET or not secret.isascii() or not secret.isprintable() or secret != secret.strip():
        wrong["secret"] = "Use visible ASCII characters, without spaces around them."  # a message
    if auth == Resource.UpstreamAuth.HEADER and (not _HEADER.match(header) or _OURS.match(header)):
        wrong["header"] = "This is not the name of a header that we may set."
    if auth == Resource.UpstreamAuth.BASIC and (not header or ":" in header or not header.isprintable()):
        wrong["header"] = "Enter the user name, without a colon."
    if wrong:
        raise ValidationError(wrong)
    if auth == Resource.UpstreamAuth.HEADER:
        return {header: secret}
    if auth == Resource.UpstreamAuth.BASIC:
        return {"Authorization": "Basic " + b64encode(f"{header}:{secret}".encode()).decode()}
    return {"Authorization": f"Bearer {secret}"}


def set_credential(resource: Resource, *, by: Member | Actor, auth: str, header: str = "", secret: str = "") -> None:
    """From now on the server knows us by this. Raises ValidationError keyed by `auth`, `header`, `secret`."""
    header = header.strip()
    headers_for(auth, header, secret)
    named = auth in (Resource.UpstreamAuth.HEADER, Resource.UpstreamAuth.BASIC)
    resource.upstream_auth = auth
    resource.upstream_header = header if named else ""
    resource.sealed_credential = (
        None
        if auth == Resource.UpstreamAuth.NONE
        else ring.seal(secret.encode(), tenant_id=resource.tenant_id, row_id=resource.id, purpose=PURPOSE)
    )
    with transaction.atomic():
        resource.save(update_fields=["upstream_auth", "upstream_header", "sealed_credential"])
        record_about(resource, Action.RESOURCE_CHANGED, by, {"credential": auth})


def set_address(resource: Resource, *, by: Member | Actor, upstream_url: str) -> bool:
    """The server has moved. Whether that cost the credential. Raises ValidationError keyed by `upstream_url`.

    A credential was entered for one server: at another origin it must be entered again, so that whoever may change
    addresses cannot have it sent to a server of their own. Our own tasks move only what is ours.
    """
    moved = clean_upstream_url(upstream_url, resource.kind)
    if moved == resource.upstream_url:
        return False
    elsewhere = read_url(moved).origin != read_url(resource.upstream_url).origin
    drops = elsewhere and resource.sealed_credential is not None and not (isinstance(by, Actor) and by.kind == "task")
    was, resource.upstream_url = resource.upstream_url, moved
    if drops:
        resource.upstream_auth, resource.upstream_header = Resource.UpstreamAuth.NONE, ""
        resource.sealed_credential = None
    with transaction.atomic():
        resource.save(update_fields=["upstream_url", "upstream_auth", "upstream_header", "sealed_credential"])
        details = {"upstream_url": moved, "was": was} | ({"credential": "dropped"} if drops else {})
        record_about(resource, Action.RESOURCE_CHANGED, by, details)
    return drops


def upstream_headers(resource: Resource) -> dict[str, str]:
    """What to add to a request so that the server lets us in. Raises ring.RingError when the credential cannot open."""
    if resource.upstream_auth == Resource.UpstreamAuth.NONE or resource.sealed_credential is None:
        return {}
    secret = ring.unseal(
        bytes(resource.sealed_credential), tenant_id=resource.tenant_id, row_id=resource.id, purpose=PURPOSE
    )
    return headers_for(resource.upstream_auth, resource.upstream_header, secret.decode())


def record_about(resource: Resource, action: Action, by: Member | Actor, details: Mapping[str, object]) -> None:
    """An event about this resource, and word to every process that holds a copy of it. In its change's transaction."""
    record(
        action,
        tenant_id=resource.tenant_id,
        actor=by if isinstance(by, Actor) else Actor("member", str(by.id)),
        resource_id=resource.id,
        subject_kind="resource",
        subject=str(resource.id),
        details=details,
    )
    announce(resource.tenant_id, "config", f"resources:{resource.id}")
