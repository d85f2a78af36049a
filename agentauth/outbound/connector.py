"""The gateway's way out: one pooled client per process that cannot connect to a forbidden address.

Two checks. The resolver drops forbidden addresses of a name, so that the error is clear. The socket factory looks at
the address that is really connected to: that covers addresses written as numbers, and whatever slips past the first.
"""

import socket
from collections import OrderedDict
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from agentauth.outbound.addresses import Destination, FetchRefused, check, is_allowed, read_url
from agentauth.outbound.allowed import allowed_hosts, https_only

_REMEMBERED = 1024


def check_url(url: str) -> Destination:
    """The parts of an upstream's URL, or FetchRefused. For before a request: the connector sees no URLs."""
    return read_url(url, allowed=allowed_hosts(), https_only=https_only())


class _Excepted:
    """Addresses that hosts on the operator's list resolved to: the socket factory knows no names."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, int], None] = OrderedDict()

    def add(self, address: str, port: int) -> None:
        self._known[(address, port)] = None
        self._known.move_to_end((address, port))
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    def __contains__(self, item: tuple[str, int]) -> bool:
        return item in self._known


class GuardedResolver(AbstractResolver):
    """Resolves a name and keeps only the addresses that may be reached; none left is FetchRefused."""

    def __init__(self, excepted: _Excepted, inner: AbstractResolver | None = None) -> None:
        self._excepted = excepted
        self._inner = inner or ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        name, hosts, open_ones = host.lower().removesuffix("."), allowed_hosts(), []
        refused: FetchRefused | None = None
        for one in found:
            try:
                check(name, one["host"], port=port, allowed=hosts)
            except FetchRefused as reason:
                refused = reason
                continue
            if is_allowed(name, port, hosts):
                self._excepted.add(one["host"], port)
            open_ones.append(one)
        if not open_ones and refused is not None:
            raise refused
        return open_ones

    async def close(self) -> None:
        await self._inner.close()


def guarded_connector(*, limit: int = 1000, limit_per_host: int = 0, **options: Any) -> aiohttp.TCPConnector:
    """A pool whose every connection went to an allowed address. Raises FetchRefused when asked for another."""
    excepted = _Excepted()

    def make_socket(address: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, target = address
        ip, port = str(target[0]), int(target[1])
        if (ip, port) not in excepted:
            check(ip, ip, port=port, allowed=allowed_hosts())
        return socket.socket(family, kind, protocol)

    return aiohttp.TCPConnector(
        resolver=options.pop("resolver", None) or GuardedResolver(excepted),
        socket_factory=make_socket,
        limit=limit,
        limit_per_host=limit_per_host,
        ttl_dns_cache=options.pop("ttl_dns_cache", 10),
        **options,
    )


def open_session(**options: Any) -> aiohttp.ClientSession:
    """The session of this process: no cookies kept, nothing unpacked, no proxies from the environment.

    Give `allow_redirects=False` with every request: where a redirect leads is for the caller to judge.
    """
    return aiohttp.ClientSession(
        connector=guarded_connector(),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        raise_for_status=False,
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        **options,
    )
