"""Every address of an issuer, once, with what it reads: the sweeps go over this list, and it is compared with the map.

Whoever adds an endpoint adds it here, says what it reads, and is fed every corpus of that kind from then on.
"""

from __future__ import annotations

from dataclasses import dataclass

from agentauth.oauth.urls import issuer_paths


@dataclass(frozen=True)
class EntryPoint:
    """One path below the issuer. `reads` says of which kinds its input is; `refused` is the event of a refusal."""

    path: str
    methods: tuple[str, ...]
    reads: frozenset[str] = frozenset()
    refused: str = ""
    cors: bool = True  # may a script of any page read its answer?

    def __str__(self) -> str:
        return self.path


def _one(path: str, methods: str, reads: str = "", refused: str = "", *, cors: bool = True) -> EntryPoint:
    return EntryPoint(path, tuple(methods.split()), frozenset(reads.split()), refused, cors)


# Kinds: query and form (parameters), json (a document), redirect_uri, challenge and verifier (PKCE), scope, resource,
# details (RFC 9396), client (a client proves itself: client_assertion too), proof (DPoP), bearer (a token in the
# header), token, subject_token, assertion, id_token_hint (a JWT by that name in the form), page (for people)
ENTRY_POINTS = (
    _one(".well-known/openid-configuration", "GET HEAD"),
    _one(".well-known/oauth-authorization-server", "GET HEAD"),
    _one("oauth/jwks.json", "GET HEAD"),
    _one(
        "oauth/authorize",
        "GET HEAD POST",
        "page query redirect_uri challenge scope resource details",
        "authorization.refused",
        cors=False,
    ),
    _one("oauth/consent", "POST", "page", cors=False),
    _one("device/", "GET POST", "page", cors=False),
    _one(
        "oauth/par",
        "POST",
        "form redirect_uri challenge scope resource details client proof",
        "authorization.refused",
    ),
    _one("oauth/device_authorization", "POST", "form scope resource details client", "authorization.refused"),
    _one(
        "oauth/bc-authorize",
        "POST",
        "form scope resource details client id_token_hint",
        "authorization.refused",
        cors=False,
    ),
    _one(
        "oauth/token",
        "POST",
        "form verifier scope resource details client proof subject_token assertion",
        "token.refused",
    ),
    _one("oauth/revoke", "POST", "form client token", "token.refused"),
    _one("oauth/introspect", "POST", "form client token", "token.refused"),
    _one("oauth/register", "POST", "json redirect_uri scope", "client.refused"),
    _one("oauth/register/<str:client_id>", "GET PUT DELETE", "json redirect_uri scope bearer", "client.refused"),
    _one("oauth/userinfo", "GET HEAD POST", "bearer proof", "token.refused"),
)


def reading(kind: str) -> list[EntryPoint]:
    """Those that read input of this kind; asking for a kind that nobody reads is a mistake."""
    found = [one for one in ENTRY_POINTS if kind in one.reads]
    assert found, kind
    return found


def mapped() -> set[str]:
    """Every path that the map has below an issuer."""
    return {str(one.pattern) for one in issuer_paths("")}
