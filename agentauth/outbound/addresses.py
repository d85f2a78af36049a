"""Which addresses may be reached: pure rules, no network, no Django.

A tenant names a URL, so whatever it resolves to is hostile. Allowed are public unicast addresses only; everything
that is private, local, special or wraps another address is refused, unless the operator allowed the host.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit


class FetchRefused(Exception):
    """We will not go there. `reason` is a plain sentence for whoever named the address."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Destination:
    """A URL that follows the rules; its host still has to resolve to an allowed address."""

    url: str
    scheme: str
    host: str  # small letters, no trailing dot, IPv6 without brackets
    port: int
    target: str  # path and query, as sent

    @property
    def origin(self) -> str:
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{shown}" + ("" if self.port == _PORTS[self.scheme] else f":{self.port}")


_PORTS = {"http": 80, "https": 443}
_LONGEST_URL = 2000
_FORBIDDEN_CHARACTER = re.compile(r"[^\x21-\x7e]|[\\<>\"^`{|}]")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\Z")

_CLOSED_V4 = [
    (ipaddress.IPv4Network(network), what)
    for network, what in (
        ("0.0.0.0/8", "this host"),
        ("10.0.0.0/8", "a private network"),
        ("100.64.0.0/10", "a carrier's or cloud's inner network"),
        ("127.0.0.0/8", "this machine"),
        ("168.63.129.16/32", "a cloud's own service"),  # Azure's wire server, on an address that looks public
        ("169.254.0.0/16", "link-local or a cloud's metadata"),
        ("172.16.0.0/12", "a private network"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "for documentation"),
        ("192.88.99.0/24", "a tunnel"),
        ("192.168.0.0/16", "a private network"),
        ("198.18.0.0/15", "for benchmarks"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
]
_OPEN_V6 = ipaddress.IPv6Network("2000::/3")  # global unicast; all else is special
_CLOSED_V6 = [
    (ipaddress.IPv6Network(network), what)
    for network, what in (
        ("::1/128", "this machine"),
        ("::/128", "this host"),
        ("::ffff:0:0/96", "an IPv4 address in disguise"),
        ("::/96", "an IPv4 address in disguise"),
        ("64:ff9b::/96", "an IPv4 address in disguise"),  # NAT64
        ("64:ff9b:1::/48", "an IPv4 address in disguise"),
        ("fc00::/7", "a private network"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "a private network"),
        ("ff00::/8", "multicast"),
        ("2001::/23", "a tunnel or reserved"),  # Teredo, benchmarks, ORCHID
        ("2001:db8::/32", "for documentation"),
        ("2002::/16", "a tunnel"),  # 6to4
        ("3fff::/20", "for documentation"),
    )
]


def read_url(url: str, *, allowed: Iterable[str] = (), https_only: bool = False) -> Destination:
    """The parts of `url`, or FetchRefused when it breaks a rule. Says nothing yet about where its name leads."""
    if len(url) > _LONGEST_URL:
        raise FetchRefused(f"The address is longer than {_LONGEST_URL} characters.")
    if _FORBIDDEN_CHARACTER.search(url):
        raise FetchRefused("The address has spaces or characters that do not belong into a URL.")
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme.lower(), (parts.hostname or "").lower(), parts.port
    except ValueError:
        raise FetchRefused("The address is not a proper URL.") from None
    if scheme not in _PORTS:
        raise FetchRefused("The address must begin with https:// or http://.")
    if parts.username is not None or parts.password is not None:
        raise FetchRefused("The address must not hold a user name or password.")
    if "#" in url:
        raise FetchRefused("The address must not have a fragment (#…).")
    host = _proper_host(host, bracketed="[" in parts.netloc)
    if parts.netloc.endswith(":"):
        raise FetchRefused("The address ends its host with a colon but names no port.")
    port = _PORTS[scheme] if port is None else port
    excepted = is_allowed(host, port, allowed)
    if not excepted:
        if port < 1024 and port not in _PORTS.values():
            raise FetchRefused(f"Port {port} is not a port for web services.")
        if https_only and scheme != "https":
            raise FetchRefused("The address must begin with https://.")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Destination(url, scheme, host, port, target)


def check(host: str, ip: str, *, port: int = 443, allowed: Iterable[str] = ()) -> None:
    """Refuse the address `ip` that `host` resolved to, unless it is public or the operator allowed this host."""
    if is_allowed(host, port, allowed):
        return
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        raise FetchRefused(f"{host} leads to something that is not an address.") from None
    what = _why_closed(address)
    if what:
        shown = ip if host == ip else f"{host} leads to {ip}, which"
        raise FetchRefused(f"{shown} is {what}. Only the operator can allow such a host.")


def is_allowed(host: str, port: int, allowed: Iterable[str]) -> bool:
    """Whether the operator's list names this host, or this host with this port."""
    shown = f"[{host}]" if ":" in host else host
    names = {host, shown, f"{shown}:{port}"}
    return any(entry.strip().lower().rstrip(".") in names for entry in allowed)


def _why_closed(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    if isinstance(address, ipaddress.IPv4Address):
        found = next((what for network, what in _CLOSED_V4 if address in network), "")
        return found or ("" if address.is_global else "reserved")
    found = next((what for network, what in _CLOSED_V6 if address in network), "")
    return found or ("" if address in _OPEN_V6 and address.is_global else "reserved")


def _proper_host(host: str, *, bracketed: bool) -> str:
    """The host in its one spelling. What some resolver would read as a number is refused, not guessed."""
    host = host.removesuffix(".")
    if not host:
        raise FetchRefused("The address names no host.")
    if bracketed:
        if "%" in host:
            raise FetchRefused("The address names a network interface (%…).")
        try:
            return str(ipaddress.IPv6Address(host))
        except ValueError:
            raise FetchRefused("The address has brackets but no IPv6 address in them.") from None
    labels = host.split(".")
    if labels[-1][:1].isdigit():  # no top-level domain begins with a digit
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise FetchRefused(f"{host} is not an IPv4 address of four plain numbers.") from None
    if len(host) > 253 or not all(_LABEL.match(label) for label in labels):
        raise FetchRefused("The host is not a proper name; write an international name in its xn-- form.")
    return host
