"""A resource's own server that asks about tokens (RFC 7662 §2.1): it proves itself and gets no tokens."""

import hashlib
import secrets
import time
from datetime import UTC, datetime
from uuid import UUID

from agentauth.keys.addresses import issuer
from agentauth.oauth.client_assertion import header_kid, verify
from agentauth.oauth.client_authentication import Presented, read_credentials
from agentauth.oauth.door import Call
from agentauth.oauth.errors import InvalidClient
from agentauth.oauth.last_use import note_use
from agentauth.oauth.parameters import Parameters
from agentauth.oauth.spent import spend_once
from agentauth.resources.models import Resource, ServerCredential
from tenants.models import secret_hash
from tenants.rls import in_tenant

_METHODS = ("client_secret_basic", "client_secret_post", "private_key_jwt")


def find_resource_server(call: Call, asked: Parameters) -> Resource | None:
    """The resource whose own server this call proves to be; None when it names no resource of this tenant.

    Raises InvalidClient when it names one and does not prove it (RFC 6749 §2.3.1, RFC 7523 §3).
    """
    shown = read_credentials(asked, call.authorization)
    named = _resource_id(shown.client_id)
    if named is None or shown.method not in _METHODS:
        return None
    with in_tenant(call.tenant.id):
        resource = Resource.objects.filter(tenant=call.tenant, pk=named).first()
        if resource is None:
            return None
        live = list(resource.server_credentials.filter(retired_at=None))
        proof = _by_key(call, live, shown) if shown.assertion else _by_secret(live, shown)
        if resource.state == Resource.State.RETIRED:
            raise InvalidClient("This resource is closed.", reason="resource_retired")
        note_use(proof)
    return resource


def _resource_id(client_id: str) -> UUID | None:
    try:
        found = UUID(client_id)
    except ValueError:
        return None
    return found if str(found) == client_id else None  # one spelling only


def _by_secret(live: list[ServerCredential], shown: Presented) -> ServerCredential:
    for credential in live:
        kept = bytes(credential.secret_hash or b"")
        if kept and any(secrets.compare_digest(kept, secret_hash(one)) for one in shown.secrets):
            return credential
    raise InvalidClient("The client secret is wrong.", reason="wrong_secret")


def _by_key(call: Call, live: list[ServerCredential], shown: Presented) -> ServerCredential:
    """By the key that the assertion names, or the only one. In the tenant's transaction; uses the assertion up."""
    able = {one.public_jwk["kid"]: one for one in live if one.public_jwk is not None}
    kid = header_kid(shown.assertion)
    if kid is None and len(able) == 1:
        (kid,) = able
    credential = able.get(kid or "")
    if credential is None or credential.public_jwk is None:
        raise InvalidClient("This resource has no such key.", reason="assertion_signature")
    here = issuer(call.tenant)
    proof = verify(
        shown.assertion,
        client_id=shown.client_id,
        keys=[credential.public_jwk],
        audiences=(here, f"{here}/oauth/introspect"),
        now=time.time(),
    )
    mark = hashlib.sha256(f"{shown.client_id}\0{proof.jti}".encode("utf-8", "surrogatepass")).digest()
    if not spend_once(call.tenant.id, "assertion", mark, datetime.fromtimestamp(proof.expires, UTC)):
        raise InvalidClient("This client assertion was used before.", reason="assertion_replayed")
    return credential
