"""Every place where a JWT from outside is read: how to bring one there, and what a refusal looks like.

A new reader of JWTs must be named here: `test_jwts.py` looks for readers in the code.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from django.conf import settings
from django.db import transaction
from django.test import Client
from django.utils.timezone import now

from agentauth.agents.registering import JWT_BEARER, TOKEN_EXCHANGE, add_key, add_secret
from agentauth.grants.models import Grant
from agentauth.keys.addresses import management_url
from agentauth.keys.models import SigningKey
from agentauth.keys.signing import create_key, forget, signer
from agentauth.oauth.client_assertion import ASSERTION_TYPE
from agentauth.oauth.client_authentication import SPIFFE_TYPE
from agentauth.oauth.dpop import fresh_nonce
from agentauth.oauth.grants.token_exchange import ACCESS_TOKEN_TYPE
from agentauth.resources.checking import add_server_credential, client_id_of
from tenants.rls import in_tenant, new_id
from tests import cast
from tests.api.tokens import management_agent, management_grant
from tests.cast import CAST, House
from tests.oauth.browser import Flow, basic, register
from tests.oauth.forging import Good, jwk_of, new_key
from tests.oauth.proofs import Holder
from tests.oauth.provider import ACTIONS, DOMAIN, IDP, Provider, us

ID_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:id_token"
NATIVE = {"redirect_uris": ["http://127.0.0.1/cb"], "client_name": "Somebody", "token_endpoint_auth_method": "none"}


@dataclass
class Visit:
    """One door, ready: `good` makes what it takes, `send` brings it and says what came back in a word or two."""

    good: Callable[[], Good]
    send: Callable[[str], str]
    accepted: str
    refused: tuple[str, ...]  # beginnings of what a refusal may say


@dataclass(frozen=True)
class Door:
    """`reads` is the module that reads the token there, `types` the `typ` that are right, in small letters."""

    name: str
    family: str
    reads: str
    types: tuple[str, ...]
    opened: Callable[[Any], Visit]
    in_header: bool = False  # of HTTP: no line breaks, nothing but Latin-1
    on_record: bool = True
    every: int = 1  # only each so many-th case, where the same reader is swept whole at another door
    passes: tuple[str, ...] = field(default=())  # beginnings of names of cases that are right here

    @property
    def types_in_any_case(self) -> list[object]:
        return [*self.types, *(typ.upper() for typ in self.types)]


def said(answer: Any) -> str:
    """Status and error, in whichever of our forms."""
    try:
        document = answer.json()
    except ValueError:
        document = {}
    if document.get("active") is False:
        return f"{answer.status_code} inactive"
    code = document.get("error") or str(document.get("type", "")).rpartition("#")[2]
    return f"{answer.status_code} {code}".strip()


# Our own access tokens


@dataclass
class Ours:
    """Acme's key, with Globex's and one that was withdrawn beside it."""

    house: House

    def __post_init__(self) -> None:
        with transaction.atomic():
            globex = cast.globex(f"globex-{self.house.tenant.slug}")
            theirs = signer(globex.tenant.id)
        with in_tenant(self.house.tenant.id):
            old = signer(self.house.tenant.id)
            SigningKey.objects.filter(tenant=self.house.tenant).update(retired_at=now(), unpublish_at=now())
            create_key(self.house.tenant.id, by=CAST)
            forget(self.house.tenant.id)
            self.signer = signer(self.house.tenant.id)
        self.keys = {"another tenant's": (theirs.kid, theirs.key), "withdrawn": (old.kid, old.key)}
        self.others = {"another_tenant": us(globex)}

    def good(self, claims: dict[str, Any], typ: str = "at+jwt") -> Good:
        return Good({"kid": self.signer.kid, "typ": typ}, claims, self.signer.key, self.keys, self.others)


def access_claims(flow: Flow, grant: Grant, aud: str = "", **changes: Any) -> dict[str, Any]:
    at = int(time.time())
    said: dict[str, Any] = {
        "iss": us(flow.house),
        "aud": aud or flow.resource,
        "sub": str(grant.member_id or grant.agent_id),
        "client_id": flow.agent.client_id,
        "scope": "rooms:read",
        "exp": at + 300,
        "iat": at,
        "jti": str(new_id()),
        "grant_id": str(grant.id),
    }
    return said | ({"act": {"sub": str(grant.agent_id)}} if grant.member_id else {}) | changes


def assistant(house: House, **changes: Any) -> tuple[Flow, Grant]:
    """Matt's assistant with a secret and Matt's grant."""
    with in_tenant(house.tenant.id):
        agent = cast.assistant(house, **changes)
        secret = add_secret(agent, by=house.owner)[1]
        return Flow(house, agent, secret), cast.matts_grant(house, agent)


def bound_headers(holder: Holder, token: str, method: str, url: str, *, bound: bool) -> dict[str, str]:
    token = on_the_wire(token)
    if not bound:
        return {"Authorization": f"Bearer {token}"}
    return {"Authorization": f"DPoP {token}", "DPoP": holder.proof(method, url, token=token)}


def on_the_wire(token: str) -> str:
    """As a header can carry it."""
    return token.encode("utf-8", "surrogatepass").decode("latin-1")


def at_api(bound: bool) -> Callable[[House], Visit]:
    def opened(house: House) -> Visit:
        ours, holder = Ours(house), Holder()
        with in_tenant(house.tenant.id):
            grant = management_grant(house, management_agent(house), None, {"agents:read": "always"})
        flow, url = Flow(house, grant.agent), management_url(house.tenant.slug)
        more: dict[str, Any] = {"cnf": {"jkt": holder.jkt}} if bound else {}

        def send(token: str) -> str:
            headers = bound_headers(holder, token, "GET", url + "/agents", bound=bound)
            return said(Client().get(url.removeprefix(settings.KNOBS.base_url) + "/agents", headers=headers))

        def good() -> Good:
            return ours.good(access_claims(flow, grant, url, scope="agents:read", **more))

        return Visit(good, send, "200", ("401 ",))

    return opened


def at_userinfo(bound: bool) -> Callable[[House], Visit]:
    """A good token of no sign-in is told that openid is missing: it was read all the same."""

    def opened(house: House) -> Visit:
        (flow, grant), ours, holder = assistant(house), Ours(house), Holder()
        more: dict[str, Any] = {"cnf": {"jkt": holder.jkt}} if bound else {}

        def send(token: str) -> str:
            url = f"{us(house)}/oauth/userinfo"
            headers = bound_headers(holder, token, "GET", url, bound=bound)
            return said(Client().get(flow.path("userinfo"), headers=headers))

        return Visit(
            lambda: ours.good(access_claims(flow, grant, **more)),
            send,
            "403 insufficient_scope",
            ("401 invalid_token", "401"),
        )

    return opened


def in_form(
    endpoint: str, name: str, fields: Callable[[Flow], dict[str, Any]], accepted: str, refused: tuple[str, ...]
) -> Callable[[House], Visit]:
    """One of our own access tokens as a form field."""

    def opened(house: House) -> Visit:
        (flow, grant), ours = assistant(house), Ours(house)
        more = fields(flow)

        def send(token: str) -> str:
            return said(flow.post(endpoint, more | {name: token}))

        return Visit(lambda: ours.good(access_claims(flow, grant)), send, accepted, refused)

    return opened


def at_introspect_of_server(house: House) -> Visit:
    (flow, grant), ours = assistant(house), Ours(house)
    with in_tenant(house.tenant.id):
        secret = add_server_credential(house.office, by=house.owner)[1]
    proof = {"Authorization": basic(client_id_of(house.office), secret)}

    def send(token: str) -> str:
        return said(flow.post("introspect", {"token": token}, **proof))

    return Visit(lambda: ours.good(access_claims(flow, grant)), send, "200", ("200 inactive", "400 invalid_request"))


def at_revoke(house: House) -> Visit:
    """Says 200 whatever came (RFC 7009 §2.2): what counts is whether something was revoked."""
    (flow, grant), ours = assistant(house), Ours(house)

    def send(token: str) -> str:
        before = len(cast.events_of(house.tenant.id, "token.revoked"))
        answer = flow.post("revoke", flow.proof() | {"token": token})
        ended = len(cast.events_of(house.tenant.id, "token.revoked")) - before
        return f"{said(answer)} {'revoked' if ended else 'nothing'}"

    good = lambda: ours.good(access_claims(flow, grant))  # noqa: E731
    return Visit(good, send, "200 revoked", ("200 nothing", "400 invalid_request nothing"))


def at_exchange(name: str) -> Callable[[House], Visit]:
    def opened(house: House) -> Visit:
        (flow, grant), (other, others_grant), ours = assistant(house), assistant(house, name="The booker"), Ours(house)
        own = ours.good(access_claims(other, others_grant))

        def send(token: str) -> str:
            form = {"grant_type": TOKEN_EXCHANGE, "subject_token_type": ACCESS_TOKEN_TYPE, "resource": flow.resource}
            if name == "subject_token":
                form["subject_token"] = token
            else:
                form |= {"subject_token": ours.good(access_claims(flow, grant)).token(), "actor_token": token}
                form["actor_token_type"] = ACCESS_TOKEN_TYPE
            return said(other.post("token", form | other.proof()))

        def good() -> Good:
            return ours.good(access_claims(flow, grant)) if name == "subject_token" else own

        return Visit(good, send, "200", ("400 invalid_request",))

    return opened


# Somebody else's: clients' own assertions, and issuers that the tenant trusts


def keyed(house: House) -> tuple[Flow, Any]:
    key = new_key()
    with in_tenant(house.tenant.id):
        agent = cast.assistant(house, auth_method="private_key_jwt")
        add_key(agent, jwk_of(key) | {"kid": "one"}, by=house.owner)
    return Flow(house, agent), key


def by_assertion(
    endpoint: str, fields: Callable[[Flow], dict[str, Any]], accepted: str, *refused: str
) -> Callable[[House], Visit]:
    def opened(house: House) -> Visit:
        flow, key = keyed(house)
        more = fields(flow)

        def good() -> Good:
            me, at = flow.agent.client_id, int(time.time())
            claims = {"iss": me, "sub": me, "aud": us(house), "jti": uuid4().hex, "iat": at, "exp": at + 60}
            return Good(
                {"kid": "one", "typ": "JWT"}, claims, key, others={"another_tenant": "http://localhost:8000/t/x"}
            )

        def send(token: str) -> str:
            return said(
                flow.post(endpoint, more | {"client_assertion_type": ASSERTION_TYPE, "client_assertion": token})
            )

        return Visit(good, send, accepted, refused or ("401 invalid_client", "400 invalid_request"))

    return opened


def foreign_claims(house: House, iss: str, **more: Any) -> dict[str, Any]:
    at = int(time.time())
    return {"iss": iss, "aud": us(house), "iat": at, "exp": at + 300, "jti": uuid4().hex} | more


def foreign(provider: Provider, claims: dict[str, Any], typ: str) -> Good:
    others = {"another_tenant": "http://localhost:8000/t/x"}
    return Good({"kid": provider.kid, "typ": typ}, claims, provider.key, others=others)


def as_id_jag(house: House) -> Visit:
    flow, _ = assistant(house)
    idp = Provider()
    idp.trusted_by(house)

    def good() -> Good:
        more = {"client_id": flow.agent.client_id, "resource": flow.resource, "scope": "rooms:read"}
        person = {"sub": "00u-matt", "email": f"matt@{house.tenant.slug}.example", "email_verified": True}
        return foreign(idp, foreign_claims(house, IDP, **more, **person), "oauth-id-jag+jwt")

    def send(token: str) -> str:
        return said(flow.post("token", {"grant_type": JWT_BEARER, "assertion": token} | flow.proof()))

    return Visit(good, send, "200", ("400 invalid_grant", "400 invalid_request"))


def as_foreign_subject(typ: str, kind: str) -> Callable[[House], Visit]:
    def opened(house: House) -> Visit:
        flow, _ = assistant(house)
        idp = Provider()
        idp.trusted_by(house, act_order="standard")

        def good() -> Good:
            person = {"sub": "00u-matt", "email": f"matt@{house.tenant.slug}.example", "email_verified": True}
            return foreign(idp, foreign_claims(house, IDP, **person), typ)

        def send(token: str) -> str:
            form = {"grant_type": TOKEN_EXCHANGE, "subject_token": token, "subject_token_type": kind}
            return said(flow.post("token", form | {"resource": flow.resource} | flow.proof()))

        return Visit(good, send, "200", ("400 invalid_request",))

    return opened


def as_workload(way: str) -> Callable[[House], Visit]:
    """`way`: grant, assertion or spiffe."""

    def opened(house: House) -> Visit:
        from tests.oauth.test_workload import let_in, robot

        flow = robot(house)
        provider = Provider(DOMAIN, use="jwt-svid") if way == "spiffe" else Provider(ACTIONS)
        trust = provider.trusted_by(house, "spiffe" if way == "spiffe" else "workload", name="The place")
        let_in(flow, trust, {"sub": "spiffe://acme.example/ns/a"} if way == "spiffe" else None)

        def good() -> Good:
            if way == "spiffe":
                claims = foreign_claims(house, DOMAIN, sub="spiffe://acme.example/ns/a")
                return foreign(provider, claims, "JWT")
            rules = {"sub": "repo:acme/app", "repository": "acme/app", "ref": "refs/heads/main"}
            return foreign(provider, foreign_claims(house, ACTIONS, **rules), "JWT")

        def send(token: str) -> str:
            form: dict[str, Any] = {"resource": flow.resource}
            if way == "grant":
                form |= {"grant_type": JWT_BEARER, "assertion": token}
            else:
                kind = SPIFFE_TYPE if way == "spiffe" else ASSERTION_TYPE
                form |= {"grant_type": "client_credentials", "client_id": flow.agent.client_id}
                form |= {"client_assertion": token, "client_assertion_type": kind}
            return said(flow.post("token", form))

        return Visit(good, send, "200", ("400 invalid_grant", "401 invalid_client", "400 invalid_request"))

    return opened


# Proofs of possession


def proof_claims(method: str, url: str, **more: Any) -> dict[str, Any]:
    at = time.time()
    return {"jti": uuid4().hex, "htm": method, "htu": url, "iat": int(at), "nonce": fresh_nonce(at)} | more


def as_proof(endpoint: str) -> Callable[[House], Visit]:
    def opened(house: House) -> Visit:
        flow, key = keyed_by_secret(house), new_key()
        fields = (
            flow.request() if endpoint == "par" else {"grant_type": "client_credentials", "resource": flow.resource}
        )

        def good() -> Good:
            return Good(
                {"typ": "dpop+jwt", "jwk": jwk_of(key)}, proof_claims("POST", f"{us(house)}/oauth/{endpoint}"), key
            )

        def send(token: str) -> str:
            return said(flow.post(endpoint, fields | flow.proof(), DPoP=on_the_wire(token)))

        accepted = "201" if endpoint == "par" else "200"
        return Visit(good, send, accepted, ("400 invalid_dpop_proof", "400 use_dpop_nonce"))

    return opened


def keyed_by_secret(house: House) -> Flow:
    """An agent that may act for itself and ask people as well."""
    from tests.oauth.test_token_exchange import allow_for_itself

    with in_tenant(house.tenant.id):
        agent = cast.assistant(house, kind="autonomous")
        agent.grant_types = sorted({*agent.grant_types, "client_credentials", "authorization_code"})
        agent.save(update_fields=["grant_types"])
        flow = Flow(house, agent, add_secret(agent, by=house.owner)[1])
        allow_for_itself(flow)
    return flow


def as_proof_of_token(where: str) -> Callable[[House], Visit]:
    """Beside a good token that is bound to the key: at our own API or userinfo."""

    def opened(house: House) -> Visit:
        ours, key = Ours(house), new_key()
        holder = Holder(key=key)
        if where == "api":
            with in_tenant(house.tenant.id):
                grant = management_grant(house, management_agent(house), None, {"agents:read": "always"})
            flow, aud, scope = Flow(house, grant.agent), management_url(house.tenant.slug), "agents:read"
            url = aud + "/agents"
        else:
            (flow, grant), aud, scope = assistant(house), "", "rooms:read"
            url = f"{us(house)}/oauth/userinfo"
        token = ours.good(access_claims(flow, grant, aud, scope=scope, cnf={"jkt": holder.jkt})).token()
        ath = holder_hash(token)

        def good() -> Good:
            return Good({"typ": "dpop+jwt", "jwk": jwk_of(key)}, proof_claims("GET", url, ath=ath), key)

        def send(proof: str) -> str:
            headers = {"Authorization": f"DPoP {token}", "DPoP": on_the_wire(proof)}
            return said(Client().get(urlsplit(url).path, headers=headers))

        return Visit(good, send, "200" if where == "api" else "403 insufficient_scope", ("401",))

    return opened


def holder_hash(token: str) -> str:
    import hashlib
    from base64 import urlsafe_b64encode

    return urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).rstrip(b"=").decode()


# The rest


def as_id_token_hint(house: House) -> Visit:
    from tests.oauth.asking import GRANT, asking_flow

    flow, ours = asking_flow(house), Ours(house)
    assert GRANT in flow.agent.grant_types

    def good() -> Good:
        at, matt = int(time.time()), str(house.members["matt"].id)
        claims = {"iss": us(house), "sub": matt, "aud": flow.agent.client_id, "iat": at, "exp": at + 300}
        return ours.good(claims, "JWT")

    def send(token: str) -> str:
        form = {"scope": "openid rooms:read", "resource": flow.resource, "id_token_hint": token}
        return said(flow.post("bc-authorize", form | flow.proof()))

    return Visit(good, send, "200", ("400 invalid_request",))


def as_registration_token(house: House) -> Visit:
    """It is no JWT at all: none of them opens it, not even a good one."""
    made = register(house, NATIVE).json()
    path = urlsplit(made["registration_client_uri"]).path
    (flow, grant), ours = assistant(house), Ours(house)

    def send(token: str) -> str:
        headers = {"Authorization": f"Bearer {on_the_wire(token)}"}
        return said(Client().get(path, headers=headers))

    return Visit(lambda: ours.good(access_claims(flow, grant)), send, "401 invalid_token", ("401 invalid_token",))


_READ_BY = "agentauth.oauth."
_PUSHED = Flow.request
ACCESS = ("at+jwt",)
ANY_AUDIENCE = ("aud ",)  # of our own: which resource a token is for is not asked there
BLANKS = ("shape: space before", "shape: space after")  # a header's value is what stands between them (RFC 9110 §5.5)
NAMED_WITH_APPLICATION = ("at+jwt", "application/at+jwt")
CLIENTS = ("jwt", "client-authentication+jwt", "")
MACHINES = ("jwt", "")

DOORS: tuple[Door, ...] = (
    Door(
        "REST API",
        "access",
        "agentauth.api.authentication",
        NAMED_WITH_APPLICATION,
        at_api(False),
        in_header=True,
        passes=BLANKS,
    ),
    Door(
        "REST API, bound",
        "access",
        "agentauth.api.authentication",
        NAMED_WITH_APPLICATION,
        at_api(True),
        in_header=True,
        every=8,
        passes=BLANKS,
    ),
    Door(
        "userinfo",
        "access",
        _READ_BY + "userinfo",
        ACCESS,
        at_userinfo(False),
        in_header=True,
        on_record=False,
        every=4,
        passes=(*ANY_AUDIENCE, *BLANKS),
    ),
    Door(
        "userinfo, bound",
        "access",
        _READ_BY + "userinfo",
        ACCESS,
        at_userinfo(True),
        in_header=True,
        on_record=False,
        every=8,
        passes=(*ANY_AUDIENCE, *BLANKS),
    ),
    Door(
        "introspect, by its client",
        "access",
        _READ_BY + "introspect",
        ACCESS,
        in_form("introspect", "token", Flow.proof, "200", ("200 inactive", "400 invalid_request")),
        on_record=False,
        passes=ANY_AUDIENCE,
    ),
    Door(
        "introspect, by the resource",
        "access",
        _READ_BY + "introspect",
        ACCESS,
        at_introspect_of_server,
        on_record=False,
        every=4,
    ),
    Door("revoke", "access", _READ_BY + "revoke", ACCESS, at_revoke, on_record=False, every=4, passes=ANY_AUDIENCE),
    Door(
        "subject_token",
        "access",
        _READ_BY + "grants.token_exchange",
        ACCESS,
        at_exchange("subject_token"),
        every=4,
        passes=ANY_AUDIENCE,
    ),
    Door("actor_token", "access", _READ_BY + "actor", ACCESS, at_exchange("actor_token"), every=4, passes=ANY_AUDIENCE),
    Door(
        "client_assertion at token",
        "client",
        _READ_BY + "client_assertion",
        CLIENTS,
        by_assertion("token", lambda flow: {"grant_type": "refresh_token", "refresh_token": "x"}, "400 invalid_grant"),
    ),
    Door(
        "client_assertion at par",
        "client",
        _READ_BY + "client_assertion",
        CLIENTS,
        by_assertion("par", _PUSHED, "201"),
        every=8,
    ),
    Door(
        "client_assertion at introspect",
        "client",
        _READ_BY + "client_assertion",
        CLIENTS,
        by_assertion("introspect", lambda flow: {"token": "x"}, "200 inactive"),
        every=8,
    ),
    Door(
        "client_assertion at revoke",
        "client",
        _READ_BY + "client_assertion",
        CLIENTS,
        by_assertion("revoke", lambda flow: {"token": "x"}, "200"),
        every=8,
    ),
    Door(
        "client_assertion at device_authorization",
        "client",
        _READ_BY + "client_assertion",
        CLIENTS,
        by_assertion("device_authorization", lambda flow: {"scope": "rooms:read"}, "400 unauthorized_client"),
        every=8,
    ),
    Door(
        "client_assertion at bc-authorize",
        "client",
        _READ_BY + "client_assertion",
        CLIENTS,
        by_assertion("bc-authorize", lambda flow: {"scope": "openid"}, "400 invalid_request", "401 invalid_client"),
        every=8,
    ),
    Door("ID-JAG", "jag", _READ_BY + "grants.jwt_bearer", ("oauth-id-jag+jwt",), as_id_jag),
    Door("workload's token as the grant", "workload", _READ_BY + "trust.workload", MACHINES, as_workload("grant")),
    Door(
        "workload's token as the proof",
        "workload",
        _READ_BY + "trust.workload",
        MACHINES,
        as_workload("assertion"),
        every=4,
    ),
    Door("JWT-SVID", "spiffe", _READ_BY + "trust.workload", ("jwt", "jose", ""), as_workload("spiffe")),
    Door(
        "subject_token of a provider",
        "subject",
        _READ_BY + "grants.foreign_subject",
        ("at+jwt", "application/at+jwt", "jwt", ""),
        as_foreign_subject("at+jwt", ACCESS_TOKEN_TYPE),
    ),
    Door(
        "id token of a provider",
        "subject",
        _READ_BY + "grants.foreign_subject",
        ("jwt", ""),
        as_foreign_subject("JWT", ID_TOKEN_TYPE),
        every=4,
    ),
    Door("proof at token", "proof", _READ_BY + "possession", ("dpop+jwt",), as_proof("token"), in_header=True),
    Door("proof at par", "proof", _READ_BY + "possession", ("dpop+jwt",), as_proof("par"), in_header=True, every=4),
    Door(
        "proof at the REST API",
        "proof",
        _READ_BY + "possession",
        ("dpop+jwt",),
        as_proof_of_token("api"),
        in_header=True,
    ),
    Door(
        "proof at userinfo",
        "proof",
        _READ_BY + "possession",
        ("dpop+jwt",),
        as_proof_of_token("userinfo"),
        in_header=True,
        on_record=False,
        every=4,
    ),
    Door("id_token_hint", "hint", _READ_BY + "hinted_person", ("jwt",), as_id_token_hint),
    Door(
        "registration token",
        "access",
        _READ_BY + "client_configuration",
        (),
        as_registration_token,
        in_header=True,
        every=8,
    ),
)
