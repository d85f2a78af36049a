"""Only from these networks: ["192.0.2.0/24", "2001:db8::/32"]. An IPv4 address inside IPv6 counts as itself."""

from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from agentauth.policy.conditions.rule import BadRule
from agentauth.policy.facts import CallFacts


def applies(rule: Any, call: CallFacts) -> bool:
    if not isinstance(rule, list) or not rule or not all(isinstance(network, str) for network in rule):
        raise BadRule(rule)
    networks = _networks(tuple(rule))
    try:
        address = ip_address(call.ip)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return any(address.version == network.version and address in network for network in networks)


@lru_cache(maxsize=1024)
def _networks(given: tuple[str, ...]) -> tuple[IPv4Network | IPv6Network, ...]:
    try:
        return tuple(ip_network(network, strict=False) for network in given)
    except ValueError:
        raise BadRule(given) from None
