"""Who calls an endpoint: client authentication (RFC 6749 §2.3, OAuth 2.1 §2.4, RFC 7523)."""

import binascii
import hashlib
import re
import secrets
import time
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_plus

from django.db.models import Q
from django.utils.timezone import now

from agentauth.agents.models import Agent, Credential, TrustedIssuer
from agentauth.agents.registering import JWT_BEARER
from agentauth.keys.addresses import issuer
from agentauth.keys.verifying import one_name
from agentauth.oauth.client_assertion import ALGORITHMS, ASSERTION_TYPE, claimed_client, header_kid, verify
from agentauth.oauth.client_keys import keys_at
from agentauth.oauth.door import Call
from agentauth.oauth.errors import InvalidClient, InvalidGrant, InvalidRequest, UnauthorizedClient
from agentauth.oauth.high_assurance import ALGORITHMS as HIGH_ASSURANCE
from agentauth.oauth.high_assurance import require_key
from agentauth.oauth.last_use import is_to_note, note_use
from agentauth.oauth.parameters import Parameters
from agentauth.oauth.spent import spend_once
from agentauth.oauth.trust import workload
from agentauth.oauth.trust.reading import NotGood
from tenants.models import secret_hash
from tenants.rls import in_tenant

_CLIENT_ID = re.compile(r"[\x21-\x7e]{1,500}\Z")
SPIFFE_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"  # draft-ietf-oauth-spiffe-client-auth
_OF_ITS_PLATFORM = ("workload_jwt", "workload_grant", "spiffe_jwt")


@dataclass(frozen=True, slots=True)
class Presented:
    """What the client showed, in exactly one way."""

    client_id: str
    method: str
    secrets: tuple[str, ...] = ()  # the forms that the one secret may have been sent in
    assertion: str = ""


def authenticate_client(call: Call, asked: Parameters) -> Agent:
    """The active agent that this call proves to be, or InvalidClient. Uses up an assertion in its own transaction."""
    shown = read_credentials(asked, call.authorization)
    if shown.method in _OF_ITS_PLATFORM:
        return _by_workload(call, shown)
    if not _CLIENT_ID.match(shown.client_id):  # decoded out of Basic or an assertion it may hold anything
        raise InvalidClient("The client is not known.", reason="unknown_client")
    with in_tenant(call.tenant.id):
        client = Agent.objects.filter(tenant=call.tenant, client_id=shown.client_id).first()
        credentials = list(_live_credentials(client)) if client and shown.method != "none" else []
    if client is None:
        raise InvalidClient("The client is not known.", reason="unknown_client")
    call.client = client
    _prove(call, client, credentials, shown)
    return _require_active(client)


def read_credentials(asked: Parameters, authorization: str) -> Presented:
    """RFC 6749 §2.3: the client MUST NOT use more than one way. Basic may or may not be percent-encoded (§2.3.1)."""
    in_body = asked.get("client_id", "")
    ways = [
        bool(authorization),
        "client_secret" in asked,
        "client_assertion" in asked or "client_assertion_type" in asked,
    ]
    if sum(ways) > 1:
        wrong = InvalidClient if ways[2] else InvalidRequest  # RFC 7521 §4.2.1, RFC 6749 §5.2
        raise wrong("Authenticate in one way only.", reason="two_authentications")
    if authorization:
        client_id, password = _basic(authorization)
        if in_body and in_body != client_id:
            raise InvalidRequest("client_id differs from the Authorization header.", reason="two_clients")
        return Presented(client_id, "client_secret_basic", tuple({password, unquote_plus(password)}))
    if ways[2]:
        kind, assertion = asked.get("client_assertion_type"), asked.require("client_assertion")
        if kind == SPIFFE_TYPE:
            return Presented(in_body, "spiffe_jwt", assertion=assertion)
        if kind != ASSERTION_TYPE:
            raise InvalidClient("This client_assertion_type is not supported.", reason="assertion_type")
        if workload.is_of_platform(assertion):
            return Presented(in_body, "workload_jwt", assertion=assertion)
        claimed = claimed_client(assertion)
        if in_body and in_body != claimed:  # RFC 7521 §4.2
            raise InvalidClient("client_id differs from the assertion.", reason="two_clients")
        return Presented(claimed, "private_key_jwt", assertion=assertion)
    if asked.get("grant_type") == JWT_BEARER and "client_secret" not in asked:
        assertion = asked.get("assertion", "")
        if workload.is_workload_token(assertion):  # RFC 7521 §4.1: the assertion itself says who asks
            return Presented(in_body, "workload_grant", assertion=assertion)
    if not in_body:
        raise InvalidClient("No client was named.", reason="no_client")
    if "client_secret" in asked:
        return Presented(in_body, "client_secret_post", (asked["client_secret"],))
    return Presented(in_body, "none")


