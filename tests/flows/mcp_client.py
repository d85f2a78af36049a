"""The official MCP client for Python, which knows nothing but the address of the server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import anyio
import httpx2
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.auth.extensions.client_credentials import (
    ClientCredentialsOAuthProvider,
    PrivateKeyJWTOAuthProvider,
    SignedJWTParameters,
)
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from pydantic import AnyUrl

CALLBACK = "http://127.0.0.1:43118/callback"


class Denied(Exception):
    """The person said no; the text is the error of the protocol."""


@dataclass
class Memory:
    """What the client keeps: its registration and its tokens."""

    tokens: OAuthToken | None = None
    client: OAuthClientInformationFull | None = None
    asked: list[str] = field(default_factory=list)

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


def by_itself(
    url: str, memory: Memory, client_id: str, *, issuer: str, secret: str = "", key: str = ""
) -> OAuthClientProvider:
    """What an agent without a person uses: its secret, or its private key (ES256, PEM)."""
    if secret:
        return ClientCredentialsOAuthProvider(url, memory, client_id, secret, issuer=issuer)
    signing = SignedJWTParameters(issuer=client_id, subject=client_id, signing_key=key, signing_algorithm="ES256")
    return PrivateKeyJWTOAuthProvider(url, memory, client_id, signing.create_assertion_provider(), issuer=issuer)


@asynccontextmanager
async def connected(url: str, auth: httpx2.Auth, mode: str) -> AsyncIterator[Client]:
    async with (
        httpx2.AsyncClient(auth=auth, timeout=30) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        yield client


@asynccontextmanager
async def mcp_client(
    url: str,
    answer: Callable[[str], str],
    memory: Memory,
    *,
    mode: str = "auto",
    name: str = "Desk helper",
    document: str | None = None,
) -> AsyncIterator[Client]:
    """Connected. `answer` is the person's browser: from the address to open to the one where it comes back.

    `document` is the address of the client's own metadata document; without it and without a registration in `memory`
    the client registers itself.
    """
    landed: list[str] = []

    async def send_person(address: str) -> None:
        memory.asked.append(address)
        landed.append(await anyio.to_thread.run_sync(answer, address))

    async def come_back() -> AuthorizationCodeResult:
        said = {name: values[0] for name, values in parse_qs(urlsplit(landed[-1]).query).items()}
        if "error" in said:
            raise Denied(said["error"])
        return AuthorizationCodeResult(code=said["code"], state=said.get("state"), iss=said.get("iss"))

    metadata = OAuthClientMetadata(
        client_name=name, redirect_uris=[AnyUrl(CALLBACK)], token_endpoint_auth_method="none"
    )
    auth = OAuthClientProvider(
        url,
        metadata,
        memory,
        redirect_handler=send_person,
        callback_handler=come_back,
        client_metadata_url=document,
    )
    async with connected(url, auth, mode) as client:
        yield client
