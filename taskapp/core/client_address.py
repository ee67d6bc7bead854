"""The address of a client, with trusted proxies, and the key by which limits count it."""

import ipaddress
import re
from collections.abc import Sequence
from typing import Literal

Network = ipaddress.IPv4Network | ipaddress.IPv6Network | Literal["unix"]
UNIX_SOCKET: Literal["unix"] = "unix"  # the peer of a Unix socket has no address
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # IPv4 clients of a network without it (RFC 6052)
# Some proxies write more than an address: a port (Azure's Application Gateway, IIS), brackets
# around IPv6 (RFC 3986), quotes (RFC 7239).
_HOP = re.compile(r'("?)(?:\[(?P<v6>[^\[\]"]+)\]|(?P<v4>[^:\[\]"]+))(?::\d{1,5})?\1', re.ASCII)


def is_in(address: str, networks: Sequence[Network]) -> bool:
    """Return whether an address, or "unix" for a Unix socket, is in one of the networks."""
    if address == UNIX_SOCKET:
        return UNIX_SOCKET in networks
    parsed = _parse(address)
    return parsed is not None and any(
        not isinstance(network, str) and parsed in network for network in networks
    )


def client_address(peer: str, forwarded_for: str, trusted: Sequence[Network]) -> str:
    """Return the address of the client behind the trusted proxies.

    Every proxy appends its peer's address to `X-Forwarded-For`. So the header is read from the end,
    for as long as the address before it is a trusted proxy's: the rest was written by the client
    and may be forged.
    """
    address = peer
    hops = [_read_hop(hop) for hop in forwarded_for.split(",")] if forwarded_for else []
    while hops and is_in(address, trusted):
        hop = hops.pop()
        if _parse(hop) is None:
            break
        address = hop
    return address


def _read_hop(hop: str) -> str:
    """Return an entry of `X-Forwarded-For` without port, brackets and quotes."""
    hop = hop.strip()
    match = _HOP.fullmatch(hop)
    return match["v6"] or match["v4"] if match else hop


def limit_key(address: str) -> str:
    """Return the key by which limits count an address: itself, or the /64 network of IPv6.

    A subscriber gets at least a /64 (RFC 6177), and can change addresses within it at will.
    """
    return _key(address, 64)


def site_key(address: str) -> str:
    """Return the key of the site that an address belongs to: itself, or the /48 network of IPv6.

    A site may have a whole /48 (RFC 6177), which is 65,536 networks to choose from.
    """
    return _key(address, 48)


def _key(address: str, prefix: int) -> str:
    parsed = _parse(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, prefix), strict=False))
    return str(parsed or address)


def _parse(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv4Address):
        return parsed
    if parsed in _NAT64:  # all of IPv4 is in one /64
        return ipaddress.IPv4Address(parsed.packed[-4:])
    # A dual-stack socket shows an IPv4 address as ::ffff:127.0.0.1.
    return parsed.ipv4_mapped or parsed
