"""The way to the upstream and back: streamed both ways, redirects never followed, every failure named."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from django.conf import settings
from multidict import CIMultiDict
from yarl import URL

from agentauth.gateway.assertion import HEADER, assertion
from agentauth.gateway.headers import Pairs
from agentauth.gateway.intent import Intent
from agentauth.gateway.request import Gone, Request, TooLarge
from agentauth.gateway.snapshot import Resource, Tenant
from agentauth.gateway.worker import Worker
from agentauth.outbound.addresses import FetchRefused

BUFFERED = 64 * 1024  # bodies up to here are read whole: their hash belongs to the intent
CONNECT_SECONDS = 5.0
_FAR = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=None)


class UpstreamProblem(Exception):
    """The upstream did not answer as it should. Ends as a problem for the caller and an outcome on record."""

    def __init__(self, status: int, title: str, detail: str, outcome: str = "upstream_error") -> None:
        super().__init__(detail)
        self.status, self.title, self.detail, self.outcome = status, title, detail, outcome


def own_headers(tenant: Tenant, resource: Resource, intent: Intent) -> dict[str, str]:
    """What the gateway itself says to the upstream: its credential, and who calls. Raises UpstreamProblem."""
    if resource.credential is None:
        raise UpstreamProblem(502, "Upstream not reachable", "The credential for this resource cannot be opened.")
    found = dict(resource.credential)
    if resource.sends_assertion:
        if tenant.signer is None:
            raise UpstreamProblem(502, "Upstream not reachable", "This tenant has no key to sign with.")
        found[HEADER] = assertion(tenant, resource, intent)
    return found


@asynccontextmanager
async def asking(
    worker: Worker, method: str, url: str, *, headers: Pairs, own: dict[str, str], body: "bytes | Upload | None"
) -> AsyncIterator[aiohttp.ClientResponse]:
    """The upstream's answer, its headers read and its body waiting. Raises UpstreamProblem, TooLarge, Gone."""
    sent: CIMultiDict[str] = CIMultiDict(headers)
    sent.update(own)
    if isinstance(body, Upload) and body.length is not None:
        sent["Content-Length"] = str(body.length)
    data: Any = body.pieces() if isinstance(body, Upload) else body
    try:
        async with asyncio.timeout(settings.KNOBS.upstream_timeout_seconds):
            response = await worker.http.request(
                method, URL(url, encoded=True), headers=sent, data=data, allow_redirects=False, timeout=_FAR
            )
    except (aiohttp.ClientError, FetchRefused, OSError, ValueError, TimeoutError) as problem:
        if isinstance(body, Upload) and body.problem is not None:
            raise body.problem from None
        raise _named(problem) from problem
    try:
        if isinstance(body, Upload) and body.problem is not None:
            raise body.problem
        if response.status < 200:
            raise UpstreamProblem(502, "Upstream answered badly", "The upstream wants to change protocols.")
        if response.status == 401:
            # Our credential was refused, not the agent's: its 401 would send the agent back to authorize in vain
            raise UpstreamProblem(502, "Upstream refused us", "The upstream does not accept the gateway's credential.")
        yield response
    finally:
        response.close() if not response.content.at_eof() else response.release()


async def pieces(response: aiohttp.ClientResponse, *, patient: bool = False) -> AsyncIterator[bytes]:
    """The body as it comes. `patient` for streams of events, which may be silent. Raises UpstreamProblem."""
    limit = None if patient else settings.KNOBS.upstream_timeout_seconds
    try:
        while True:
            async with asyncio.timeout(limit):
                piece = await response.content.readany()
            if not piece:
                return
            yield piece
    except TimeoutError as problem:
        raise _named(problem) from None
    except (aiohttp.ClientError, OSError) as problem:
        raise _named(problem) from problem


async def whole(response: aiohttp.ClientResponse, most: int) -> bytes:
    """The body, read whole. Raises UpstreamProblem when it is too long."""
    found = bytearray()
    async for piece in pieces(response):
        found += piece
        if len(found) > most:
            raise UpstreamProblem(502, "Upstream answered badly", "The upstream's answer is too long.")
    return bytes(found)


class Upload:
    """A body on its way through. aiohttp swallows what goes wrong while it reads, so `problem` keeps it."""

    def __init__(self, request: Request, most: int) -> None:
        self._request, self._most = request, most
        self.length = request.length
        self.problem: Exception | None = None

    async def pieces(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._request.chunks(self._most):
                yield piece
        except (TooLarge, Gone) as problem:
            self.problem = problem
            raise


def _named(problem: BaseException) -> UpstreamProblem:
    if isinstance(problem, TimeoutError):
        return UpstreamProblem(504, "Upstream too slow", "The upstream did not answer in time.", "timeout")
    causes = [problem, problem.__cause__, problem.__context__, getattr(problem, "os_error", None)]
    refused = next((one for one in causes if isinstance(one, FetchRefused)), None)
    if refused is not None:
        return UpstreamProblem(502, "Upstream not allowed", refused.reason)
    if isinstance(problem, aiohttp.ClientConnectorError | ssl.SSLError):
        return UpstreamProblem(502, "Upstream not reachable", "No connection to the upstream.")
    return UpstreamProblem(502, "Upstream answered badly", "The upstream broke off or does not speak HTTP.")
