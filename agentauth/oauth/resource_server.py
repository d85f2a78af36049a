"""A resource's own server that asks about tokens (RFC 7662 §2.1): it proves itself by a secret and gets no tokens."""

import secrets
from uuid import UUID

from agentauth.oauth.client_authentication import read_credentials
from agentauth.oauth.door import Call
from agentauth.oauth.errors import InvalidClient
from agentauth.oauth.last_use import note_use
from agentauth.oauth.parameters import Parameters
from agentauth.resources.models import Resource, ServerCredential
from tenants.models import secret_hash
from tenants.rls import in_tenant

_SECRET_METHODS = ("client_secret_basic", "client_secret_post")


def find_resource_server(call: Call, asked: Parameters) -> Resource | None:
    """The resource whose own server this call proves to be; None when it names no resource of this tenant.

    Raises InvalidClient when it names one and does not prove it (RFC 6749 §2.3.1).
    """
    shown = read_credentials(asked, call.authorization)
    named = _resource_id(shown.client_id)
    if named is None or shown.method not in _SECRET_METHODS:
        return None
    with in_tenant(call.tenant.id):
        resource = Resource.objects.filter(tenant=call.tenant, pk=named).first()
        if resource is None:
            return None
        proof = _proof(resource, shown.secrets)
        if proof is None:
            raise InvalidClient("The client secret is wrong.", reason="wrong_secret")
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


def _proof(resource: Resource, shown: tuple[str, ...]) -> ServerCredential | None:
    for credential in resource.server_credentials.filter(retired_at=None):
        if any(secrets.compare_digest(bytes(credential.secret_hash), secret_hash(one)) for one in shown):
            return credential
    return None
