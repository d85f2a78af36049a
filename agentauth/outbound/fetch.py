"""Fetch one small document from an address that somebody else named.

The name is resolved once, the address checked, and the connection made to that very address (so a name that changes its
mind between check and use gains nothing). Limits hold for the whole exchange; redirects are never followed.
"""

import contextlib
import http.client
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

from agentauth.outbound.addresses import Destination, FetchRefused, check, read_url
from agentauth.outbound.allowed import allowed_hosts, https_only
from agentauth.outbound.crowd import place_outside

__all__ = ["FetchFailed", "FetchRefused", "Fetched", "fetch", "outside", "resolve_checked"]

_CHUNK = 64 * 1024


class FetchFailed(Exception):
    """We went there and it did not work. `reason` is a plain sentence; it never quotes what was answered."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Fetched:
    status: int
    headers: Mapping[str, str]  # names in small letters; repeated ones joined by ", "
    body: bytes
    url: str

    @property
    def media_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


def fetch(
    url: str,
    *,
    accept: str = "*/*",
    max_bytes: int = 1024 * 1024,
    timeout: float = 10.0,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    enough: Callable[[bytes], bool] | None = None,
) -> Fetched:
    """One exchange with `url`, whatever its status, but never a redirect.

    `accept` is sent, and a 2xx answer of another media type fails (unless it holds `*/*`). `timeout` (seconds) and
    `max_bytes` (after decompression) are for the whole exchange. `enough` may end the reading of a stream early.
    Raises FetchRefused before anything is sent, FetchFailed after.
    """
    destination = read_url(url, allowed=allowed_hosts(), https_only=https_only())
    deadline = time.monotonic() + timeout
    connected = _connect(destination, deadline)
    handle = connected.dup()  # TLS takes the descriptor away from the plain socket object
    too_late = threading.Event()

    def give_up() -> None:
        too_late.set()
        with contextlib.suppress(OSError):
            handle.shutdown(socket.SHUT_RDWR)

    # A timeout per read would let a server that drips bytes hold us for ever; this ends the exchange whatever it does.
    clock = threading.Timer(max(0.0, deadline - time.monotonic()), give_up)
    clock.daemon = True
    clock.start()
    try:
        fetched = _exchange(
            destination, connected, method, body, accept=accept, max_bytes=max_bytes, headers=headers, enough=enough
        )
        if too_late.is_set():  # a body that ends with the connection looks whole when we cut it
            raise TimeoutError
        return fetched
    except (OSError, http.client.HTTPException, zlib.error) as error:
        if too_late.is_set() or isinstance(error, TimeoutError):
            raise FetchFailed(f"{destination.host} took longer than {timeout:g} seconds.") from None
        if isinstance(error, ssl.SSLCertVerificationError):
            raise FetchFailed(f"{destination.host} has no valid certificate: {error.verify_message}.") from None
        raise FetchFailed(f"{destination.host} did not answer properly ({_kind(error)}).") from None
    finally:
        clock.cancel()
        handle.close()
        connected.close()


@contextmanager
def outside() -> Iterator[None]:
    """A place for somebody who waits for us, for as many exchanges as it takes. Raises FetchFailed without one."""
    with place_outside() as placed:
        if not placed:
            raise FetchFailed("Too many others are being asked at the moment. Try again.")
        yield


def resolve_checked(url: str, *, timeout: float = 5.0) -> list[str]:
    """The addresses of `url`'s host that may be reached, without connecting. Raises FetchRefused, FetchFailed."""
    destination = read_url(url, allowed=allowed_hosts(), https_only=https_only())
    return [address[0] for _, address in _allowed_addresses(destination, time.monotonic() + timeout)]


def _exchange(
    destination: Destination,
    connected: socket.socket,
    method: str,
    body: bytes | None,
    *,
    accept: str,
    max_bytes: int,
    headers: Mapping[str, str] | None,
    enough: Callable[[bytes], bool] | None,
) -> Fetched:
    if destination.scheme == "https":
        connected = _trusted().wrap_socket(connected, server_hostname=destination.host)
    connection = http.client.HTTPConnection(destination.host, destination.port)
    connection.sock = connected
    authority = destination.origin.partition("://")[2]
    sent = {"Host": authority, "Accept": accept, "Accept-Encoding": "identity", "User-Agent": "AgentAuth"}
    sent |= {"Connection": "close"} | dict(headers or {})
    try:
        connection.request(method, destination.target, body=body, headers=sent)
        answer = connection.getresponse()
        found = {name.lower(): ", ".join(answer.headers.get_all(name, [])) for name in answer.headers}
        if 300 <= answer.status < 400 and answer.status != 304:
            raise FetchFailed(
                f"{destination.host} sends elsewhere, to {_shown(found.get('location', 'nowhere'))}. "
                "Give that address instead, if you trust it."
            )
        if method != "HEAD" and _length(found) > max_bytes:
            raise FetchFailed(_too_big(destination, max_bytes))
        content = _read(answer, found, destination, max_bytes, enough)
    finally:
        connected.close()
    fetched = Fetched(answer.status, found, content, destination.url)
    if 200 <= answer.status < 300 and content and not _is_accepted(fetched.media_type, accept):
        raise FetchFailed(f"{destination.host} answered with {_shown(fetched.media_type or 'no type')}, not {accept}.")
    return fetched


