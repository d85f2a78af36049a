"""Letting a resource's own server check tokens itself: the secret or key with which it asks (RFC 7662 §2.1)."""

import secrets
from typing import Any

from django.db import transaction

from agentauth.agents.models import WrongState, actor_of
from agentauth.agents.registering import public_part
from agentauth.resources.models import Resource, ServerCredential
from audit.actions import Action
from audit.record import record
from tenants.models import Member, secret_hash

LIVE = 2  # so that a change costs no downtime, and no third is forgotten


def add_server_credential(resource: Resource, *, by: Member) -> tuple[ServerCredential, str]:
    """A new secret and its text, which is shown once and never again. Unreserved characters only (RFC 3986 §2.3).

    Raises WrongState. In the tenant's transaction.
    """
    secret = f"aas_{secrets.token_urlsafe(32)}"
    credential = ServerCredential(secret_hash=secret_hash(secret), hint=secret[-4:])
    return _add(resource, credential, by=by), secret


def add_server_key(resource: Resource, public_jwk: dict[str, Any], *, by: Member) -> ServerCredential:
    """A public key for `private_key_jwt` (RFC 7523). Raises WrongState, and ValidationError for what is no such key."""
    public = public_part(public_jwk)
    return _add(resource, ServerCredential(public_jwk=public, hint=public["kid"][-4:]), by=by)


def _add(resource: Resource, credential: ServerCredential, *, by: Member) -> ServerCredential:
    with transaction.atomic():
        locked = Resource.objects.select_for_update().get(tenant_id=resource.tenant_id, pk=resource.pk)
        if locked.kind == Resource.Kind.MANAGEMENT or locked.state == Resource.State.RETIRED:
            raise WrongState("No server of its own can check tokens for it.")
        if locked.server_credentials.filter(retired_at=None).count() >= LIVE:
            raise WrongState("Two are live already. Retire one first.")
        credential.tenant_id, credential.resource, credential.created_by = resource.tenant_id, locked, by
        credential.save(force_insert=True)
        record(
            Action.RESOURCE_CREDENTIAL_ADDED,
            tenant_id=resource.tenant_id,
            actor=actor_of(by),
            resource_id=resource.id,
            subject_kind="credential",
            subject=str(credential.id),
        )
    return credential


def client_id_of(resource: Resource) -> str:
    """By what its server names itself: the resource's id, which no client's can equal."""
    return str(resource.id)