def _basic(authorization: str) -> tuple[str, str]:
    scheme, _, value = authorization.partition(" ")
    try:
        if scheme.lower() != "basic" or len(value) > 4096:
            raise ValueError
        name, colon, password = b64decode(value.strip(), validate=True).decode().partition(":")
        if not colon or not name or "\0" in name + password:
            raise ValueError
    except (ValueError, binascii.Error):
        raise InvalidClient("The Authorization header is not Basic.", reason="basic_malformed") from None
    return unquote_plus(name)[:500], password


def _prove(call: Call, client: Agent, credentials: list[Credential], shown: Presented) -> None:
    registered = client.token_endpoint_auth_method
    require_key(client, shown.method)
    if shown.method == "none" or registered == "none":
        if shown.method != registered:  # a confidential client without proof, a public one with: both refused
            raise InvalidClient("The client must authenticate as it is registered.", reason="authentication_method")
        return
    if shown.method == "private_key_jwt":
        _prove_by_key(call, client, credentials, shown.assertion)
        return
    for credential in credentials:
        kept = bytes(credential.secret_hash or b"")
        if kept and any(secrets.compare_digest(kept, secret_hash(secret)) for secret in shown.secrets):
            _note_use(call, credential)
            return
    raise InvalidClient("The client secret is wrong.", reason="wrong_secret")


def _prove_by_key(call: Call, client: Agent, credentials: list[Credential], assertion: str) -> None:
    kid = header_kid(assertion)
    keys: list[Mapping[str, Any]] = [
        c.public_jwk for c in credentials if c.kind == Credential.Kind.KEY and c.public_jwk
    ]
    keys += (client.client_metadata.get("jwks") or {}).get("keys", [])
    if client.jwks_uri:
        keys += keys_at(client.jwks_uri, wanted=kid)
    here = issuer(call.tenant)
    # RFC 7523bis wants the issuer and nothing else; older clients name an endpoint (RFC 9126 §2, CIBA Core §7.1)
    older = (f"{here}/oauth/{endpoint}" for endpoint in ("token", "par", "bc-authorize"))
    audiences = (here,) if client.high_assurance else (here, *older)
    algorithms: tuple[str, ...] = HIGH_ASSURANCE if client.high_assurance else ALGORITHMS
    if only := client.client_metadata.get("token_endpoint_auth_signing_alg"):  # as it registered
        algorithms = tuple(alg for alg in algorithms if one_name(alg) == one_name(only))
    proof = verify(
        assertion,
        client_id=client.client_id,
        keys=keys,
        audiences=audiences,
        now=time.time(),
        algorithms=algorithms,
        aud_is_text=client.high_assurance,
    )
    mark = hashlib.sha256(f"{client.id}\0{proof.jti}".encode("utf-8", "surrogatepass")).digest()
    with in_tenant(call.tenant.id):
        if not spend_once(call.tenant.id, "assertion", mark, datetime.fromtimestamp(proof.expires, UTC)):
            raise InvalidClient("This client assertion was used before.", reason="assertion_replayed")
    for credential in credentials:
        if kid is not None and credential.kid == kid:
            _note_use(call, credential)


def _by_workload(call: Call, shown: Presented) -> Agent:
    """The agent that runs where this token is from; the platform proves it, so there is nothing else to show."""
    kind = TrustedIssuer.Kind.SPIFFE if shown.method == "spiffe_jwt" else TrustedIssuer.Kind.WORKLOAD
    try:
        client = workload.agent_of(call.tenant, shown.assertion, client_id=shown.client_id, kind=kind)
    except NotGood as why:
        # RFC 7523 §3.1 where it is the grant, §3.2 where it is the client's proof
        refused = InvalidGrant if shown.method == "workload_grant" else InvalidClient
        raise refused(str(why), reason=why.reason) from None
    call.client = client
    require_key(client, shown.method)
    if client.token_endpoint_auth_method == "none":
        raise InvalidClient("The client must authenticate as it is registered.", reason="authentication_method")
    return _require_active(client)


def _live_credentials(client: Agent) -> list[Credential]:
    alive = Q(expires_at=None) | Q(expires_at__gt=now())
    return list(Credential.objects.filter(alive, tenant_id=client.tenant_id, agent=client, retired_at=None))


def _note_use(call: Call, credential: Credential) -> None:
    if is_to_note(credential):
        with in_tenant(call.tenant.id):
            note_use(credential)


def _require_active(client: Agent) -> Agent:
    if client.state == Agent.State.RETIRED:  # for good: whoever removed itself or expired may register again
        raise InvalidClient("The client is not known.", reason="agent_retired")
    if not client.is_active:
        raise UnauthorizedClient("This agent is stopped.", reason=f"agent_{_state(client)}")
    return client


def _state(client: Agent) -> str:
    return "expired" if client.state == Agent.State.ACTIVE else client.state