def _read(
    answer: http.client.HTTPResponse,
    headers: Mapping[str, str],
    destination: Destination,
    max_bytes: int,
    enough: Callable[[bytes], bool] | None,
) -> bytes:
    """The body, unpacked if it came packed although we asked for none, never more than `max_bytes` of it."""
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip", "deflate", ""):
        raise FetchFailed(f"{destination.host} answered in an encoding that we did not ask for.")
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 32) if encoding not in ("identity", "") else None
    content = bytearray()
    while chunk := answer.read1(_CHUNK):
        content += unpack.decompress(chunk, max_bytes + 1 - len(content)) if unpack else chunk
        if len(content) > max_bytes:
            raise FetchFailed(_too_big(destination, max_bytes))
        if enough is not None and enough(bytes(content)):
            return bytes(content)
    if answer.length:
        raise http.client.IncompleteRead(b"", answer.length)
    return bytes(content)


def _connect(destination: Destination, deadline: float) -> socket.socket:
    """A connection to the first address of the host that is allowed and answers."""
    failure = "no address"
    for family, address in _allowed_addresses(destination, deadline):
        connected = socket.socket(family, socket.SOCK_STREAM)
        try:
            connected.settimeout(max(0.1, min(5.0, deadline - time.monotonic())))
            connected.connect(address)
        except OSError as error:
            connected.close()
            failure = _kind(error)
            continue
        connected.settimeout(max(0.1, deadline - time.monotonic()))
        return connected
    raise FetchFailed(f"{destination.host} cannot be reached ({failure}).")


def _allowed_addresses(destination: Destination, deadline: float) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
    """Those of the host's addresses that may be reached; FetchRefused when there are some but none may."""
    hosts, found, refusal = allowed_hosts(), [], None
    for family, address in _resolve(destination, deadline):
        try:
            check(destination.host, address[0], port=destination.port, allowed=hosts)
        except FetchRefused as refused:
            refusal = refused
            continue
        found.append((family, address))
    if not found and refusal is not None:
        raise refusal
    return found


def _resolve(destination: Destination, deadline: float) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
    """All addresses of the host. In a thread, because the system's resolver knows no deadline."""
    found: list[tuple[socket.AddressFamily, tuple[str, int]]] = []
    failed: list[OSError] = []

    def ask() -> None:
        try:
            rows = socket.getaddrinfo(destination.host, destination.port, type=socket.SOCK_STREAM)
            found.extend((row[0], (str(row[4][0]), destination.port)) for row in rows)
        except (OSError, UnicodeError) as error:
            failed.append(OSError(str(error)))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(max(0.0, deadline - time.monotonic()))
    if asking.is_alive():
        raise FetchFailed(f"The name {destination.host} took too long to resolve.")
    if failed or not found:
        raise FetchFailed(f"The name {destination.host} cannot be resolved.")
    return found


@cache
def _trusted() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _length(headers: Mapping[str, str]) -> int:
    value = headers.get("content-length", "")
    return int(value) if value.isascii() and value.isdigit() else 0


def _is_accepted(media_type: str, accept: str) -> bool:
    wanted = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    return any(one in ("*/*", media_type) or (one.endswith("/*") and media_type.startswith(one[:-1])) for one in wanted)


def _too_big(destination: Destination, max_bytes: int) -> str:
    size = f"{max_bytes // 1024} KB" if max_bytes >= 1024 else f"{max_bytes} bytes"
    return f"{destination.host} answered with more than {size}."


def _kind(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLError):
        return "TLS failed"
    if isinstance(error, ConnectionError):
        return "connection broken"
    return "broken answer" if isinstance(error, http.client.HTTPException | zlib.error) else "network error"


def _shown(text: str) -> str:
    """Somebody else's text, safe to print: visible ASCII, not too long."""
    return "".join(c if c.isprintable() and c.isascii() else "?" for c in text)[:200]
